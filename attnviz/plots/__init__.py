"""Plots: from the arrays of ``attnviz.views`` to pictures, without state.

A raster is an array of RGBA pixels; a figure is a Bokeh figure with named data sources that the explorer fills. Plain Bokeh
and not HoloViews: a wall is one image glyph, one text glyph and a handful of marks whose sources change many times a
second, and a HoloViews plot would rebuild and diff all of them for each change.
"""

__all__: list[str] = []
