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
from attnviz.store import Points, RunDirectory
from attnviz.types import FloatArray
from attnviz.views.heads_of_sequence import has_sink, hide
from attnviz.views.masks import find_first, find_punctuation

__all__ = ["POSITIONS", "PositionMean", "mean_by_position"]

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
) -> PositionMean:
    """Return the mean of a head's weights over all sequences.

    Parameters
    ----------
    positions
        How many positions of queries and of keys to return, at most.
    special, punctuation, first
        Whether special tokens, punctuation, or each stream's first token are hidden; rows are scaled up
        as ``hide`` does.

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
    for points, query, key in _by_sequence(run, layer, head):
        shown = query[:positions]
        found = weights(shown, key, info, queries=np.arange(len(shown)))
        found = hide(found, is_hidden[points.query][: len(shown)], is_hidden[points.key], sink=has_sink(info))
        place = np.s_[: len(shown), : min(len(key), positions)]
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


def _by_sequence(run: RunDirectory, layer: int, head: int) -> Iterator[tuple[Points, FloatArray, FloatArray]]:
    """Yield the points, queries and keys of each sequence that has both."""
    every = run.points(layer)
    bounds = run.bounds
    start = 0
    while start < run.num_sequences:
        stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + AT_ONCE, side="right")) - 1)
        vectors = run.vectors(layer, head, slice(int(bounds[start]), int(bounds[stop])))
        offsets = [int(np.searchsorted(own, bounds[start])) for _, own in every.by_kind()]
        for sequence in range(start, stop):
            points = every.within(int(bounds[sequence]), int(bounds[sequence + 1]))
            if len(points.query) and len(points.key):
                query, key = (
                    slice(at := int(np.searchsorted(whole, own[0])) - offset, at + len(own))
                    for (_, whole), (_, own), offset in zip(every.by_kind(), points.by_kind(), offsets, strict=True)
                )
                yield points, vectors.query[query], vectors.key[key]
        start = stop
