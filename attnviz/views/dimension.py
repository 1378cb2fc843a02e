"""Colour points by one dimension of their vectors: the way from a neuron back to the map."""

from collections.abc import Sequence

import numpy as np

from attnviz.attention import rotated
from attnviz.store import RunDirectory
from attnviz.types import FloatArray

__all__ = ["DIMENSION", "dimension_limit", "dimension_title", "dimension_values"]

DIMENSION = "dimension:"
"""Before the number of a dimension, in the name of its colouring."""


def dimension_title(run: RunDirectory, name: str) -> str | None:
    """Return the title of a colouring ``dimension:<d>``; None if it is none, or no head of the run has so many dimensions."""
    number = name.removeprefix(DIMENSION)
    most = max(info.head_dim for info in run.layers.values())
    known = name.startswith(DIMENSION) and number.isascii() and number.isdigit() and len(number) < 6
    return f"Dimension {int(number)}" if known and int(number) < most else None


def dimension_values(run: RunDirectory, name: str, heads: Sequence[tuple[int, int]]) -> FloatArray:
    """Return one dimension of all queries, then of all keys, ``(heads, points)``, with the RoPE that stored vectors lack.

    NaN where a head has no such point, or not so many dimensions.
    """
    number = int(name.removeprefix(DIMENSION))
    return np.stack([_values(run, layer, head, number) for layer, head in heads])


def dimension_limit(values: FloatArray) -> float:
    """Return the end of a scale around 0 that one value in a hundred may exceed."""
    known = np.abs(values[np.isfinite(values)])
    return float(np.quantile(known, 0.99)) if len(known) else 1.0


def _values(run: RunDirectory, layer: int, head: int, number: int) -> FloatArray:
    info, points = run.layers[layer].of_head(head), run.points(layer)
    if number >= info.head_dim:
        return np.full(2 * run.num_tokens, np.nan, np.float32)
    vectors, positions = run.vectors(layer, head), run.tokens["position"].to_numpy(np.int64)
    sides = ((vectors.query, points.query), (vectors.key, points.key))
    own = [rotated(side, positions[tokens], info)[:, number] for side, tokens in sides]
    return points.scatter(np.concatenate(own)[:, None], run.num_tokens)[:, 0]
