"""Nearest neighbours and strongest keys of one head, on one thread: what every map, graph and score starts from.

Receives points, gives ``Neighbors``; receives queries and keys, gives ``Strongest``. Every pair is compared once, for both of its
points, as |x|² + |y|² - 2xy in registers (``nearest_kernel.tile``); a few more are found than asked for and measured again by
differences, and rows in which rounding may still have mattered are searched again. So the answer is exact whatever the points,
far from the origin and among near-coincident ones too, where faiss's IndexFlatL2 is wrong (distances by 1e-3 in trained heads).
Above ``EXACT_POINTS``, blocks near each other are compared, ever more of them until a sample has 0.99 of its neighbours.

Measured 2026-11-21 on MiniLM heads, 32 dims, on one of two cores that others used as well: 20,000 points, 15 neighbours 0.29–0.38 s
(0.28–0.32 s of processor), IndexFlatL2 0.64–0.91 s beside it. 10 of
10,000 keys for 10,000 queries: 0.13–0.23 s, IndexFlatIP 0.15–0.16 s. Copies of two heads with noise of half a standard
deviation: 80,000 points 1.0–1.8 s at recall 0.994–0.997; 320,000 points 24–34 s at 0.991–0.995; 10 of 80,000 keys for 80,000
queries 0.6–2.1 s at 0.994–0.999.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import MapError, require
from attnviz.maps.blocks import BLOCK, arrange, centres
from attnviz.normalize import unit
from attnviz.types import FloatArray, Neighbors

__all__ = ["EXACT_POINTS", "Strongest", "neighbors", "strongest"]

EXACT_POINTS = 60_000
"""Up to so many points (or keys) the search is exact; the seconds it takes grow with the square of their number."""

_RECALL = 0.99  # of the sample, below which a search of more points goes on
_SAMPLED = 400  # points whose true neighbours are found to measure recall
_SLACK = 4  # found beyond k, so that rounding seldom leaves a row in doubt
_FAR = np.float32(1e30)  # beyond every squared distance of points scaled to 1; padding is farther


@dataclass(frozen=True, slots=True)
class Strongest:
    """The keys with the largest inner products with each query, largest first, equal products by index."""

    indices: NDArray[np.int32]  # (queries, k)
    products: FloatArray  # (queries, k), q·k
    recall: float = 1.0  # share of the true ones found, measured on a sample; 1.0: exact


def neighbors(points: FloatArray, k: int) -> Neighbors:
    """Return the ``k`` points nearest to each point, nearest first, equal distances by index, the point itself left out.

    Parameters
    ----------
    points
        ``(points, dims)``, finite. Coincident points are neighbours of each other, at distance 0.
    k
        How many; one less than there are points where that is fewer. 0 gives arrays without columns.

    Raises
    ------
    MapError
        If ``k`` is negative, or if the points are not a finite matrix.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    if points.ndim != 2 or k < 0 or not np.isfinite(points).all():
        raise MapError(
            f"Neighbours were asked for with k = {k} of points {points.shape}; k is 0 or more, points are a finite matrix "
            "(points, dims). Leave out the head whose vectors hold NaN or infinity."
        )
    total = len(points)
    k = min(k, max(total - 1, 0))
    if k == 0:
        return Neighbors(np.empty((total, 0), np.int32), np.empty((total, 0), np.float32))
    require("numba", "maps")
    scaled, power = unit(points)
    search = _Near(scaled, k)
    recall = _run(search, exact=total <= EXACT_POINTS)
    found, distances = search.result(certain=recall == 1.0)
    return Neighbors(found, distances * power, recall)


def strongest(query: FloatArray, key: FloatArray, k: int) -> Strongest:
    """Return the ``k`` keys with the largest q·k for each query, largest first, equal products by index.

    Parameters
    ----------
    query, key
        ``(queries, dims)`` and ``(keys, dims)``, finite.
    k
        How many; as many as there are keys where that is fewer. 0 gives arrays without columns.

    Raises
    ------
    MapError
        If ``k`` is negative, or if queries and keys are not finite matrices of the same dimensions.
    """
    query, key = (np.ascontiguousarray(vectors, dtype=np.float32) for vectors in (query, key))
    matrices = query.ndim == key.ndim == 2 and query.shape[1] == key.shape[1]
    if not matrices or k < 0 or not (np.isfinite(query).all() and np.isfinite(key).all()):
        raise MapError(
            f"Strongest keys were asked for with k = {k} of queries {query.shape} and keys {key.shape}; k is 0 or more, both are "
            "finite matrices (tokens, dims) of the same dims. Leave out the head whose vectors hold NaN or infinity."
        )
    k = min(k, len(key))
    if k == 0 or len(query) == 0:
        return Strongest(np.empty((len(query), k), np.int32), np.empty((len(query), k), np.float32))
    require("numba", "maps")
    (query, power), (key, key_power) = unit(query), unit(key)
    search = _Strong(query, key, k)
    recall = _run(search, exact=len(key) <= EXACT_POINTS)
    found, products = search.result()
    return Strongest(found, products * power * key_power, recall)


