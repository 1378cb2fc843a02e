"""Marks and lines of one head as the data of its figure."""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnviz.explorer import library
from attnviz.explorer.state import State
from attnviz.plots.head import MARKERS
from attnviz.plots.theme import hex_color
from attnviz.store import RunDirectory
from attnviz.types import KINDS, FloatArray
from attnviz.views import chosen_links
from attnviz.views.selection import SEQUENCES

__all__ = ["line_data", "lines_left", "mark_data", "norm_sizes", "selected_here"]

MOST_LINES = 1_500
Rows = NDArray[np.int64]


def mark_data(
    places: FloatArray, colors: FloatArray, kinds: Rows, *, size: float | FloatArray
) -> dict[str, NDArray[Any]]:
    """Return points as marks; a diamond needs a larger size to look as large as a circle.

    Parameters
    ----------
    kinds
        0 for a query and 1 for a key.
    """
    return {
        "size": np.where(kinds, 1.4, 1.0) * size,
        "x": places[:, 0],
        "y": places[:, 1],
        "color": np.array([hex_color(color) for color in colors], dtype="U7"),
        "marker": np.array(MARKERS)[kinds],
    }


def norm_sizes(norms: FloatArray, rows: Rows) -> FloatArray:
    """Return by which factor the marks of some points differ from the usual one: by area, their norm over the median of all."""
    sizes: FloatArray = np.sqrt(norms[rows] / max(float(np.nanmedian(norms)), 1e-12)).clip(0.4, 2.5)
    return sizes


def selected_here(state: State) -> Rows:
    """Return the selected points that the head has."""
    here: Rows = state.selected[library.present(state.directory)[state.layer][state.selected]]
    return here


def line_data(state: State, placed: FloatArray) -> dict[str, NDArray[Any]]:
    """Return the attention of the chosen point and of the selected ones as lines; the strongest, where there are too many."""
    rows = _with_lines(state)
    if not len(rows):
        return {name: np.empty(0) for name in ("x0", "y0", "x1", "y1", "width", "alpha")}
    frame = _found(state, rows).nlargest(MOST_LINES, "weight")
    here, there = (placed[frame[end].to_numpy(np.int64)] for end in ("row", "partner"))
    weight = frame["weight"].to_numpy(float)
    faint = float(np.clip((60 / max(len(frame), 1)) ** 0.5, 0.12, 1))  # thousands of lines must not hide their points
    return {
        "x0": here[:, 0],
        "y0": here[:, 1],
        "x1": there[:, 0],
        "y1": there[:, 1],
        "width": (1 + 5 * weight) * max(faint, 0.35),
        "alpha": np.clip(0.35 + weight, 0, 0.9) * faint,
    }


def lines_left(state: State) -> str:
    """Return which part of the lines of the selected points is drawn, in a sentence; an empty one, where all are."""
    rows = _with_lines(state)
    if not len(rows):
        return ""
    count = len(_found(state, rows))
    sequences = len(np.unique(state.directory.tokens["sequence_id"].to_numpy()[rows % state.directory.num_tokens]))
    strongest = f"the {MOST_LINES:,} strongest of {count:,}" if count > MOST_LINES else f"{count:,}"
    several = f", from the first {SEQUENCES} of {sequences:,} sequences" if sequences > SEQUENCES else ""
    return f"Lines: {strongest}{several}." if several or count > MOST_LINES else ""


def _with_lines(state: State) -> Rows:
    """Return the points whose lines are drawn: the selected ones and the chosen one."""
    run, token, kind = state.directory, state.token, state.kind_here
    rows = selected_here(state)
    if token is not None and kind is not None:
        rows = np.union1d(rows, token + KINDS.index(kind) * run.num_tokens)
    return rows if run.layers[state.layer].rebuilt else rows[:0]


def _found(state: State, rows: Rows) -> "pd.DataFrame":
    return _links(
        state.directory, state.layer, state.head, rows.astype(np.int64).tobytes(), state.top_k, state.threshold
    )


@lru_cache(maxsize=8)
def _links(run: RunDirectory, layer: int, head: int, rows: bytes, top_k: int, threshold: float) -> "pd.DataFrame":
    """Return the lines of some points; each sequence costs a read, and drawing and telling need the same."""
    return chosen_links(run, layer, head, np.frombuffer(rows, np.int64), top_k=top_k, threshold=threshold)[0]
