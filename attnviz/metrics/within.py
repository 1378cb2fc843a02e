"""Pairs of queries and keys that attend, drawn from the sequences of a head."""

import numpy as np

from attnviz.attention import Reach
from attnviz.metrics.space import Points, sample
from attnviz.types import Sequences

__all__ = ["sequence_pairs"]

SEQUENCES = 400  # whose pairs are drawn
PAIRS = 200_000  # of all of them together


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