def _run(search: "_Near | _Strong", *, exact: bool) -> float:
    """Compare each block with all others, or with ever more until the recall of a sample is high enough; return the recall."""
    blocks = search.plan.shape[1]
    done, recall = 0, 0.0
    while done < blocks:
        last = blocks if exact else min(max(done * 3 // 2, blocks // 32, 2), blocks)
        search.advance(done, last)
        done = last
        if done < blocks and (recall := search.recall()) >= _RECALL:
            return recall
    return 1.0


class _Near:
    """A search for the nearest points, as far as it has come. Rows of its lists are in the order of the blocks."""

    def __init__(self, points: FloatArray, k: int) -> None:
        from attnviz.maps.nearest_kernel import panels

        self.points, self.k = points, k
        total = len(points)
        centred = points - points.mean(axis=0)
        self.order = arrange(centred)
        centred = centred[self.order]
        self.plan = _by_distance(centres(centred))
        self.right = panels(centred)
        width = self.right.shape[0] * self.right.shape[2] - total
        self.left = np.pad(-2 * centred, ((0, width), (0, 0)))
        self.norms = np.pad(np.square(centred).sum(axis=1), (0, width), constant_values=3 * _FAR)
        self.limits = np.pad(np.full(total, _FAR), (0, width), constant_values=-_FAR)
        self.best: FloatArray = np.full((total + width, min(k + _SLACK, total - 1)), _FAR)
        self.who: NDArray[np.int32] = np.full(self.best.shape, -1, np.int32)
        self.names = np.pad(self.order, (0, width))
        self.seen = np.zeros(self.plan.shape, np.bool_)

    def advance(self, first: int, last: int) -> None:
        """Compare each block with its nearest ones from ``first`` up to ``last``."""
        from attnviz.maps.nearest_kernel import search_both

        given = (self.left, self.right, self.norms, self.limits, self.names, self.best, self.who)
        search_both(*given, self.plan, self.seen, BLOCK, first, last)

    def recall(self) -> float:
        """Return the share of the nearest points of a sample that were found; others at the same distance count."""
        from attnviz.maps.nearest_kernel import finish

        sample = _sample(len(self.points))
        found = self.who[sample]
        distances = np.empty(found.shape, np.float32)
        finish(self.order[sample], self.points, found, distances)
        _, truth = self._by_differences(sample, distances[:, self.k - 1])
        return float((distances[:, : self.k] <= truth[:, -1:]).mean())

    def result(self, *, certain: bool) -> tuple[NDArray[np.int32], FloatArray]:
        """Return indices and distances, ``(points, k)``; ``certain`` repeats rows in which rounding may have mattered."""
        from attnviz.maps.nearest_kernel import finish

        total, k = len(self.points), self.k
        found, measured = self.who[:total], np.empty((total, self.who.shape[1]), np.float32)
        finish(self.order, self.points, found, measured)
        found, measured = found[:, :k], measured[:, :k]
        if certain and (rows := np.flatnonzero(self._doubtful(measured[:, -1]))).size:
            found[rows], measured[rows] = self._by_differences(rows, measured[rows, -1])
        indices, distances = np.empty((total, k), np.int32), np.empty((total, k), np.float32)
        indices[self.order], distances[self.order] = found, measured
        return indices, distances

    def _doubtful(self, last: FloatArray) -> NDArray[np.bool_]:
        """Return for which rows a point that was not found may be as near as the k-th, at the distance ``last``.

        What was not found is at least ``limits`` away as ``tile`` rounds. Where k points coincide with a point, all that do are
        at one rounded distance, and those of lowest index were kept.
        """
        total = len(self.points)
        if self.who.shape[1] == total - 1:
            return np.zeros(total, np.bool_)
        doubtful: NDArray[np.bool_] = (self.limits[:total] <= self._reach(np.arange(total), last)) & (last > 0)
        return doubtful

    def _reach(self, rows: NDArray[np.int64], last: FloatArray) -> FloatArray:
        """Return what the squares of distances up to ``last`` may be when they are rounded as |x|² + |y|² - 2xy.

        A point so near is no longer than |x| + that distance, which bounds the rounding of its products, norms and centring,
        and of measuring it by differences.
        """
        norms, near = self.norms[rows].astype(np.float64), np.square(last, dtype=np.float64)
        longest = (np.sqrt(norms) + np.sqrt(near)) ** 2
        reach: FloatArray = near + 4 * (self.points.shape[1] + 4) * 2.0**-24 * (norms + longest)
        return np.nextafter(reach.astype(np.float32), _FAR)

    def _by_differences(self, rows: NDArray[np.int64], last: FloatArray) -> tuple[NDArray[np.int32], FloatArray]:
        """Return the true neighbours of some rows, and their distances, given the k-th of those that were found."""
        from attnviz.maps.nearest_kernel import nearest_to

        who, best = np.full((len(rows), self.k), -1, np.int32), np.full((len(rows), self.k), _FAR)
        filled = np.pad(rows, (0, -len(rows) % 4), mode="edge")
        reach = self._reach(filled, np.pad(last, (0, -len(rows) % 4)))
        others = (self.left[filled], self.norms[filled], reach, self.right, self.norms, self.names)
        nearest_to(self.order[rows], self.points, *others, best, who)
        return who, best


class _Strong:
    """A search for the largest products, as far as it has come. Rows of its lists are in the order of the blocks."""

    def __init__(self, query: FloatArray, key: FloatArray, k: int) -> None:
        from attnviz.maps.nearest_kernel import panels

        self.order, self.names = arrange(query), arrange(key)
        query, key = query[self.order], key[self.names]
        self.plan = _by_product(centres(query), centres(key))
        self.right = panels(key)
        width = self.right.shape[0] * self.right.shape[2] - len(key)
        self.left = np.pad(-query, ((0, -len(query) % 4), (0, 0)))
        self.offsets = np.pad(np.zeros(len(key), np.float32), (0, width), constant_values=3 * _FAR)
        self.names = np.pad(self.names, (0, width))
        self.best, self.who = self._lists(len(query), k)
        self.limits = self.best[:, -1].copy()

    def advance(self, first: int, last: int) -> None:
        """Compare each block of queries with its strongest blocks of keys from ``first`` up to ``last``."""
        self._search(self.left, self.limits, self.best, self.who, self.plan, first, last)

    def recall(self) -> float:
        """Return the share of the strongest keys of a sample of queries that were found; others of the same product count."""
        sample = _sample(len(self.order))
        best, who = self._lists(len(sample), self.best.shape[1])
        blocks = self.plan.shape[1]
        plan = np.tile(np.arange(blocks, dtype=np.int32), (-(-len(best) // BLOCK), 1))
        left = np.pad(self.left[sample], ((0, len(best) - len(sample)), (0, 0)))
        self._search(left, best[:, -1].copy(), best, who, plan, 0, blocks)
        return float((self.best[sample] <= best[: len(sample), -1:]).mean())

    def result(self) -> tuple[NDArray[np.int32], FloatArray]:
        """Return indices and products, ``(queries, k)``."""
        total = len(self.order)
        indices, products = (
            np.empty((total, self.who.shape[1]), np.int32),
            np.empty((total, self.who.shape[1]), np.float32),
        )
        indices[self.order], products[self.order] = self.who[:total], -self.best[:total]
        return indices, products

    def _search(
        self,
        left: FloatArray,
        limits: FloatArray,
        best: FloatArray,
        who: NDArray[np.int32],
        plan: NDArray[np.int32],
        *span: int,
    ) -> None:
        from attnviz.maps.nearest_kernel import search_left

        search_left(left, self.right, self.offsets, limits, self.names, best, who, plan, BLOCK, *span)

    @staticmethod
    def _lists(rows: int, k: int) -> tuple[FloatArray, NDArray[np.int32]]:
        """Return empty lists; those of rows that only fill a tile take nothing."""
        best = np.full((rows + -rows % 4, k), _FAR)
        best[rows:] = -_FAR
        return best, np.full(best.shape, -1, np.int32)


def _sample(total: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).choice(total, min(_SAMPLED, total), replace=False))


def _by_distance(middles: FloatArray) -> NDArray[np.int32]:
    """Return for each block all blocks, nearest first and itself before all, ``(blocks, blocks)``."""
    plan = np.empty((len(middles), len(middles)), np.int32)
    for block, middle in enumerate(middles):
        apart = np.square(middles - middle).sum(axis=1)
        apart[block] = -1
        plan[block] = np.argsort(apart, kind="stable")
    return plan


def _by_product(middles: FloatArray, others: FloatArray) -> NDArray[np.int32]:
    """Return for each block of queries all blocks of keys, largest product of centres first, ``(blocks, blocks of keys)``."""
    plan = np.empty((len(middles), len(others)), np.int32)
    for block, middle in enumerate(middles):
        plan[block] = np.argsort(-(others * middle).sum(axis=1), kind="stable")
    return plan
