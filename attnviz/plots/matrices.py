"""Small matrices side by side, one for each head, on one scale of colours, so that heads compare. Their cells have no texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, Rect, Text
from bokeh.plotting import figure
from numpy.typing import NDArray

from attnviz.plots.figure import add_image, add_tip, blank_figure
from attnviz.plots.matrix import matrix_pixels
from attnviz.plots.theme import FONT, Theme
from attnviz.types import FloatArray

__all__ = ["MOST", "Matrices", "matrices_figure"]

MOST = 16  # heads
WIDTH = 860  # pixels of a row
GAP = 0.1  # between neighbours, of a matrix's side
TITLE = 0.16  # above each


@dataclass(frozen=True, slots=True)
class Matrices:
    """The figure, in units of a matrix's side, and what the explorer fills."""

    plot: figure
    image: ColumnDataSource
    frame: ColumnDataSource  # around a cell of every head: x, y
    tip: ColumnDataSource
    corners: FloatArray  # (heads, 2), the upper left ones
    shape: tuple[int, int]  # queries and keys

    def cell_at(self, x: float, y: float) -> tuple[int, int, int] | None:
        """Return number of the head, row and column at a place; None beside them."""
        across, down = (np.array([x, -y]) - self.corners * [1, -1]).T
        found = np.flatnonzero((across >= 0) & (across < 1) & (down >= 0) & (down < 1))
        if not len(found):
            return None
        number = int(found[0])
        return number, int(down[number] * self.shape[0]), int(across[number] * self.shape[1])

    def frames(self, row: int, column: int) -> dict[str, NDArray[np.float64]]:
        """Return the data of the frames of a cell in every head."""
        middle = (column + 0.5) / self.shape[1], -(row + 0.5) / self.shape[0]
        return dict(zip("xy", (self.corners + np.array(middle)).astype(np.float64).T, strict=True))


def matrices_figure(weights: FloatArray, names: Sequence[str], theme: Theme, *, colors: Sequence[str]) -> Matrices:
    """Draw ``(heads, queries, keys)`` weights, each head in its colour under its name."""
    count, (rows, columns) = len(weights), weights.shape[1:]
    across = 2 if count <= 4 else 3 if count <= 9 else 4
    row, column = np.divmod(np.arange(count), across)
    corners = np.stack([column * (1 + GAP), -row * (1 + GAP + TITLE) - TITLE], axis=1).astype(np.float32)
    bounds = (-GAP / 2, across * (1 + GAP) - GAP / 2, float(corners[:, 1].min()) - 1 - GAP / 2, GAP / 2)
    plot = blank_figure("matrices", bounds, fill=theme.surface, move=False)
    unit = WIDTH / (bounds[1] - bounds[0])
    share = (bounds[1] - bounds[0]) / (bounds[3] - bounds[2])
    plot.update(
        sizing_mode="scale_width", width=WIDTH, height=round(WIDTH / share), aspect_ratio=share, max_width=WIDTH
    )
    image = add_image(plot, "matrices-image").data_source
    most = float(weights.max(initial=0))
    pixels = [matrix_pixels(own, theme.surface, color, most=most) for own, color in zip(weights, colors, strict=True)]
    ends = {"x": corners[:, 0], "y": corners[:, 1] - 1, "dw": np.ones(count), "dh": np.ones(count)}
    image.data = {"image": pixels, **ends}
    _outline(plot, corners, names, theme)
    frame = ColumnDataSource({"x": [], "y": []}, name="matrices-frame")
    size = {"width": max(1 / columns, 6 / unit), "height": max(1 / rows, 6 / unit)}
    plot.add_glyph(frame, Rect(x="x", y="y", fill_color=None, line_color=theme.ink, line_width=1.5, **size))
    return Matrices(plot, image, frame, add_tip(plot, theme), corners, (rows, columns))


def _outline(plot: figure, corners: FloatArray, names: Sequence[str], theme: Theme) -> None:
    x, y = corners.T
    outline = ColumnDataSource({"x": x + 0.5, "y": y - 0.5})
    plot.add_glyph(outline, Rect(x="x", y="y", width=1, height=1, fill_color=None, line_color=theme.line))
    title = Text(x="x", y="y", text="text", text_font=value(FONT), text_font_size="11.5px", text_color=theme.muted)
    title.update(text_baseline="bottom", y_offset=-3)
    plot.add_glyph(ColumnDataSource({"x": x, "y": y, "text": list(names)}, name="matrices-titles"), title)
