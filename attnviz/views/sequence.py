"""One sequence under one head: who attends to whom, as the few numbers a picture can hold.

The queries of a sequence and its keys need not be the same tokens: a decoder's queries attend to an encoder's keys. ``Exchange``
says which tokens the rows and columns of the weights are. What is left out is always said: ``links`` returns how much weight it
does not show, and ``Exchange.sink`` how much a query gives to no key at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnviz.store import Points, RunDirectory
from attnviz.types import Attention, FloatArray

__all__ = [
    "PARTNER",
    "Exchange",
    "has_point",
    "links",
    "patch_grids",
    "patch_weights",
    "present_points",
    "read_exchange",
    "strongest_lines",
]

PARTNER: Mapping[str, str] = {"query": "key", "key": "query"}
"""The kind that each kind of point attends to, or is attended to by."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The attention of one head over one sequence, and which tokens of the run its queries and keys are."""

    attention: Attention
    points: Points

    def tokens(self, kind: str) -> NDArray[np.int32]:
        """Return the tokens that have a query, or a key: rows of the run's ``tokens``."""
        return self.points.query if kind == "query" else self.points.key

    def place(self, token: int, kind: str) -> int | None:
        """Return which row (of a query) or column (of a key) of the weights a token has, or None."""
        tokens = self.tokens(kind)
        place = int(np.searchsorted(tokens, token))
        return place if place < len(tokens) and tokens[place] == token else None

    def row_of(self, token: int, kind: str) -> int:
        """Return ``place`` of a token that must have one. Raises ``KeyError`` if it has none."""
        if (place := self.place(token, kind)) is None:
            raise KeyError(f"Token {token} has no {kind} here.")
        return place

    def weights(self, place: int, kind: str) -> FloatArray:
        """Return what a query gives to each key, or what a key gets from each query."""
        return self.attention.weights[place] if kind == "query" else self.attention.weights[:, place]

    def sink(self, place: int, kind: str) -> float:
        """Return the share that a query gives to no key, because its layer has a sink; 0 for a key."""
        return max(0.0, 1 - float(self.attention.weights[place].sum())) if kind == "query" else 0.0


def read_exchange(run: RunDirectory, layer: int, head: int, sequence: int) -> Exchange:
    """Return the attention of one head over one sequence. Raises ``DatasetError`` if it cannot be rebuilt."""
    rows = run.token_slice(sequence)
    return Exchange(run.attention(layer, head, sequence), run.points(layer).within(rows.start, rows.stop))


def has_point(run: RunDirectory, layer: int, token: int, kind: str) -> bool:
    """Tell whether a token has a query, or a key, in a layer."""
    tokens = dict(run.points(layer).by_kind())[kind]
    place = int(np.searchsorted(tokens, token))
    return bool(place < len(tokens) and tokens[place] == token)


def present_points(run: RunDirectory) -> dict[int, NDArray[np.bool_]]:
    """Return for each layer which points it has, ``(points,)``: queries, then keys. Layers of the same streams share theirs."""
    known: dict[int, NDArray[np.bool_]] = {}
    present = {}
    for layer in run.layers:
        points = run.points(layer)
        if id(points) not in known:
            known[id(points)] = np.zeros(2 * run.num_tokens, bool)
            known[id(points)][np.concatenate([points.query, points.key + run.num_tokens])] = True
        present[layer] = known[id(points)]
    return present


def links(
    attention: Attention, position: int, *, kind: str = "query", threshold: float = 0.05
) -> tuple[pd.DataFrame, float]:
    """Return the partners of one token and the weight that is left out.

    Parameters
    ----------
    position
        Row (of a query) or column (of a key) of the token.
    kind
        ``"query"``: the keys it attends to; ``"key"``: the queries that attend to it.
    threshold
        Partners with less weight are left out.

    Returns
    -------
    A frame with ``position`` (column or row of the partner), ``text``, ``weight``, the largest weight first, and the sum of the
    weights left out.
    """
    weights = attention.weights[position] if kind == "query" else attention.weights[:, position]
    names = attention.key_tokens if kind == "query" else attention.tokens
    order = np.argsort(-weights, kind="stable")
    kept = order[weights[order] >= threshold]
    frame = pd.DataFrame({"position": kept, "text": [names[i] for i in kept], "weight": weights[kept]})
    return frame, float(weights.sum() - weights[kept].sum())


def strongest_lines(weights: FloatArray, *, limit: int = 1500, threshold: float = 0.02) -> pd.DataFrame:
    """Return the strongest of a sequence's weights: ``query``, ``key``, ``weight``, weakest first (drawn below)."""
    queries, keys = np.nonzero(weights >= threshold)
    found = weights[queries, keys]
    kept = np.argsort(found, kind="stable")[-limit:]
    return pd.DataFrame({"query": queries[kept], "key": keys[kept], "weight": found[kept]})


def patch_grids(run: RunDirectory) -> NDArray[np.int16]:
    """Return for each token how many rows and columns of patches its stream has in its sequence, ``(tokens, 2)``.

    A stage has a grid of its own, and a model that keeps proportions one for each image; 0 where there are no patches.
    """
    columns = ["patch_row", "patch_col"]
    last = run.tokens.groupby(["sequence_id", "stream"], observed=True)[columns].transform("max")
    grids: NDArray[np.int16] = (last.fillna(-1).to_numpy(np.int16) + 1).astype(np.int16)
    return grids


def patch_weights(
    weights: FloatArray, rows: NDArray[np.int16], columns: NDArray[np.int16], *, grid: tuple[int, int]
) -> FloatArray:
    """Put one weight per token onto the patch grid, ``(rows, columns)``; tokens that are no patch are left out."""
    placed = np.zeros(grid, np.float32)
    patch = (rows >= 0) & (columns >= 0)
    placed[rows[patch], columns[patch]] = weights[patch]
    return placed
