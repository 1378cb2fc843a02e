"""Marks and lines of one head as the data of its figure."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnviz.explorer import library
from attnviz.explorer.state import State
from attnviz.plots.head import MARKERS
from attnviz.plots.theme import hex_color
from attnviz.types import KINDS, FloatArray
from attnviz.views import chosen_links

__all__ = ["line_data", "mark_data", "norm_sizes", "selected_here"]

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
    run, token, kind = state.directory, state.token, state.kind_here
    rows = selected_here(state)
    if token is not None and kind is not None:
        rows = np.union1d(rows, token + KINDS.index(kind) * run.num_tokens)
    if not len(rows) or not run.layers[state.layer].rebuilt:
        return {name: np.empty(0) for name in ("x0", "y0", "x1", "y1", "width", "alpha")}
    frame, _ = chosen_links(run, state.layer, state.head, rows, top_k=state.top_k, threshold=state.threshold)
    frame = frame.nlargest(MOST_LINES, "weight")
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
