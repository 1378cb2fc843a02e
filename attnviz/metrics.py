"""How faithful a map is to the vectors and to attention: one table, seeded samples, exact within the sample.

Receives a ``Joint`` and the coordinates of its points, gives one number each. q·k is the model's own, rebuilt from the joint
space: moving the keys adds a constant per query, to which softmax and recall are blind but a pooled correlation is not, and
AttentionViz compares with the original too (36 heads of MiniLM, 2026-11-21: −0.57 with it, −0.55 with the joint space's q·k,
−0.58 with each query's mean logit removed). Correlation is pooled over pairs: per query it goes to −1 as keys shrink.
20,000 points × 32 dims, one core, 2026-11-21: trustworthiness 0.2–0.4 s, map_spearman 0.01 s, attention_recall 0.05 s.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import MapError, require
from attnviz.types import FloatArray, Joint

__all__ = ["METRICS", "Metric", "Score", "attention_recall", "joint_spearman", "map_spearman", "trustworthiness"]

NEIGHBORS = 15  # of trustworthiness
TOP, NEAR = 10, 50  # of attention recall
SAMPLED_POINTS = 1_000
SAMPLED_QUERIES = 1_000
SAMPLED_PAIRS = 50_000
_CHUNK = 4_000_000  # distances held at once: 32 MB

Points = NDArray[np.int64]


class Score(Protocol):
    """Anything that judges a map: ``score(joint, placed, seed=0)``."""

    def __call__(self, joint: Joint, placed: FloatArray, *, seed: int) -> float:
        """Return the score of ``placed``, ``(points, dims)``: the queries, then the keys."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of ``METRICS``. Call it like the function that it holds."""

    name: str
    score: Score
    low: float
    high: float
    better: Literal["higher", "lower"]
    description: str  # one sentence for a tooltip

    def __call__(self, joint: Joint, placed: FloatArray, *, seed: int = 0) -> float:
        """Return the score of ``placed``.

        Raises
        ------
        MapError
            If the coordinates are not those of the joint space's points, or not finite.
        """
        points = len(joint.query) + len(joint.key)
        if placed.ndim != 2 or len(placed) != points or not np.isfinite(placed).all():
            raise MapError(
                f"{self.name} was given coordinates {placed.shape}; it takes finite ({points}, dims), the queries, then the "
                "keys. Make the map again."
            )
        return self.score(joint, placed, seed=seed)


