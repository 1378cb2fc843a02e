"""The figure of one head: a raster from afar, real marks and words from near, attention as lines between them.

Queries are circles and keys are diamonds, so that they differ under every colouring and without colour.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bokeh.core.properties import value
from bokeh.models import (
    BoxSelectTool,
    ColumnDataSource,
    GlyphRenderer,
    LassoSelectTool,
    PanTool,
    Scatter,
    Segment,
    Text,
)
from bokeh.plotting import figure

from attnviz.plots.figure import Bounds, add_image, add_tip, blank_figure
from attnviz.plots.theme import FONT, Theme

__all__ = ["MARKERS", "HeadFigure", "head_figure"]

MARKERS = ("circle", "diamond")
HOME: Bounds = (-0.5, 0.5, -0.5, 0.5)


@dataclass(frozen=True, slots=True)
class HeadFigure:
    """The figure and what the explorer fills."""

    plot: figure
    home: Bounds
    image: GlyphRenderer
    dots: GlyphRenderer  # x, y, color, marker, size
    patches: GlyphRenderer  # image, x, y, dw, dh
    lines: ColumnDataSource  # x0, y0, x1, y1, width, alpha
    sequence: GlyphRenderer  # x, y, color, marker, size
    lit: ColumnDataSource  # x, y, color, marker, size: what the pointer is on
    labels: ColumnDataSource  # x, y, text
    tip: ColumnDataSource
    drags: Mapping[str, PanTool | BoxSelectTool | LassoSelectTool]  # what a drag can do: "move", "box", "lasso"


def head_figure(theme: Theme) -> HeadFigure:
    """Draw the empty head."""
    plot = blank_figure("head", HOME, fill=theme.surface)
    image = add_image(plot, "head-image")
    dots = plot.add_glyph(_source("dots", "x y color marker size"), _mark(line_color=theme.surface, line_width=0.6))
    patches = add_image(plot, "patches")
    lines = _source("lines", "x0 y0 x1 y1 width alpha")
    segment = Segment(x0="x0", y0="y0", x1="x1", y1="y1", line_color=theme.ink, line_width="width", line_alpha="alpha")
    plot.add_glyph(lines, segment)
    sequence = plot.add_glyph(_source("sequence", "x y color marker size"), _mark(line_color=theme.ink, line_width=1.1))
    labels = _labels(plot, theme)
    lit = _source("lit", "x y color marker size")
    plot.add_glyph(lit, _mark(line_color=theme.ink, line_width=2))
    drags = _drags(plot, theme)
    return HeadFigure(plot, HOME, image, dots, patches, lines, sequence, lit, labels, add_tip(plot, theme), drags)


def _drags(plot: figure, theme: Theme) -> dict[str, PanTool | BoxSelectTool | LassoSelectTool]:
    """Add the tools that outline points; they select no glyph, because a raster has none: who listens decides what is inside."""
    tools = {"box": BoxSelectTool(renderers=[]), "lasso": LassoSelectTool(renderers=[], continuous=False)}
    for tool in tools.values():
        tool.overlay.update(
            fill_color=theme.accent, fill_alpha=0.12, line_color=theme.accent, line_alpha=1, line_width=1.5
        )
    plot.add_tools(*tools.values())
    move = plot.select_one(PanTool)
    plot.toolbar.active_drag = move
    return {"move": move, **tools}


def _source(name: str, columns: str) -> ColumnDataSource:
    return ColumnDataSource({column: [] for column in columns.split()}, name=name)


def _mark(*, line_color: str, line_width: float) -> Scatter:
    return Scatter(
        x="x", y="y", size="size", marker="marker", fill_color="color", line_color=line_color, line_width=line_width
    )


def _labels(plot: figure, theme: Theme) -> ColumnDataSource:
    source = _source("labels", "x y text")
    glyph = Text(
        x="x", y="y", text="text", text_font=value(FONT), text_font_size="11px", text_color=theme.ink, x_offset=6
    )
    glyph.update(text_baseline="middle", background_fill_color=theme.surface, background_fill_alpha=0.62)
    plot.add_glyph(source, glyph)
    return source
