"""What a head's vectors say, for seeded samples: found once, when first asked for, and shared by all maps of the head.

Receives a ``Joint``; gives distances, neighbours and products. ``Placement`` is the same for one map. q·k is the model's own,
rebuilt from the joint space: moving the keys adds a constant per query, to which softmax, recall and top-1 are blind but a pooled
correlation is not, and AttentionViz compares with the original too (36 heads of MiniLM, 2026-11-21: −0.57 with it, −0.55 with the
joint space's q·k, −0.58 with each query's mean logit removed).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attnviz.attention import Reach
from attnviz.metrics.products import Products
from attnviz.metrics.space import Points, Space, sample
from attnviz.metrics.within import sequence_pairs
from attnviz.types import FloatArray, Joint

__all__ = ["Choice", "Evidence", "Pairs", "Placement", "search_counts"]

SAMPLED_POINTS = 500  # of all points, of the queries, of the keys
SAMPLED_QUERIES = 1_000  # of attention recall
SAMPLED_CHOICES = 2_500  # of top-1, which is one or zero
SAMPLED_PAIRS = 50_000
TOP, NEAR = 10, 50  # of attention recall

Ranks = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Queries and keys, and the rank of each pair's q·k among the others."""

    queries: Points
    keys: Points
    product_ranks: Ranks

    def correlate(self, placement: "Placement") -> float:
        """Return Spearman's correlation of the pairs' distance on a map with their q·k; 0 where either does not vary."""
        apart = placement.query[self.queries].astype(np.float64) - placement.key[self.keys]
        return _correlation(_ranks((apart**2).sum(axis=1)), self.product_ranks)


@dataclass(frozen=True, slots=True)
class Choice:
    """What one query attends to most: ``best`` marks it among the keys ``seen``."""

    query: int
    seen: slice
    best: NDArray[np.bool_]  # several where their q·k is the same


class Evidence:
    """What a head's vectors say.

    Parameters
    ----------
    joint
        The head.
    seed
        Of the samples: the same seed gives the same numbers, on one type of processor to the last bit.
    """

    def __init__(self, joint: Joint, *, seed: int = 0) -> None:
        self.joint = joint
        self.seed = seed
        self.num_queries, self.num_keys = len(joint.query), len(joint.key)
        self._reach = Reach.of(joint.sequences)

    @cached_property
    def products(self) -> Products:
        """q·k of all queries with all keys: which are the largest, and which are equal."""
        return Products.of(self.joint)

    @cached_property
    def sampled_points(self) -> Points:
        """Points that look at all points."""
        return sample(self.num_queries + self.num_keys, SAMPLED_POINTS, self.seed)

    @cached_property
    def looking_queries(self) -> Points:
        """Queries that look at all queries."""
        return sample(self.num_queries, SAMPLED_POINTS, self.seed)

    @cached_property
    def looking_keys(self) -> Points:
        """Keys that look at all keys."""
        return sample(self.num_keys, SAMPLED_POINTS, self.seed)

    @cached_property
    def sampled_queries(self) -> Points:
        """Queries that look at all keys."""
        return sample(self.num_queries, SAMPLED_QUERIES, self.seed)

    @cached_property
    def all_points(self) -> Space:
        """Queries and keys in the joint space."""
        return Space(self.joint.points, self.sampled_points)

    @cached_property
    def queries(self) -> Space:
        """The queries in the joint space."""
        return Space(self.joint.query, self.looking_queries)

    @cached_property
    def keys(self) -> Space:
        """The keys in the joint space."""
        return Space(self.joint.key, self.looking_keys)

    @cached_property
    def least_products(self) -> NDArray[np.float64]:
        """The smallest q·k of each sampled query that counts as one of its largest."""
        return self.products.least_of_largest(self.sampled_queries, search_counts(self.num_keys)[0])

    @cached_property
    def pairs(self) -> Pairs:
        """Queries and keys of any sequences."""
        return self._pairs(*_any_pairs(self.num_queries, self.num_keys, self.seed))

    @cached_property
    def sequence_pairs(self) -> list[Pairs]:
        """Pairs that attend, one entry per sampled sequence."""
        return [self._pairs(*pairs) for pairs in sequence_pairs(self.joint.sequences, self._reach, self.seed)]

    @cached_property
    def choices(self) -> list[Choice]:
        """The most attended visible keys of sampled queries; queries that see one key alone are left out."""
        choosing = np.flatnonzero(self._reach.counts > 1)
        rows = choosing[sample(len(choosing), SAMPLED_CHOICES, self.seed)]
        made = []
        for row in rows.tolist():
            seen = slice(int(self._reach.first[row]), int(self._reach.stop[row]))
            made.append(Choice(row, seen, self.products.largest(row, seen)))
        return made

    def _pairs(self, queries: Points, keys: Points) -> Pairs:
        return Pairs(queries, keys, _ranks(self.products.at(queries, keys)))


class Placement:
    """Where a map puts a head's points, looked at by the same samples.

    Parameters
    ----------
    evidence
        Of the head.
    placed
        ``(points, dims)``, finite: the queries, then the keys.
    """

    def __init__(self, evidence: Evidence, placed: FloatArray) -> None:
        self.query, self.key = placed[: evidence.num_queries], placed[evidence.num_queries :]
        self.all_points = Space(placed, evidence.sampled_points)
        self.queries = Space(self.query, evidence.looking_queries)
        self.keys = Space(self.key, evidence.looking_keys)


def search_counts(keys: int) -> tuple[int, int]:
    """Return how many of the largest q·k are looked for among how many of the nearest.

    Ten and fifty; of fifty keys or fewer the nearest half is searched for the largest tenth (at least one each).
    """
    if keys > NEAR:
        return TOP, NEAR
    near = max(keys // 2, 1)
    return max(near * TOP // NEAR, 1), near


def _any_pairs(queries: int, keys: int, seed: int) -> tuple[Points, Points]:
    if queries * keys <= SAMPLED_PAIRS:
        rows, columns = np.divmod(np.arange(queries * keys), keys)
        return rows, columns
    rng = np.random.default_rng(seed)
    return rng.integers(queries, size=SAMPLED_PAIRS), rng.integers(keys, size=SAMPLED_PAIRS)


def _ranks(values: NDArray[np.floating]) -> Ranks:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: Ranks = (last - (counts - 1) / 2)[inverse]
    return middle


def _correlation(first: Ranks, second: Ranks) -> float:
    first, second = first - first.mean(), second - second.mean()
    spread = np.sqrt((first @ first) * (second @ second))
    return float(np.clip(first @ second / spread, -1, 1)) if spread > 0 else 0.0
