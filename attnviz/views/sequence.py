"""One sequence under one head: who attends to whom, as the few numbers a picture can hold.

What is left out is always said: ``links`` returns how much weight it does not show.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnviz.types import Attention, FloatArray

__all__ = ["links", "patch_weights", "strongest_lines"]


def links(
    attention: Attention, position: int, *, kind: str = "query", threshold: float = 0.05
) -> tuple[pd.DataFrame, float]:
    """Return the partners of one token and the weight that is left out.

    Parameters
    ----------
    position
        Position of the token in its sequence.
    kind
        ``"query"``: the keys it attends to; ``"key"``: the queries that attend to it.
    threshold
        Partners with less weight are left out.

    Returns
    -------
    A frame with ``position``, ``text``, ``weight``, the largest weight first, and the sum of the weights left out.
    """
    weights = attention.weights[position] if kind == "query" else attention.weights[:, position]
    order = np.argsort(-weights, kind="stable")
    kept = order[weights[order] >= threshold]
    texts = [attention.tokens[i] for i in kept]
    frame = pd.DataFrame({"position": kept, "text": texts, "weight": weights[kept]})
    return frame, float(weights.sum() - weights[kept].sum())


def strongest_lines(attention: Attention, *, limit: int = 1500, threshold: float = 0.02) -> pd.DataFrame:
    """Return the strongest weights of a whole sequence: ``query``, ``key``, ``weight``, weakest first (drawn below)."""
    queries, keys = np.nonzero(attention.weights >= threshold)
    weights = attention.weights[queries, keys]
    kept = np.argsort(weights, kind="stable")[-limit:]
    return pd.DataFrame({"query": queries[kept], "key": keys[kept], "weight": weights[kept]})


def patch_weights(
    weights: FloatArray, rows: NDArray[np.int16], columns: NDArray[np.int16], *, grid: tuple[int, int]
) -> FloatArray:
    """Put one weight per token onto the patch grid, ``(rows, columns)``; tokens that are no patch are left out."""
    placed = np.zeros(grid, np.float32)
    patch = (rows >= 0) & (columns >= 0)
    placed[rows[patch], columns[patch]] = weights[patch]
    return placed
