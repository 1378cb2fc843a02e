"""The figure of all heads: one raster over a grid of tiles, with axes that name layer and head at every zoom."""

from dataclasses import dataclass

import numpy as np
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, FixedTicker, GlyphRenderer, LinearAxis, Quad, Rect, Scatter, Text
from bokeh.plotting import figure

from attnviz.plots.figure import Bounds, add_image, add_tip, blank_figure
from attnviz.plots.theme import FONT, Theme
from attnviz.types import FloatArray
from attnviz.views import Wall

__all__ = ["WallFigure", "wall_figure"]

ROOM = 118  # pixels a tile must have before it carries its title
LITTLE_ROOM = 62  # where nothing else names it


@dataclass(frozen=True, slots=True)
class WallFigure:
    """The figure and what the explorer fills."""

    plot: figure
    home: Bounds
    image: GlyphRenderer
    titles: GlyphRenderer
    room: int  # pixels a tile must have before it carries its title
    bars: GlyphRenderer  # how faithful the map is to each head
    lit: ColumnDataSource  # the hovered or selected token in every head: x, y, color, marker
    frame: ColumnDataSource  # the tile under the pointer: x, y
    tip: ColumnDataSource


def wall_figure(
    wall: Wall, theme: Theme, *, numbers: FloatArray | None = None, faithful: FloatArray | None = None
) -> WallFigure:
    """Draw the empty wall.

    Parameters
    ----------
    numbers
        What the heads are ordered by, ``(tiles,)``: then each tile says its head and its number, and rows and columns mean nothing.
    faithful
        How faithful the map is to each head, 0 to 1, ``(tiles,)``: a thin bar.
    """
    home = (-0.04, wall.columns + 0.04, -wall.height - 0.04, 0.04)
    plot = blank_figure("wall", home, fill=theme.page)
    if numbers is None:
        _axes(plot, wall, theme)
    _tiles(plot, wall, theme)
    image = add_image(plot, "wall-image")
    titles = _titles(plot, wall, theme, numbers, faithful)
    bars = _bars(plot, wall, theme, faithful)
    frame = ColumnDataSource({"x": [], "y": []}, name="frame")
    outline = Rect(x="x", y="y", width=0.96, height=0.96, fill_color=None, line_color=theme.accent, line_width=1.5)
    outline.update(border_radius=5)
    plot.add_glyph(frame, outline)
    room = ROOM if numbers is None else LITTLE_ROOM
    return WallFigure(plot, home, image, titles, room, bars, _lit(plot, theme), frame, add_tip(plot, theme))


def _axes(plot: figure, wall: Wall, theme: Theme) -> None:
    rows = {tile.center[1]: tile.label for tile in wall.shown}
    columns = {tile.center[0]: f"{tile.head}" for tile in wall.shown}
    plot.add_layout(_axis("Layer", rows, theme, align="end"), "left")
    plot.add_layout(_axis("Head", columns, theme, align="start"), "above")


def _axis(title: str, labels: dict[float, str], theme: Theme, *, align: str) -> LinearAxis:
    return LinearAxis(
        ticker=FixedTicker(ticks=list(labels), minor_ticks=[]),
        major_label_overrides=labels,
        axis_label=title,
        axis_label_align=align,
        axis_label_text_font=FONT,
        axis_label_text_font_size="11px",
        axis_label_text_font_style="normal",
        axis_label_text_color=theme.faint,
        axis_label_standoff=4,
        major_label_text_font=FONT,
        major_label_text_font_size="11px",
        major_label_text_color=theme.muted,
        major_tick_line_color=None,
        axis_line_color=None,
    )


def _tiles(plot: figure, wall: Wall, theme: Theme) -> None:
    x, y = wall.centers.T
    card = Rect(x="x", y="y", width=0.96, height=0.96, fill_color=theme.surface, line_color=theme.line)
    card.update(border_radius=5)
    plot.add_glyph(ColumnDataSource({"x": x, "y": y}), card)


def _titles(
    plot: figure, wall: Wall, theme: Theme, numbers: FloatArray | None, faithful: FloatArray | None
) -> GlyphRenderer:
    """Say each tile's head, and the number it is ordered by or how faithful the map is to it."""
    x, y = wall.centers.T
    if numbers is None:
        texts = [f"{_short(tile.label)} · H{tile.head}" for tile in wall.tiles]
        if faithful is not None:
            texts = [f"{text}  {_figures(share)}" for text, share in zip(texts, faithful, strict=True)]
    else:
        texts = [f"{tile.label}.{tile.head}  {_figures(n)}" for tile, n in zip(wall.tiles, numbers, strict=True)]
    source = ColumnDataSource({"x": x - 0.46, "y": y + 0.46, "text": texts})
    glyph = Text(x="x", y="y", text="text", text_font=value(FONT), text_font_size="10px", text_color=theme.muted)
    glyph.update(text_baseline="top", x_offset=3, y_offset=4)
    glyph.update(background_fill_color=theme.surface, background_fill_alpha=0.75)
    return plot.add_glyph(source, glyph, visible=False)


def _bars(plot: figure, wall: Wall, theme: Theme, faithful: FloatArray | None) -> GlyphRenderer:
    x, y = wall.centers.T
    share = np.full(len(x), np.nan) if faithful is None else np.clip(faithful, 0, 1)
    ends = {"left": x - 0.45, "right": x - 0.45 + 0.9 * share, "full": x + 0.45, "bottom": y - 0.47, "top": y - 0.455}
    source = ColumnDataSource(ends, name="faithful")
    whole = Quad(left="left", right="full", bottom="bottom", top="top", fill_color=theme.line, line_color=None)
    if faithful is not None:
        plot.add_glyph(source, whole)
    part = Quad(left="left", right="right", bottom="bottom", top="top", fill_color=theme.other, line_color=None)
    return plot.add_glyph(source, part)


def _figures(number: float) -> str:
    return "–" if np.isnan(number) else f"{number:.2f}"


def _short(label: str) -> str:
    return f"L{label}" if label.isdigit() else label


def _lit(plot: figure, theme: Theme) -> ColumnDataSource:
    source = ColumnDataSource({"x": [], "y": [], "color": [], "marker": []}, name="lit")
    halo = Scatter(x="x", y="y", size=11, marker="marker", fill_color=theme.surface, line_color=None, fill_alpha=0.9)
    mark = Scatter(x="x", y="y", size=7, marker="marker", fill_color="color", line_color=theme.ink, line_width=1.2)
    plot.add_glyph(source, halo)
    plot.add_glyph(source, mark)
    return source
