"""The sentence view's matrices: one with texts of a head, or of the sum or mean of several; or a small one for each of them."""

from collections.abc import Sequence

import numpy as np
from bokeh.plotting import figure

from attnviz.explorer.sequence_reading import Pair, Shown
from attnviz.explorer.state import State
from attnviz.plots.figure import place_tip
from attnviz.plots.matrices import MOST, Matrices, matrices_figure
from attnviz.plots.matrix import Matrix, cell_at, matrix_figure
from attnviz.plots.theme import THEMES
from attnviz.types import FloatArray
from attnviz.views import join_heads

__all__ = ["MatrixPart", "how_joined"]


class MatrixPart:
    """What is drawn of some weights, the cell under a place, and the frame and words for it."""

    def __init__(self, state: State, shown: Shown, headings: tuple[str, str], colors: Sequence[str]) -> None:
        self.state, self.shown = state, shown
        theme = THEMES[state.theme]
        several = len(shown.heads) > 1
        self.weights: FloatArray = shown.weights
        self.figure: Matrix | Matrices
        if several and state.sentence_join == "each":
            names = [f"Head {head}" for head in shown.heads[:MOST]]
            self.figure = matrices_figure(shown.weights[:MOST], names, theme, colors=colors[:MOST])
            return
        self.weights = join_heads(shown.weights, "mean" if state.sentence_join == "each" else state.sentence_join)
        flat = self.weights[0] if len(self.weights) else np.zeros(tuple(map(len, shown.texts)), np.float32)
        color = theme.accent if several or not colors else colors[0]
        self.figure = matrix_figure(flat, shown.texts, shown.hidden, theme, color=color, headings=headings)

    @property
    def plot(self) -> figure:
        """The figure."""
        return self.figure.plot

    def place(self, x: float, y: float) -> tuple[Pair, int | None] | None:
        """Return row and column under a place, and the number of the small matrix among the heads that are shown."""
        if isinstance(self.figure, Matrices):
            found = self.figure.cell_at(x, y)
            return None if found is None else (found[1:], found[0])
        cell = cell_at(x, y, (self.shown.count("query"), self.shown.count("key")))
        if cell is None:
            return None
        row, column = (end if end >= 0 else None for end in cell)
        return (row, column), None

    def frame(self, row: int, column: int, number: int | None, lines: Sequence[str]) -> None:
        """Frame a cell and write what is known of it beside it."""
        shown, made = self.shown, self.figure
        if number is None and isinstance(made, Matrices):
            raise ValueError("It is not said which of the small matrices is meant.")
        matrix = 0 if number is None else number  # without small ones there is one matrix
        weight = float(self.weights[matrix, row, column])
        what = "weight" if number is not None else how_joined(self.state, shown)
        pair = f"{shown.texts[0][row]} → {shown.texts[1][column]}"
        title = [f"Head {shown.heads[number]}"] if number is not None else []
        if isinstance(made, Matrices):
            made.frame.data = made.frames(row, column)
            x, y = (float(made.frame.data[axis][matrix]) for axis in "xy")
        else:
            x, y = column + 0.5, -row - 0.5
            made.frame.data = {"x": [x], "y": [y]}
        plot = self.plot
        bounds = (plot.x_range.start, plot.x_range.end, plot.y_range.start, plot.y_range.end)
        made.tip.data = place_tip([*title, pair, f"{what}: {weight * 100:.2f} %", *lines], x, y, bounds=bounds)

    def clear(self) -> None:
        """Take frame and words away."""
        for source in (self.figure.tip, self.figure.frame):
            source.data = {name: [] for name in source.data}


def how_joined(state: State, shown: Shown) -> str:
    """Return what a matrix of all heads that are shown is, in words."""
    if len(shown.heads) < 2:
        return "weight"
    return f"{'sum' if state.sentence_join == 'sum' else 'mean'} of {len(shown.heads)} heads"
