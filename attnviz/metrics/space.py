"""Points as some sampled ones see them: which are nearest, and the exact rank of any other.

Receives points of a joint space or of a map, gives neighbours and ranks, with one meaning of "as near": ``apart``. Ranks among
many points are counted, not sorted for: fifteen counts over 20,000 distances take 45 µs, sorting them 340 µs (one core,
2026-11-21). Few distances are sorted faster than fifteen calls are made.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import require
from attnviz.normalize import unit
from attnviz.types import FloatArray

__all__ = [
    "NEIGHBORS",
    "Points",
    "Space",
    "apart",
    "candidates",
    "kth_largest",
    "nearest",
    "nearest_others",
    "sample",
]

NEIGHBORS = 15  # how many nearest points are compared, here and per point
_TREE_DIMS = 3  # up to which a tree finds neighbours faster than distances to all points do
_ROWS = 50  # of distances at once, in float64
_NARROW = 1_000  # distances of a row, up to which sorting them is faster than fifteen counts, on any processor
_BLOCKS = 32  # how often a row is folded before its largest values are looked for

Points = NDArray[np.int64]
"""Numbers of points."""


class Space:
    """Points, and the distances to them from a sample of them.

    Parameters
    ----------
    points
        ``(points, dims)``, finite.
    sampled
        Numbers of the points that look.
    """

    def __init__(self, points: FloatArray, sampled: Points) -> None:
        self._points = points
        self._sampled = sampled
        self.k = min(NEIGHBORS, (len(points) - 1) // 2)
        """How many neighbours are compared: fewer where fifteen would be more than half of the others."""
        self.shape = len(sampled), len(points)

    @cached_property
    def near(self) -> Points:
        """The ``k`` points nearest to each sampled one, itself left out, ``(sampled, k)``, in no order."""
        if self._points.shape[1] <= _TREE_DIMS:
            return nearest_others(self._points, self._sampled, self.k)
        near = np.empty((len(self._sampled), self.k), np.int64)
        for start in range(0, len(near), _ROWS):
            rows = self._distances[start : start + _ROWS]
            limits = -kth_largest(-rows, self.k + 1)
            for number, (row, limit) in enumerate(zip(rows, limits, strict=True), start):
                found = _smallest(row, limit, self.k + 1)
                near[number] = found[found != self._sampled[number]]
        return near

    def ranks(self, wanted: Points) -> Points:
        """Return the rank (from 1) of each point of ``wanted`` ``(sampled, n)`` by its distance; equal ones share the best."""
        values = np.take_along_axis(self._distances, wanted, axis=1)
        count = _count_sorted if self.shape[1] <= _NARROW else _count_smaller
        counts = [count(row, of_row) for row, of_row in zip(self._distances, values, strict=True)]
        return np.array(counts, np.int64).reshape(wanted.shape)

    @cached_property
    def _distances(self) -> FloatArray:
        """Squared distances as ``apart`` gives them, ``(sampled, points)``; −1 to the point itself, so that its rank is 0."""
        cdist = require("scipy.spatial.distance", "maps").cdist
        points = unit(self._points)[0].astype(np.float64)
        distances = np.empty((len(self._sampled), len(points)), np.float32)
        for start in range(0, len(distances), _ROWS):
            rows = slice(start, start + _ROWS)
            distances[rows] = cdist(points[self._sampled[rows]], points, "sqeuclidean")
        distances[np.arange(len(distances)), self._sampled] = -1
        return distances


def apart(turned: NDArray[np.float64], points: Points, others: Points) -> FloatArray:
    """Return the squared distances of pairs of points, ``(pairs,)``; ``turned`` is ``(dims, points)``.

    Added up in float64 in the order of the coordinates and rounded once, as scipy's ``cdist`` adds them: a pair has the same bits
    wherever it is looked at and on any processor, and two pairs are equally far apart if theirs are the same.
    """
    total = np.zeros(len(points))
    for along in turned:
        total += np.square(along[points] - along[others])
    return total.astype(np.float32)


def sample(total: int, most: int, seed: int) -> Points:
    """Return ``most`` of the numbers below ``total``, or all of them, in order."""
    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))


def nearest(placed: FloatArray, origins: FloatArray, k: int) -> Points:
    """Return the ``k`` points of ``placed`` nearest to each origin, nearest first, ``(origins, k)``."""
    tree = require("scipy.spatial", "maps").cKDTree(placed)
    _, found = tree.query(origins, k=[*range(1, k + 1)])  # a list, because k=1 would drop the axis
    indices: Points = found.astype(np.int64)
    return indices


def nearest_others(points: FloatArray, rows: Points, k: int) -> Points:
    """Return the ``k`` points nearest to each of ``rows``, itself left out, ``(rows, k)``."""
    found = nearest(points, points[rows], k + 1)
    own = found == rows[:, None]
    own[~own.any(axis=1), -1] = True  # more coincident points than were asked for: drop any one
    others: Points = found[~own].reshape(len(rows), k)
    return others


def kth_largest(rows: FloatArray, k: int) -> FloatArray:
    """Return the ``k``-th largest value of each row, ``(rows,)``.

    A row is folded to the maxima of columns far apart; its k largest values lie in the k columns with the largest maxima. That
    takes 4.3 ms for 500 × 10,000, and a partition 28 (one core, 2026-11-21).
    """
    width = rows.shape[1] // _BLOCKS
    if width < 4 * k:
        return np.partition(rows, rows.shape[1] - k, axis=1)[:, rows.shape[1] - k]
    folded = rows[:, : _BLOCKS * width].reshape(len(rows), _BLOCKS, width)
    columns = np.argpartition(folded.max(axis=1), width - k, axis=1)[:, width - k :]
    candidates = folded[np.arange(len(rows))[:, None], :, columns].reshape(len(rows), -1)
    rest = rows[:, _BLOCKS * width :]
    found = np.concatenate([candidates, rest], axis=1)
    largest: FloatArray = np.partition(found, found.shape[1] - k, axis=1)[:, found.shape[1] - k]
    return largest


def candidates(rows: FloatArray, k: int, margins: NDArray[np.float64]) -> tuple[Points, Points]:
    """Return where values are that may be among the ``k`` largest of their row if each may be off by half the row's margin.

    Two arrays, numbers of rows (ascending) and of columns; all columns where there are no more than ``k``.
    """
    k, width = min(k, rows.shape[1]), rows.shape[1] // _BLOCKS
    if width < 4 * k:
        row, column = np.nonzero(rows >= _limits(rows, k, margins))
        return row, column
    cut = _BLOCKS * width
    folded, rest = rows[:, :cut].reshape(len(rows), _BLOCKS, width), rows[:, cut:]
    largest = folded.max(axis=1)
    limits = _limits(largest, k, margins)
    row, column = np.nonzero(largest >= limits)
    hit, block = np.nonzero(folded[row, :, column] >= limits[row])
    of_rest = np.nonzero(rest >= limits)
    found = np.concatenate([row[hit], of_rest[0]])
    columns = np.concatenate([block * width + column[hit], of_rest[1] + cut])
    order = np.argsort(found, kind="stable")
    return found[order], columns[order]


def _count_smaller(row: FloatArray, values: FloatArray) -> list[int]:
    """Return how many of a row are smaller than each value."""
    return [int(np.count_nonzero(row < value)) for value in values]


def _count_sorted(row: FloatArray, values: FloatArray) -> Points:
    """Return what ``_count_smaller`` does."""
    smaller: Points = np.sort(row).searchsorted(values)
    return smaller


def _limits(rows: FloatArray, k: int, margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``k``-th largest value of each row less the row's margin, ``(rows, 1)``."""
    place = rows.shape[1] - k
    limits: NDArray[np.float64] = (np.partition(rows, place, axis=1)[:, place].astype(np.float64) - margins)[:, None]
    return limits


def _smallest(row: FloatArray, limit: np.float32, count: int) -> Points:
    """Return where the ``count`` smallest values of a row are, ``limit`` being the largest of them."""
    found = np.flatnonzero(row <= limit)
    return found if len(found) == count else found[np.argsort(row[found], kind="stable")[:count]]
