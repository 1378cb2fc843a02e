"""Which tokens have a query in a layer, and which a key: all of a run, or those of a stream."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnviz.types import FloatArray, LayerInfo, Sequences

__all__ = ["Points", "sequences_of"]

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Points:
    """The points of a layer: queries and keys, as rows of ``tokens.parquet``, ascending."""

    query: Tokens
    key: Tokens

    @classmethod
    def of_all(cls, tokens: int, first: int = 0) -> "Points":
        """Return a query and a key of each of so many tokens."""
        every = np.arange(first, first + tokens, dtype=np.int32)
        return cls(every, every)

    @property
    def tokens(self) -> Tokens:
        """The tokens that have a query or a key, ascending."""
        return self.query if self.query is self.key else np.union1d(self.query, self.key).astype(np.int32)

    def by_kind(self) -> tuple[tuple[str, Tokens], tuple[str, Tokens]]:
        """Return the tokens of each kind."""
        return ("query", self.query), ("key", self.key)

    def within(self, start: int, stop: int) -> "Points":
        """Return the points of tokens ``start`` to ``stop - 1``."""
        query = self._cut(self.query, start, stop)
        return Points(query, query if self.key is self.query else self._cut(self.key, start, stop))

    def complete(self, tokens: int) -> bool:
        """Tell whether each of so many tokens has both."""
        return len(self.query) == len(self.key) == tokens

    def scatter(self, values: FloatArray, tokens: int) -> FloatArray:
        """Turn ``(..., points, columns)`` of this layer into ``(..., 2 * tokens, columns)``; NaN where it has no such point."""
        if self.complete(tokens):
            return values
        spread = np.full((*values.shape[:-2], 2 * tokens, values.shape[-1]), np.nan, np.float32)
        spread[..., np.concatenate([self.query, self.key + tokens]), :] = values
        return spread

    @staticmethod
    def _cut(tokens: Tokens, start: int, stop: int) -> Tokens:
        return tokens[slice(*np.searchsorted(tokens, (start, stop)))]


def sequences_of(
    points: Points, bounds: NDArray[np.int64], positions: Tokens, layer: LayerInfo
) -> tuple[NDArray[np.int64] | None, Sequences]:
    """Return how the points of a layer stand in sequences, and in which order if that is not their own.

    Parameters
    ----------
    bounds
        The first token of each sequence, then the number of tokens.
    positions
        Of every token of the run, in the stream of its sequence.

    Returns
    -------
    The order of the queries (and keys) that puts what can see each other together, or None; and the sequences in that order.
    """
    of_queries, of_keys = (np.searchsorted(which, bounds).astype(np.int64) for _, which in points.by_kind())
    group = None if layer.terms is None else layer.terms.group
    if group is None:
        same = points.query is points.key
        return None, Sequences(of_queries, layer, None if same else of_keys)
    position = positions[points.query]
    sequence = np.repeat(np.arange(len(bounds) - 1), np.diff(of_queries))
    order = np.lexsort((position, group[position], sequence))
    changes = np.diff(sequence[order]) + np.diff(group[position][order]) != 0
    parts = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(order)]]).astype(np.int64)
    return order, Sequences(parts, layer, None, position[order])
