"""Attention as a matrix: a row for each query, a column for each key, the stronger the darker (the lighter, in the dark).

A cell's number is shown by a tooltip of text; ``Matrix.cell`` tells which cell lies under the pointer. Colours run from the surface
to the theme's ink of weights by the square root, so that small weights are seen beside large ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, Rect, Scatter, Text
from bokeh.plotting import figure
from numpy.typing import NDArray

from attnviz.plots.figure import add_image, add_tip, blank_figure
from attnviz.plots.theme import FONT, Theme
from attnviz.types import FloatArray

__all__ = ["CELL", "Matrix", "cell_at", "matrix_figure", "matrix_pixels"]

CELL = 18  # pixels
MARGIN = 118  # pixels, for the labels


@dataclass(frozen=True, slots=True)
class Matrix:
    """The figure, in units of cells with the first query on top, and what the explorer fills."""

    plot: figure
    image: ColumnDataSource
    values: ColumnDataSource  # the weights that are painted: query, key, weight
    frame: ColumnDataSource  # around a cell: x, y
    tip: ColumnDataSource


def matrix_figure(
    weights: FloatArray,
    texts: tuple[Sequence[str], Sequence[str]],
    hidden: tuple[Sequence[bool], Sequence[bool]],
    theme: Theme,
    *,
    color: str,
    headings: tuple[str, str],
) -> Matrix:
    """Draw weights ``(queries, keys)`` with the texts of their rows and columns.

    Parameters
    ----------
    hidden
        Which rows and columns are hidden; their texts are faint.
    color
        Of a weight as large as the largest.
    """
    rows, columns = weights.shape
    room = MARGIN / CELL
    bounds = (-room, columns + 3.0, -rows - 0.5, room)
    plot = blank_figure("matrix", bounds, fill=theme.surface, move=False)
    width, height = (round(CELL * (high - low)) for low, high in (bounds[:2], bounds[2:]))
    plot.update(sizing_mode="fixed", width=width, height=height)
    image = add_image(plot, "matrix-image").data_source
    pixels = matrix_pixels(weights, theme.surface, color)
    image.data = {"image": [pixels], "x": [0], "y": [-rows], "dw": [columns], "dh": [rows]}
    query, key = np.indices(weights.shape).reshape(2, -1)
    values = ColumnDataSource({"query": query, "key": key, "weight": weights.ravel()}, name="matrix-values")
    plot.add_glyph(values, Scatter(x="key", y="query"), visible=False)  # so that the browser has the numbers too
    plot.add_glyph(
        ColumnDataSource({"x": [columns / 2], "y": [-rows / 2], "w": [columns], "h": [rows]}),
        Rect(x="x", y="y", width="w", height="h", fill_color=None, line_color=theme.line),
    )
    frame = ColumnDataSource({"x": [], "y": []}, name="matrix-frame")
    plot.add_glyph(frame, Rect(x="x", y="y", width=1, height=1, fill_color=None, line_color=theme.accent, line_width=2))
    inks = [[theme.faint if gone else theme.ink for gone in side] for side in hidden]
    _write(plot, np.full(rows, -0.35), -np.arange(rows) - 0.5, texts[0], inks[0], align="right")
    _write(plot, np.arange(columns) + 0.5, np.full(columns, 0.35), texts[1], inks[1], angle=np.pi / 3)
    _write(plot, np.array([-0.35]), np.array([0.7]), [headings[0]], [theme.query], align="right")
    _write(plot, np.array([columns + 0.3]), np.array([-0.5]), [headings[1]], [theme.key])
    return Matrix(plot, image, values, frame, add_tip(plot, theme))


def matrix_pixels(weights: FloatArray, low: str, high: str, *, most: float | None = None) -> NDArray[np.uint32]:
    """Return weights as pixels for Bokeh, the first query on top: from one colour at 0 to another at ``most``, or the largest."""
    share = np.sqrt(weights / max(float(weights.max(initial=0)) if most is None else most, 1e-12))[..., None]
    ends = [np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], np.float32) for color in (low, high)]
    pixels = np.full((*weights.shape, 4), 255, np.uint8)
    pixels[..., :3] = np.rint(ends[0] + share * (ends[1] - ends[0])).astype(np.uint8)
    turned = np.ascontiguousarray(pixels[::-1])
    return turned.view(np.uint32).reshape(weights.shape)


def cell_at(x: float, y: float, shape: tuple[int, int]) -> tuple[int, int] | None:
    """Return row and column of the cell at a place; a label gives -1 for the other one; None beside both."""
    row, column = max(int(np.floor(-y)), -1), max(int(np.floor(x)), -1)
    inside = row < shape[0] and column < shape[1] and (row, column) != (-1, -1)
    return (row, column) if inside else None


def _write(
    plot: figure,
    x: FloatArray,
    y: FloatArray,
    texts: Sequence[str],
    colors: Sequence[str],
    *,
    align: str = "left",
    angle: float = 0.0,
) -> None:
    glyph = Text(x="x", y="y", text="text", text_align=align, text_baseline="middle", text_color="color", angle=angle)
    glyph.update(text_font=value(FONT), text_font_size="11.5px")
    plot.add_glyph(ColumnDataSource({"x": x, "y": y, "text": list(texts), "color": list(colors)}), glyph)
