"""Attention within sequences: which keys each query may see, and pairs drawn from them.

Receives ``Sequences``, gives numbers of tokens. What a layer lets a query see depends on the distance of the two positions alone,
and is one stretch of keys: so a sequence of any length costs as much as its tokens, not as their square.
"""

from dataclasses import dataclass

import numpy as np

from attnviz.attention import visible
from attnviz.metrics.space import Points, sample
from attnviz.types import Sequences

__all__ = ["Reach", "sequence_pairs"]

SEQUENCES = 400  # whose pairs are drawn
PAIRS = 200_000  # of all of them together


@dataclass(frozen=True, slots=True)
class Reach:
    """The keys that each query may see in its sequence: tokens ``first`` to ``stop - 1``, ``(tokens,)`` each."""

    first: Points
    stop: Points

    @classmethod
    def of(cls, sequences: Sequences) -> "Reach":
        """Return the reach of every token of a head."""
        lengths = np.diff(sequences.bounds)
        longest = int(lengths.max())
        back = int(visible(longest, 1, sequences.layer).sum()) - 1  # the mask of every later query on the first key
        ahead = int(visible(1, longest, sequences.layer).sum())
        token = np.arange(sequences.bounds[-1])
        first = np.maximum(np.repeat(sequences.bounds[:-1], lengths), token - back)
        return cls(first, np.minimum(np.repeat(sequences.bounds[1:], lengths), token + ahead))

    @property
    def counts(self) -> Points:
        """How many keys each query sees."""
        return self.stop - self.first


def sequence_pairs(sequences: Sequences, reach: Reach, seed: int) -> list[tuple[Points, Points]]:
    """Return pairs (queries, keys) that attend, one entry per sequence of a sample.

    Of up to 400 sequences with at least 3 pairs, all pairs, or as many drawn ones as make 200,000 over all sequences.
    """
    before = np.append(0, np.cumsum(reach.counts))  # pairs before each query
    totals = np.diff(before[sequences.bounds])
    usable = np.flatnonzero(totals >= 3)
    rng = np.random.default_rng(seed)
    drawn = []
    for sequence in usable[sample(len(usable), SEQUENCES, seed)]:
        total, most = int(totals[sequence]), PAIRS // min(len(usable), SEQUENCES)
        pairs = np.arange(total) if total <= most else rng.integers(total, size=most)
        pairs += before[sequences.bounds[sequence]]
        queries = np.searchsorted(before, pairs, side="right") - 1
        drawn.append((queries, reach.first[queries] + pairs - before[queries]))
    return drawn