def trustworthiness(joint: Joint, placed: FloatArray, *, seed: int = 0) -> float:
    """Return how far the nearest points on a map are near in the joint space: 0 to 1, higher is better, 0.5 is chance.

    Up to 1,000 sampled points are judged by their 15 nearest on the map (fewer than 31 points: by a half of the others);
    each neighbour's rank in the joint space is counted exactly, against all points. Fewer than 3 points give 1.

    Notes
    -----
    Venna and Kaski, *Neighborhood preservation in nonlinear projection methods* (2001). Equal distances share the best rank.
    """
    points = joint.points.astype(np.float64)
    total = len(points)
    k = min(NEIGHBORS, (total - 1) // 2)
    if k == 0:
        return 1.0
    points -= points.mean(axis=0)  # ranks are counted from |y|² − 2x·y, which cancels badly far from the origin
    sampled = _sample(total, SAMPLED_POINTS, seed)
    near = _nearest_others(placed, sampled, k)
    excess = sum(int(np.maximum(ranks - k, 0).sum()) for ranks in _ranks_among(points, sampled, near))
    return 1.0 - 2.0 * excess / (len(sampled) * k * (2 * total - 3 * k - 1))


def map_spearman(joint: Joint, placed: FloatArray, *, seed: int = 0) -> float:
    """Return Spearman's correlation of a pair's distance on the map with its q·k: −1 to 1, lower (negative) is better.

    Pooled over 50,000 random query–key pairs (all pairs where there are fewer). 0 where all distances or all q·k are equal.
    """
    tokens = len(joint.query)
    queries, keys = _pairs(tokens, len(joint.key), seed)
    distances = ((placed[queries].astype(np.float64) - placed[tokens + keys]) ** 2).sum(axis=1)
    products = np.einsum("ij,ij->i", _unit(joint.query)[queries], _unit(joint.original_key)[keys])
    return _correlation(_ranks(distances), _ranks(products))


def joint_spearman(joint: Joint, *, seed: int = 0) -> float:
    """Return what ``map_spearman`` would be on a map that kept every distance of the joint space."""
    return map_spearman(joint, joint.points, seed=seed)


def attention_recall(joint: Joint, placed: FloatArray, *, seed: int = 0) -> float:
    """Return the share of a query's ten largest q·k keys that are among its fifty nearest keys on the map: 0 to 1.

    The mean over up to 1,000 sampled queries, among the keys of all sequences; higher is better, chance is 50 / keys. With 50
    keys or fewer, fifty would be all of them: then the nearest half is searched for the largest tenth (at least one each).
    Keys with the same q·k as the tenth count as well as it.
    """
    tokens, keys = len(joint.query), len(joint.key)
    near_count = NEAR if keys > NEAR else max(keys // 2, 1)
    top = TOP if keys > NEAR else max(near_count * TOP // NEAR, 1)
    sampled = _sample(tokens, SAMPLED_QUERIES, seed)
    near = _nearest(placed[tokens:], placed[sampled], near_count)
    products = _unit(joint.query[sampled]) @ _unit(joint.original_key).T
    least = np.partition(products, keys - top, axis=1)[:, keys - top]
    found = (np.take_along_axis(products, near, axis=1) >= least[:, None]).sum(axis=1)
    return float(np.minimum(found, top).mean() / top)


def _unit(vectors: FloatArray) -> FloatArray:
    """Return the vectors with a largest entry of 1: the order of products stays, and none leaves float32."""
    largest = np.abs(vectors).max()
    return vectors / largest if largest > 0 else vectors


def _sample(total: int, most: int, seed: int) -> Points:
    """Return ``most`` of the numbers below ``total``, or all of them, in order."""
    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))


def _pairs(queries: int, keys: int, seed: int) -> tuple[Points, Points]:
    if queries * keys <= SAMPLED_PAIRS:
        rows, columns = np.divmod(np.arange(queries * keys), keys)
        return rows, columns
    rng = np.random.default_rng(seed)
    return rng.integers(queries, size=SAMPLED_PAIRS), rng.integers(keys, size=SAMPLED_PAIRS)


def _nearest(placed: FloatArray, origins: FloatArray, k: int) -> Points:
    """Return the ``k`` points of ``placed`` nearest to each origin, ``(origins, k)``."""
    tree = require("scipy.spatial", "maps").cKDTree(placed)
    _, found = tree.query(origins, k=[*range(1, k + 1)])  # a list, because k=1 would drop the axis
    indices: Points = found.astype(np.int64)
    return indices


def _nearest_others(placed: FloatArray, sampled: Points, k: int) -> Points:
    """Return the ``k`` points nearest to each sampled one, itself left out, ``(sampled, k)``."""
    found = _nearest(placed, placed[sampled], k + 1)
    own = found == sampled[:, None]
    own[~own.any(axis=1), -1] = True  # more coincident points than were asked for: drop any one
    others: Points = found[~own].reshape(len(sampled), k)
    return others


def _ranks_among(points: NDArray[np.float64], sampled: Points, near: Points) -> Iterator[Points]:
    """Give, by chunks, the rank (from 1) of each point of ``near`` among all points as seen from the sampled one."""
    squares = (points**2).sum(axis=1)
    step = max(_CHUNK // len(points), 1)
    for start in range(0, len(sampled), step):
        rows = sampled[start : start + step]
        distances = squares - 2.0 * (points[rows] @ points.T)
        distances[np.arange(len(rows)), rows] = -np.inf  # rank 0 is the point itself
        wanted = np.take_along_axis(distances, near[start : start + step], axis=1)
        distances.sort(axis=1)
        yield np.stack([np.searchsorted(row, values) for row, values in zip(distances, wanted, strict=True)])


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return middle


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    first, second = first - first.mean(), second - second.mean()
    spread = np.sqrt((first @ first) * (second @ second))
    return float(np.clip(first @ second / spread, -1, 1)) if spread > 0 else 0.0


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("trustworthiness", trustworthiness, 0, 1, "higher", "Near on the map means near in the joint space."),
        Metric(
            "map_spearman", map_spearman, -1, 1, "lower", "Correlation of distance with q·k; −1: near means attends."
        ),
        Metric("attention_recall", attention_recall, 0, 1, "higher", "Top ten keys found among the fifty nearest."),
    )
}
"""Every metric that is stored for a map, by name."""
