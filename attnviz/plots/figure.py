"""The blank figure every view starts from: no toolbar, no frame, one unit as wide as it is high.

Text from the user's data is written by text glyphs only. They draw characters on the canvas; Bokeh's own tooltips are HTML and
its titles and labels read TeX, so neither may see a token.
"""

from textwrap import wrap

from bokeh.core.properties import value
from bokeh.models import (
    ColumnDataSource,
    GlyphRenderer,
    ImageRGBA,
    PanTool,
    Range1d,
    Text,
    WheelZoomTool,
)
from bokeh.plotting import figure

from attnviz.plots.theme import FONT, Theme

__all__ = ["add_image", "add_tip", "blank_figure", "place_tip"]

Bounds = tuple[float, float, float, float]
CHARACTER = 6.6  # pixels that one takes in a tooltip, on average


def blank_figure(name: str, bounds: Bounds, *, fill: str, move: bool = True) -> figure:
    """Return an empty figure that shows ``bounds`` (x0, x1, y0, y1) on ``fill``, and can be dragged and zoomed if ``move``."""
    x0, x1, y0, y1 = bounds
    plot = figure(
        name=name,
        x_range=Range1d(x0, x1),
        y_range=Range1d(y0, y1),
        tools=[],
        toolbar_location=None,
        sizing_mode="stretch_both",
        background_fill_color=fill,
        border_fill_color=fill,
        outline_line_color=None,
        min_border=0,
    )
    plot.grid.visible = False
    plot.axis.visible = False
    if move:
        wheel = WheelZoomTool(zoom_on_axis=False)
        plot.add_tools(PanTool(), wheel)
        plot.toolbar.active_scroll = wheel
    return plot


def add_image(plot: figure, name: str) -> GlyphRenderer:
    """Add an empty image layer; its source takes ``image, x, y, dw, dh``."""
    source = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []}, name=name)
    return plot.add_glyph(source, ImageRGBA(image="image", x="x", y="y", dw="dw", dh="dh"))


def add_tip(plot: figure, theme: Theme) -> ColumnDataSource:
    """Add a tooltip made of a text glyph; ``place_tip`` fills its source."""
    source = ColumnDataSource({"x": [], "y": [], "text": [], "anchor": [], "dx": [], "dy": []}, name="tip")
    glyph = Text(
        x="x",
        y="y",
        text="text",
        anchor="anchor",
        x_offset="dx",
        y_offset="dy",
        text_font=value(FONT),
        text_font_size="12px",
        text_line_height=1.35,
        text_color=theme.ink,
        background_fill_color=theme.raised,
        background_fill_alpha=0.97,
        border_line_color=theme.line,
        padding=9,
        border_radius=7,
    )
    plot.add_glyph(source, glyph, level="overlay")
    return source


def place_tip(
    lines: list[str], x: float, y: float, *, bounds: Bounds, width: int | None = None
) -> dict[str, list[object]]:
    """Return the data of a tooltip at a place, on the side where the window has room; lines break if its ``width`` is known.

    Parameters
    ----------
    bounds, width
        What the figure shows, ``(x0, x1, y0, y1)``, and how many pixels wide it is.
    """
    x0, x1, y0, y1 = bounds
    right, low = x > (x0 + x1) / 2, y < (y0 + y1) / 2
    if width:
        room = width * max(x - x0, x1 - x) / (x1 - x0) - 32  # but for the padding and the way to the point
        lines = [part for line in lines for part in wrap(line, max(12, int(room / CHARACTER)))]
    anchor = f"{'bottom' if low else 'top'}_{'right' if right else 'left'}"
    return {
        "x": [x],
        "y": [y],
        "text": ["\n".join(lines)],
        "anchor": [anchor],
        "dx": [-14 if right else 14],
        "dy": [-12 if low else 12],
    }
