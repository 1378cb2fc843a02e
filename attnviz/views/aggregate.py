"""The mean attention of a head from position to position, over all sequences of a run.

A pair of positions counts in the sequences that have both, each with the same say: long sequences alone speak for late positions,
and ``PositionMean.counts`` tells how many they are. Softmax runs over all keys of a sequence, also those beyond what is shown.
Vectors are read in stretches of about 50,000 tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnviz.attention import weights
from attnviz.errors import DatasetError
from attnviz.store import HeadVectors, Points, RunDirectory
from attnviz.types import FloatArray
from attnviz.views.heads_of_sequence import has_sink, hide, weigh_by_value
from attnviz.views.masks import find_first, find_punctuation

__all__ = ["POSITIONS", "PositionMean", "by_sequence", "mean_by_position"]

POSITIONS = 64
AT_ONCE = 50_000  # tokens


@dataclass(frozen=True, slots=True)
class PositionMean:
    """Mean attention of one head by position. Read-only: sessions share it."""

    weights: FloatArray  # (queries, keys)
    counts: NDArray[np.int64]  # (queries, keys): how many sequences have both positions


def mean_by_position(
    run: RunDirectory,
    layer: int,
    head: int,
    *,
    positions: int = POSITIONS,
    special: bool = False,
    punctuation: bool = False,
    first: bool = False,
    values: bool = False,
) -> PositionMean:
    """Return the mean of a head's weights over all sequences.

    Parameters
    ----------
    positions
        How many positions of queries and of keys to return, at most.
    special, punctuation, first
        Whether special tokens, punctuation, or each stream's first token are hidden; rows are scaled up
        as ``hide`` does.
    values
        Whether each sequence's weights are multiplied by the norms of its keys' values first, as ``weigh_by_value`` does.

    Raises
    ------
    DatasetError
        If there is no such head, or what the run keeps does not give the model's attention.
    """
    info = run.head(layer, head).layer.of_head(head)
    if not info.rebuilt:
        raise DatasetError(
            f"Layer {info.label} of run {run.name} keeps vectors from before RoPE, in a way that attention cannot be rebuilt from. "
            "Capture with rope = 'after' to see it."
        )
    total = np.zeros((positions, positions))
    counts = np.zeros((positions, positions), np.int64)
    is_hidden = _hidden(run, special=special, punctuation=punctuation, first=first)
    for points, own in by_sequence(run, layer, head):
        shown = own.query[:positions]
        found = weights(shown, own.key, info, queries=np.arange(len(shown)))
        found = hide(found, is_hidden[points.query][: len(shown)], is_hidden[points.key], sink=has_sink(info))
        if values:
            found = weigh_by_value(found, own.value_norm)
        place = np.s_[: len(shown), : min(len(own.key), positions)]
        total[place] += found[:, :positions]
        counts[place] += 1
    used = np.s_[: int((counts > 0).any(axis=1).sum()), : int((counts > 0).any(axis=0).sum())]
    mean = (total / np.maximum(counts, 1))[used].astype(np.float32)
    mean.setflags(write=False)
    return PositionMean(mean, counts[used])


def _hidden(run: RunDirectory, *, special: bool, punctuation: bool, first: bool) -> NDArray[np.bool_]:
    hidden = np.zeros(run.num_tokens, bool)
    if special:
        hidden |= run.tokens["is_special"].to_numpy(bool)
    if punctuation:
        hidden |= find_punctuation(run)
    if first:
        hidden |= find_first(run)
    return hidden


def by_sequence(
    run: RunDirectory, layer: int, head: int, sequences: NDArray[np.int64] | None = None
) -> Iterator[tuple[Points, HeadVectors]]:
    """Yield the points and vectors of each sequence that has queries and keys: of all, or of some, in ascending order."""
    every, bounds = run.points(layer), run.bounds
    wanted = np.arange(run.num_sequences) if sequences is None else sequences
    start = 0
    while start < len(wanted):
        first = bounds[wanted[start]]
        stop = start + max(1, int((bounds[wanted[start:] + 1] <= first + AT_ONCE).sum()))
        vectors = run.vectors(layer, head, slice(int(first), int(bounds[wanted[stop - 1] + 1])))
        offsets = [int(np.searchsorted(own, first)) for _, own in every.by_kind()]
        for sequence in wanted[start:stop].tolist():
            points = every.within(int(bounds[sequence]), int(bounds[sequence + 1]))
            if len(points.query) and len(points.key):
                query, key = (
                    slice(at := int(np.searchsorted(whole, own[0])) - offset, at + len(own))
                    for (_, whole), (_, own), offset in zip(every.by_kind(), points.by_kind(), offsets, strict=True)
                )
                yield points, _cut(vectors, query, key)
        start = stop


def _cut(vectors: HeadVectors, query: slice, key: slice) -> HeadVectors:
    norms = vectors.query_norm[query], vectors.key_norm[key], vectors.value_norm[key]
    return HeadVectors(vectors.query[query], vectors.key[key], *norms, vectors.logsumexp[query])
