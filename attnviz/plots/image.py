"""The figures of the image view: one picture with a heat or with arrows on it, and many pictures side by side.

The large picture is as many units wide and high as it has patches, its upper left corner at (0, 0). Tokens that are no patch are
squares to its left: they have a heat of their own, and arrows begin and end at them as at patches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.core.properties import value
from bokeh.models import Arrow, Circle, ColorBar, ColumnDataSource, GlyphRenderer, NormalHead, Rect, Segment, Text
from bokeh.plotting import figure
from numpy.typing import NDArray

from attnviz.plots.figure import Bounds, add_image, add_tip, blank_figure
from attnviz.plots.picture import add_frame, heat_colors, heat_pixels
from attnviz.plots.theme import FONT, Theme, hex_color
from attnviz.plots.weight_bar import weight_bar
from attnviz.types import KINDS, FloatArray
from attnviz.views.image_flows import Flows, ImageAttention

__all__ = [
    "CELL",
    "MOST_MARKS",
    "GridFigure",
    "ImageFigure",
    "arrow_data",
    "cell_boxes",
    "columns_for",
    "grid_figure",
    "image_figure",
    "mark_boxes",
    "mark_data",
    "ring_data",
    "spots",
]

MOST_MARKS = 14
CELL = (1.0, 1.2)  # width and height of a picture's place in the grid, its name below it
INSIDE = 0.92  # of a cell's width: the picture
BESIDE = 0.34  # of the picture's longer side: the room for marks
GAP = 0.04
NOTHING: FloatArray = np.empty((0, 4), np.float32)


@dataclass(frozen=True, slots=True)
class ImageFigure:
    """One picture, and what the explorer fills."""

    plot: figure
    home: Bounds
    picture: GlyphRenderer  # image, x, y, dw, dh
    heat: GlyphRenderer  # image, x, y, dw, dh
    lattice: GlyphRenderer  # the lines between patches
    marks: ColumnDataSource  # x, y, side, left, color, text
    arrows: ColumnDataSource  # x0, y0, x1, y1, width, halo, alpha; query, key, weight
    rings: ColumnDataSource  # x, y, radius, width, halo, alpha; query, key, weight
    frame: ColumnDataSource  # around the chosen token: x, y, width, height
    lit: ColumnDataSource  # around the one under the pointer
    tip: ColumnDataSource
    bar: ColorBar


@dataclass(frozen=True, slots=True)
class GridFigure:
    """Many pictures, and what the explorer fills."""

    plot: figure
    home: Bounds
    pictures: GlyphRenderer
    heats: GlyphRenderer
    names: ColumnDataSource  # x, y, text
    frame: ColumnDataSource
    tip: ColumnDataSource
    bar: ColorBar


def image_figure(size: tuple[int, int], marks: int, theme: Theme, *, color: str) -> ImageFigure:
    """Draw an empty picture of ``size`` patches (rows, columns) with room for some marks; ``color`` is that of the arrows."""
    rows, columns = size
    room = max(rows, columns)
    home = (-(BESIDE if marks else GAP) * room, columns + GAP * room, -rows - GAP * room, GAP * room)
    plot = blank_figure("image", home, fill=theme.surface)
    picture, heat = add_image(plot, "image-picture"), add_image(plot, "image-heat")
    beside = _add_marks(plot, theme)
    lattice = _add_lattice(plot, size, theme)
    rings, arrows = _add_rings(plot, theme, color), _add_arrows(plot, theme, color)
    frame = add_frame(plot, theme)
    lit = ColumnDataSource({"x": [], "y": [], "width": [], "height": []}, name="image-lit")
    shape = {"x": "x", "y": "y", "width": "width", "height": "height", "fill_color": None}
    plot.add_glyph(lit, Rect(**shape, line_color=theme.surface, line_width=3.5))
    plot.add_glyph(lit, Rect(**shape, line_color=theme.ink, line_width=1.5))
    bar = weight_bar(heat_colors(), theme)
    plot.add_layout(bar, "right")
    return ImageFigure(plot, home, picture, heat, lattice, beside, arrows, rings, frame, lit, add_tip(plot, theme), bar)


def mark_boxes(count: int, size: tuple[int, int]) -> FloatArray:
    """Return where so many marks lie beside a picture of ``size`` patches: x, y, width, height of each."""
    if not count:
        return NOTHING
    rows, columns = size
    room = max(rows, columns)
    pitch = min(0.13 * room, rows / count)
    side = 0.6 * pitch
    y = -(np.arange(count) + 0.5) * pitch
    boxes: FloatArray = np.stack([np.full(count, -GAP * room - side / 2), y, *[np.full(count, side)] * 2], 1)
    return boxes.astype(np.float32)


def mark_data(
    boxes: FloatArray, names: Sequence[str], heat: FloatArray | None, theme: Theme, *, top: float, opacity: float
) -> dict[str, object]:
    """Return the marks; with a heat they have its colours and say it, a number that is not finite is no partner."""
    few = len(names) <= MOST_MARKS // 2
    colors, texts = [theme.page] * len(names), list(names)
    if heat is not None:
        known = np.isfinite(heat)
        covered = heat_pixels(np.where(known, heat, 0)[None], top)[0].astype(np.float32)
        share = covered[:, 3:] / 255 * opacity
        ground = np.array([int(theme.page[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
        blend = (covered[:, :3] * share + ground * (1 - share)) / 255
        colors = [hex_color(rgb) for rgb in blend]
        said = [f"{weight * 100:.1f} %" if there else "" for weight, there in zip(heat, known, strict=True)]
        texts = ["\n".join(filter(None, pair)) if few else pair[0] for pair in zip(names, said, strict=True)]
    x, y, side, _ = boxes.T
    return {"x": x, "y": y, "side": side, "left": x - 0.75 * side, "color": colors, "text": texts}


def spots(image: ImageAttention, marks: NDArray[np.int64], size: tuple[int, int]) -> Mapping[str, FloatArray]:
    """Return by kind where each query and key lies: x, y, width, height, ``(tokens, 4)``; NaN of one that is not drawn."""
    boxes, placed = mark_boxes(len(marks), size), {}
    for kind in KINDS:
        found = np.full((len(image.places[kind]), 4), np.nan, np.float32)
        grid = image.grid(kind)
        if grid is not None:
            patches = image.patches(kind)
            high, wide = size[0] / grid[0], size[1] / grid[1]
            row, column = image.places[kind][patches].T.astype(np.float32)
            sides = [np.full(len(row), side) for side in (wide, high)]
            found[patches] = np.stack([(column + 0.5) * wide, -(row + 0.5) * high, *sides], axis=1)
        tokens = image.exchange.tokens(kind)
        for token, box in zip(marks.tolist(), boxes, strict=True):
            found[tokens == token] = box
        placed[kind] = found
    return placed


def arrow_data(
    flows: Flows, placed: Mapping[str, FloatArray], *, faint: NDArray[np.bool_] | None = None
) -> dict[str, object]:
    """Return the arrows of flows between tokens that are drawn, from query to key; ``faint`` ones recede."""
    start, end = placed["query"][flows.query], placed["key"][flows.key]
    away = ~flows.own & np.isfinite(start[:, 0]) & np.isfinite(end[:, 0])
    start, end = start[away], end[away]
    along = end[:, :2] - start[:, :2]
    length = np.maximum(np.hypot(*along.T), 1e-6)[:, None]
    along = along / length
    sides = [spot[:, 2:].min(axis=1)[:, None] for spot in (start, end)]
    # Two tokens that look at each other have two arrows: each keeps to its right, and away from the middle of the patch.
    aside = along[:, ::-1] * np.array([1, -1], np.float32) * 0.08 * np.minimum(*sides)
    first = start[:, :2] + aside + along * np.minimum(0.16 * sides[0], 0.3 * length)
    last = end[:, :2] + aside - along * np.minimum(0.24 * sides[1], 0.3 * length)
    lines = _strokes(flows, away, faint)
    return {"x0": first[:, 0], "y0": first[:, 1], "x1": last[:, 0], "y1": last[:, 1], **lines}


def ring_data(
    flows: Flows, placed: Mapping[str, FloatArray], *, faint: NDArray[np.bool_] | None = None
) -> dict[str, object]:
    """Return rings for tokens that attend to themselves."""
    spot = placed["query"][flows.query]
    own = flows.own & np.isfinite(spot[:, 0])
    x, y, wide, high = spot[own].T
    return {"x": x, "y": y, "radius": 0.3 * np.minimum(wide, high), **_strokes(flows, own, faint)}


def grid_figure(theme: Theme) -> GridFigure:
    """Draw an empty grid of pictures."""
    home = (0.0, 6.0, -4 * CELL[1], 0.0)
    plot = blank_figure("image-grid", home, fill=theme.surface)
    pictures, heats = add_image(plot, "grid-pictures"), add_image(plot, "grid-heats")
    frame = add_frame(plot, theme)
    names = ColumnDataSource({"x": [], "y": [], "text": []}, name="grid-names")
    text = Text(x="x", y="y", text="text", text_align="center", text_baseline="top", y_offset=3, text_color=theme.muted)
    text.update(text_font=value(FONT), text_font_size="11px")
    plot.add_glyph(names, text)
    bar = weight_bar(heat_colors(), theme)
    plot.add_layout(bar, "right")
    return GridFigure(plot, home, pictures, heats, names, frame, add_tip(plot, theme), bar)


def columns_for(count: int, width: float, height: float) -> int:
    """Return in how many columns so many pictures are largest on a canvas of some pixels."""
    columns = np.arange(1, max(count, 1) + 1)
    rows = -(-max(count, 1) // columns)
    return int(columns[np.argmax(np.minimum(width / (columns * CELL[0]), height / (rows * CELL[1])))])


def cell_boxes(sizes: Sequence[tuple[int, int]], columns: int) -> FloatArray:
    """Return where pictures of some rows and columns of patches lie in the grid: x, y of the lower left corner, width, height."""
    if not sizes:
        return NOTHING
    number = np.arange(len(sizes))
    rows, wide = np.array(sizes, np.float32).T
    unit = INSIDE / np.maximum(rows, wide)
    x = number % columns * CELL[0] + (CELL[0] - wide * unit) / 2
    y = -(number // columns) * CELL[1] - 0.02 - (INSIDE + rows * unit) / 2
    return np.stack([x, y, wide * unit, rows * unit], axis=1).astype(np.float32)


def _strokes(flows: Flows, kept: NDArray[np.bool_], faint: NDArray[np.bool_] | None) -> dict[str, object]:
    """Return width and opacity of lines, which grow with the weight, and the numbers behind them."""
    weight = flows.weight[kept]
    recede = np.where(np.zeros(len(weight), bool) if faint is None else faint[kept], 0.22, 1.0)
    thin = float(np.clip(12 / max(len(weight), 1) ** 0.5, 0.6, 1.6))  # many lines must leave the picture visible
    width, alpha = thin + 5 * weight, np.clip(0.4 + 0.6 * weight**0.5, 0, 1) * recede
    numbers = {"query": flows.query[kept], "key": flows.key[kept], "weight": weight}
    return {
        "width": width,
        "halo": width + thin + 0.4,
        "alpha": alpha,
        "shade": 0.75 * alpha,
        "head": 5 + 1.6 * width,
        **numbers,
    }


def _add_lattice(plot: figure, size: tuple[int, int], theme: Theme) -> GlyphRenderer:
    rows, columns = size
    across, down = np.arange(1, columns), -np.arange(1, rows)
    lines = {
        "x0": np.append(across, np.zeros(rows - 1)),
        "x1": np.append(across, np.full(rows - 1, columns)),
        "y0": np.append(np.zeros(columns - 1), down),
        "y1": np.append(np.full(columns - 1, -rows), down),
    }
    glyph = Segment(x0="x0", y0="y0", x1="x1", y1="y1", line_color=theme.surface, line_alpha=0.35, line_width=0.7)
    return plot.add_glyph(ColumnDataSource(lines, name="image-lattice"), glyph)


def _add_marks(plot: figure, theme: Theme) -> ColumnDataSource:
    source = ColumnDataSource({name: [] for name in ("x", "y", "side", "left", "color", "text")}, name="image-marks")
    box = Rect(x="x", y="y", width="side", height="side", fill_color="color", line_color=theme.faint, line_width=1)
    plot.add_glyph(source, box)
    text = Text(x="left", y="y", text="text", text_align="right", text_baseline="middle", text_color=theme.ink)
    text.update(text_font=value(FONT), text_font_size="12px", text_line_height=1.3)
    plot.add_glyph(source, text)
    return source


def _add_arrows(plot: figure, theme: Theme, color: str) -> ColumnDataSource:
    names = ("x0", "y0", "x1", "y1", "width", "halo", "alpha", "shade", "head", "query", "key", "weight")
    source = ColumnDataSource({name: [] for name in names}, name="image-arrows")
    plot.add_glyph(
        source,
        Segment(x0="x0", y0="y0", x1="x1", y1="y1", line_color=theme.surface, line_width="halo", line_alpha="shade"),
    )
    head = NormalHead(size="head", fill_color=color, fill_alpha="alpha", line_color=theme.surface, line_alpha="shade")
    arrow = Arrow(x_start="x0", y_start="y0", x_end="x1", y_end="y1", source=source, end=head, name="image-arrow")
    arrow.update(line_color=color, line_width="width", line_alpha="alpha", level="glyph")
    plot.add_layout(arrow)
    return source


def _add_rings(plot: figure, theme: Theme, color: str) -> ColumnDataSource:
    names = ("x", "y", "radius", "width", "halo", "alpha", "shade", "head", "query", "key", "weight")
    source = ColumnDataSource({name: [] for name in names}, name="image-rings")
    ring = {"x": "x", "y": "y", "radius": "radius", "fill_color": None}
    plot.add_glyph(source, Circle(**ring, line_color=theme.surface, line_width="halo", line_alpha="shade"))
    plot.add_glyph(source, Circle(**ring, line_color=color, line_width="width", line_alpha="alpha"))
    return source
