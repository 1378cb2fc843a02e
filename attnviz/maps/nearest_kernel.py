"""The compiled loops of the search for neighbours: every pair of points once, for both of them.

Receives points in the order of ``blocks.arrange``, padded to whole panels; changes the best lists in place. Each function runs on
the calling thread, without the GIL, and gives the same bytes whatever runs beside it. Compiled at the first call, then kept by
numba: beside this file, or in the user's cache folder where that cannot be written. numba looks at the date of this file alone:
whoever changes ``tiles`` or ``BLOCK`` touches it. Imports numba: import it inside functions only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from attnviz.maps.blocks import BLOCK
from attnviz.maps.tiles import ROWS, WIDTH, lowest_bit, tile

__all__ = ["covariance", "finish", "nearest_to", "rotated", "search_both", "search_left"]

_compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(nogil=True, cache=True)


@_compiled
def _insert(best: Any, who: Any, row: int, place: int, value: Any, index: Any) -> None:
    """Put a candidate into a row's list, which is sorted by (value, index) before ``place``, at ``place`` or before it."""
    while place > 0:
        before = best[row, place - 1]
        if before < value or (before == value and who[row, place - 1] < index):
            break
        best[row, place] = before
        who[row, place] = who[row, place - 1]
        place -= 1
    best[row, place] = value
    who[row, place] = index


@_compiled
def _offer(best: Any, who: Any, limits: Any, row: int, value: Any, index: Any) -> None:
    """Put a candidate into a row's list, which is sorted by (value, index), if it is better than the last."""
    last = best.shape[1] - 1
    if value < limits[row] or (value == limits[row] and index < who[row, last]):
        _insert(best, who, row, last, value, index)
        limits[row] = best[row, last]


@_compiled
def _pair(
    left: Any, right: Any, norms: Any, limits: Any, order: Any, best: Any, who: Any, a: int, b: int, work: Any
) -> None:
    """Compare the points of block ``a`` with those of block ``b``, each pair once, for both."""
    total = len(norms)
    squares, hits = work
    for panel in range(b * BLOCK // WIDTH, min((b + 1) * BLOCK, total) // WIDTH):
        for row in range(a * BLOCK, min((a + 1) * BLOCK, total), ROWS):
            if not tile(left, norms, limits, right, norms, limits, row, panel, squares, hits):
                continue
            for r in range(ROWS):
                bits = hits[r]
                while bits:
                    column = lowest_bit(bits)
                    bits &= bits - np.uint64(1)
                    i, j = row + r, panel * WIDTH + column
                    if a != b or i < j:
                        _offer(best, who, limits, i, squares[r, column], order[j])
                        _offer(best, who, limits, j, squares[r, column], order[i])


@_compiled
def search_both(
    left: Any,
    right: Any,
    norms: Any,
    limits: Any,
    order: Any,
    best: Any,
    who: Any,
    plan: Any,
    seen: Any,
    first: int,
    last: int,
) -> None:
    """Compare each block with those of its ``plan`` from ``first`` up to ``last`` that were not ``seen``, and mark them."""
    work = (np.empty((ROWS, WIDTH), np.float32), np.empty(ROWS, np.uint64))
    for step in range(first, last):
        for a in range(len(plan)):
            b = plan[a, step]
            if not seen[a, b]:
                seen[a, b] = seen[b, a] = True
                _pair(left, right, norms, limits, order, best, who, a, b, work)


@_compiled
def search_left(
    left: Any, right: Any, offsets: Any, limits: Any, order: Any, best: Any, who: Any, plan: Any, first: int, last: int
) -> None:
    """Compare each block of the left with those of the right that its ``plan`` names from ``first`` up to ``last``."""
    squares, hits = np.empty((ROWS, WIDTH), np.float32), np.empty(ROWS, np.uint64)
    none, nothing = np.full(len(offsets), np.float32(-np.inf)), np.zeros(len(left), np.float32)
    for a in range(len(plan)):
        for step in range(first, last):
            b = plan[a, step]
            for panel in range(b * BLOCK // WIDTH, min((b + 1) * BLOCK, len(offsets)) // WIDTH):
                for row in range(a * BLOCK, min((a + 1) * BLOCK, len(left)), ROWS):
                    if not tile(left, nothing, limits, right, offsets, none, row, panel, squares, hits):
                        continue
                    for r in range(ROWS):
                        bits = hits[r]
                        while bits:
                            column = lowest_bit(bits)
                            bits &= bits - np.uint64(1)
                            _offer(best, who, limits, row + r, squares[r, column], order[panel * WIDTH + column])


@_compiled
def _distance(points: Any, i: int, j: int) -> Any:
    """Return the distance of two points by differences: exactly 0 for coincident ones."""
    square = np.float32(0)
    for d in range(points.shape[1]):
        apart = points[i, d] - points[j, d]
        square += apart * apart
    return np.sqrt(square)


@_compiled
def finish(rows: Any, points: Any, found: Any, distances: Any) -> None:
    """Measure again what was found of the points ``rows``; sort ``found`` and ``distances`` by (distance, index)."""
    for i in range(len(found)):
        for k in range(found.shape[1]):
            index = found[i, k]
            _insert(distances, found, i, k, _distance(points, rows[i], index), index)


@_compiled
def nearest_to(
    rows: Any,
    points: Any,
    left: Any,
    left_norms: Any,
    reach: Any,
    right: Any,
    norms: Any,
    order: Any,
    best: Any,
    who: Any,
) -> None:
    """Find the points nearest to ``rows`` by differences, among those that ``tile`` puts within ``reach``."""
    squares, hits = np.empty((ROWS, WIDTH), np.float32), np.empty(ROWS, np.uint64)
    none, limits = np.full(len(norms), np.float32(-np.inf)), best[:, -1].copy()
    for panel in range(len(right)):
        for row in range(0, len(left), ROWS):
            if not tile(left, left_norms, reach, right, norms, none, row, panel, squares, hits):
                continue
            for r in range(row, min(row + ROWS, len(rows))):
                bits = hits[r - row]
                while bits:
                    index = order[panel * WIDTH + lowest_bit(bits)]
                    bits &= bits - np.uint64(1)
                    if index != rows[r]:
                        _offer(best, who, limits, r, _distance(points, rows[r], index), index)


@_compiled
def covariance(points: Any) -> Any:
    """Return the sums of products of the coordinates less their means, ``(dims, dims)`` float64."""
    dims = points.shape[1]
    sums, mean = np.zeros((dims, dims)), np.zeros(dims)
    for i in range(len(points)):
        mean += points[i]
    mean /= max(len(points), 1)
    for i in range(len(points)):
        centred = points[i] - mean
        for d in range(dims):
            sums[d] += centred[d] * centred
    return sums


@_compiled
def rotated(points: Any, directions: Any) -> Any:
    """Return ``points @ directions`` in float32, each sum in the order of the coordinates."""
    turned = np.zeros(points.shape, np.float32)
    for i in range(len(points)):
        for d in range(points.shape[1]):
            value = points[i, d]
            for e in range(points.shape[1]):
                turned[i, e] += value * directions[d, e]
    return turned
