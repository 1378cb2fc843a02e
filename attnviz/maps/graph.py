"""Graphs that maps are laid out from: which points want to be near, and how much.

Receives neighbours and their distances, gives symmetric weights from 0 to 1. ``fuzzy`` is UMAP's (McInnes, Healy and Melville,
2018, §3.1): each point's nearest is at 0, and the bandwidth is such that its weights add up to log2 of their number.
``perplexity`` is t-SNE's. Both are compiled, because 20,000 points × 14 neighbours took umap-learn's own 0.1 s and its threads.
"""

from typing import Any

import numba
import numpy as np
from scipy.sparse import csr_array

from attnviz.types import FloatArray, Neighbors

__all__ = ["edges", "fuzzy", "memberships", "perplexity_weights", "union"]

_ROUNDS = 64  # of halving an interval
_LEAST = 1e-3  # of the mean distance: the narrowest bandwidth, so that coincident points do not crowd out the others


def fuzzy(neighbors: Neighbors) -> csr_array:
    """Return UMAP's graph of the points, ``(points, points)``, symmetric."""
    return union(edges(neighbors.indices, memberships(neighbors.distances), points=len(neighbors.indices)))


def memberships(distances: FloatArray) -> FloatArray:
    """Return how much each point belongs to each neighbour, ``(points, k)``, of distances that ascend in each row."""
    if distances.shape[1] == 0:
        return distances
    target = np.log2(distances.shape[1] + 1)
    weights: FloatArray = _memberships(distances, target, float(distances.mean(dtype=np.float64)))
    return weights


def perplexity_weights(distances: FloatArray, perplexity: float) -> FloatArray:
    """Return t-SNE's weights, ``(points, k)``: Gaussian, of one perplexity in each row, adding up to 1 there."""
    unit = float(distances.mean(dtype=np.float64)) or 1.0
    weights: FloatArray = _perplexity(distances / np.float32(unit), np.log(perplexity))
    return weights


def edges(indices: Any, weights: FloatArray, *, points: int) -> csr_array:
    """Return rows of neighbours as a matrix, ``(points, points)``; ``indices`` and ``weights`` are ``(points, k)``."""
    k = indices.shape[1]
    indptr = np.arange(0, points * k + 1, k, dtype=np.int32) if k else np.zeros(points + 1, np.int32)
    return csr_array((weights.ravel(), indices.astype(np.int32).ravel(), indptr), (points, points))


def union(directed: csr_array) -> csr_array:
    """Return the fuzzy union of a graph with itself turned round: ``w + w' - w w'``."""
    turned = directed.T.tocsr()
    both = csr_array(directed + turned - directed.multiply(turned))
    both.eliminate_zeros()
    return both


@numba.njit(nogil=True, cache=True)
def _memberships(distances: Any, target: Any, mean: Any) -> Any:
    points, k = distances.shape
    weights = np.empty((points, k), np.float32)
    for i in range(points):
        row = distances[i]
        nearest = 0.0
        for j in range(k):  # the nearest that is not in the same place, as UMAP has it
            if row[j] > 0:
                nearest = row[j]
                break
        low, high, width = 0.0, np.inf, max(mean, 1e-38)
        for _ in range(_ROUNDS):
            total = 0.0
            for j in range(k):
                total += np.exp(-max(row[j] - nearest, 0.0) / width)
            if abs(total - target) < 1e-5:
                break
            if total > target:
                high = width
                width = (low + high) / 2
            else:
                low = width
                width = width * 2 if high == np.inf else (low + high) / 2
        width = max(width, _LEAST * max(row.mean(), 1e-38))
        for j in range(k):
            weights[i, j] = np.exp(-max(row[j] - nearest, 0.0) / width)
    return weights


@numba.njit(nogil=True, cache=True)
def _perplexity(distances: Any, entropy: Any) -> Any:
    points, k = distances.shape
    weights = np.empty((points, k), np.float32)
    row = np.empty(k)
    for i in range(points):
        low, high, precision = 0.0, np.inf, 1.0
        nearest = distances[i, 0] ** 2
        for _ in range(_ROUNDS):
            total, weighted = 0.0, 0.0
            for j in range(k):
                excess = distances[i, j] ** 2 - nearest
                row[j] = np.exp(-excess * precision)
                total += row[j]
                weighted += row[j] * excess
            difference = np.log(total) + precision * weighted / total - entropy
            if abs(difference) < 1e-5:
                break
            if difference > 0:
                low = precision
                precision = precision * 2 if high == np.inf else (low + high) / 2
            else:
                high = precision
                precision = (low + high) / 2
        for j in range(k):
            weights[i, j] = row[j] / total
    return weights
