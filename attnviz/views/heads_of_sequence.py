"""Several heads of one layer over one sequence, as the model weighs it or as one asks to see it.

``read_heads`` gives one weight for each head, row (queries) and column (keys). What ``Changes`` asks for is done in this order:

1. Tokens are hidden, as queries and as keys. What a row gives to the others is divided by what it does not give to the hidden
   ones: exactly what softmax gives without those keys, so a sink keeps its part. A row that gave everything to them becomes zero.
2. Weights are multiplied by the norm of the key's value, and each row is scaled back to the sum it had: only the shares within a
   row change, so heads stay comparable. The norm is that of the value itself, before the layer's output projection.
3. Pieces become words: a word is given what its pieces are given together, and gives what its pieces give on average. So rows
   sum to what they summed to before.
4. Of a pair of texts, only one direction is kept (A→B: queries of A, keys of B). Rows are not scaled again.

Hidden rows and columns keep their place, with weight zero. Heads are read one after the other and cut to the rows that are shown,
because a layer of 32 heads over 4,096 tokens would take 2 GB.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attnviz.attention import logits, rotated, weights
from attnviz.store import RunDirectory
from attnviz.types import FloatArray, LayerInfo
from attnviz.views.describe import token_names
from attnviz.views.words import word_starts, word_texts

__all__ = [
    "PAIRS",
    "Changes",
    "Column",
    "HeadsOfSequence",
    "PairNumbers",
    "has_pair",
    "has_sink",
    "has_words",
    "hide",
    "join_heads",
    "pair_numbers",
    "read_heads",
    "weigh_by_value",
]

PAIRS = {
    "all": "All pairs",
    "aa": "A → A",
    "ab": "A → B",
    "ba": "B → A",
    "bb": "B → B",
}
"""What may be kept of a pair of texts: queries of one, keys of the other."""

Mask = NDArray[np.bool_]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Changes:
    """What is done to the weights before they are shown; nothing, if not said."""

    hidden: frozenset[int] = frozenset()  # tokens: rows of the run's ``tokens``
    special: bool = False  # hide special tokens
    punctuation: bool = False
    first: bool = False  # hide the first token of each stream, a common sink
    values: bool = False  # weigh by the norms of values
    words: bool = False  # whole words instead of pieces
    pairs: str = "all"


@dataclass(frozen=True, slots=True)
class Column:
    """The rows, or the columns, of the weights: a token each, or a word."""

    first: NDArray[np.int32]  # its first token, a row of the run's ``tokens``
    pieces: Whole  # how many tokens it has
    texts: tuple[str, ...]  # as they came; a word is without blanks and marks
    hidden: Mask
    segment: Whole

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.first)

    def tokens(self, row: int) -> list[int]:
        """Return the tokens of a row."""
        return list(range(int(self.first[row]), int(self.first[row] + self.pieces[row])))

    def row(self, token: int) -> int | None:
        """Return the row of a token, or None."""
        row = int(np.searchsorted(self.first, token, side="right")) - 1
        return row if row >= 0 and token < self.first[row] + self.pieces[row] else None

    def cut(self, rows: slice) -> "Column":
        """Return some of the rows."""
        parts = {name: getattr(self, name)[rows] for name in ("first", "pieces", "texts", "hidden", "segment")}
        return replace(self, **parts)


@dataclass(frozen=True, slots=True)
class HeadsOfSequence:
    """Weights of some heads, and what their rows and columns are."""

    heads: tuple[int, ...]
    weights: FloatArray  # (heads, queries, keys)
    queries: Column
    keys: Column
    whole: tuple[int, int]  # how many queries and keys the sequence has, of which these may be a part

    def side(self, kind: str) -> Column:
        """Return what the rows, or the columns, are."""
        return self.queries if kind == "query" else self.keys

    def of_rows(self, rows: Sequence[int], kind: str) -> FloatArray:
        """Return what some queries give to each key together, or what some keys get from each query, ``(heads, partners)``."""
        own = self.weights[:, list(rows)] if kind == "query" else self.weights[:, :, list(rows)]
        total: FloatArray = own.sum(axis=1 if kind == "query" else 2)
        return total


@dataclass(frozen=True, slots=True)
class PairNumbers:
    """How the weight of one query and one key comes about."""

    dot: float  # q·k
    logit: float  # after scaling and whatever else the layer does to it; -inf: the query may not see the key
    weight: float


def read_heads(
    run: RunDirectory,
    layer: int,
    heads: Iterable[int],
    sequence: int,
    changes: Changes | None = None,
    *,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> HeadsOfSequence:
    """Return the attention of some heads over a sequence.

    Parameters
    ----------
    changes
        What to do to the weights; nothing, if not given.
    rows, columns
        Which queries and keys to return; what is done to the weights is done with all of them.

    Raises
    ------
    DatasetError
        If there is no such head or sequence, or what the run keeps does not give the model's attention.
    """
    wanted, heads = changes or Changes(), tuple(heads)
    tokens = run.token_slice(sequence)
    points = run.points(layer).within(tokens.start, tokens.stop)
    sides = [_Side(run, own, wanted) for _, own in points.by_kind()]
    shown = [_weights(run, layer, head, sequence, sides, wanted)[rows, columns] for head in heads]
    query, key = (side.column() for side in sides)
    weights = np.stack(shown) if shown else np.zeros((0, len(query), len(key)), np.float32)[:, rows, columns]
    return HeadsOfSequence(heads, weights, query.cut(rows), key.cut(columns), (len(query), len(key)))


def has_pair(run: RunDirectory, layer: int, sequence: int) -> bool:
    """Tell whether queries and keys of a layer both stand in two texts of a sequence."""
    rows = run.token_slice(sequence)
    segment = run.tokens["segment"].to_numpy()
    sides = run.points(layer).within(rows.start, rows.stop).by_kind()
    return all(len(own) > 0 and segment[own].min() < segment[own].max() for _, own in sides)


def has_words(run: RunDirectory, sequence: int) -> bool:
    """Tell whether a sequence has words of several pieces."""
    tokens = np.arange(run.num_tokens, dtype=np.int32)[run.token_slice(sequence)]
    return not bool(word_starts(run, tokens).all())


def join_heads(weights: FloatArray, how: str) -> FloatArray:
    """Return the ``"sum"`` or the ``"mean"`` over heads as one, ``(1, queries, keys)``; ``"each"`` leaves them apart."""
    if how == "each" or len(weights) == 0:
        return weights
    joined: FloatArray = weights.sum(axis=0, keepdims=True)
    return joined if how == "sum" else joined / np.float32(len(weights))


def hide(weights: FloatArray, queries: Mask, keys: Mask, *, sink: bool = False) -> FloatArray:
    """Hide queries and keys; what is left of a row is divided by what it did not give to the hidden keys.

    Parameters
    ----------
    weights
        ``(queries, keys)`` of one head.
    sink
        Whether the layer has a sink, which keeps its part: what a row lacks to 1.
    """
    if not (queries.any() or keys.any()):
        return weights
    kept = np.where(queries[:, None] | keys[None, :], np.float32(0), weights)
    left = weights[:, ~keys].sum(axis=1, dtype=np.float64)
    if sink:
        left += np.maximum(0, 1 - weights.sum(axis=1, dtype=np.float64))
    return np.asarray(kept / np.where(left > 0, left, 1)[:, None], np.float32)


def has_sink(info: LayerInfo) -> bool:
    """Tell whether a layer has a sink, so that its rows sum to less than 1."""
    return info.terms is not None and info.terms.sinks is not None


def weigh_by_value(weights: FloatArray, norms: FloatArray) -> FloatArray:
    """Multiply weights by the norms of the keys' values, and scale each row back to its sum."""
    weighed = weights * norms[None, :]
    total = weighed.sum(axis=1, keepdims=True)
    return np.asarray(weighed * (weights.sum(axis=1, keepdims=True) / np.where(total > 0, total, 1)), np.float32)


def pair_numbers(run: RunDirectory, layer: int, head: int, query: int, key: int) -> PairNumbers:
    """Return q·k, logit and weight of two tokens of one sequence, as the model has them.

    Parameters
    ----------
    query, key
        Rows of the run's ``tokens``; the layer must have such a query and such a key.
    """
    rows = run.token_slice(int(run.tokens["sequence_id"].iloc[query]))
    points, info = run.points(layer).within(rows.start, rows.stop), run.layers[layer].of_head(head)
    vectors = run.vectors(layer, head, rows)
    place, there = (
        int(np.searchsorted(own, token)) for (_, own), token in zip(points.by_kind(), (query, key), strict=True)
    )
    row, column = np.array([place]), np.array([there])
    q, k = vectors.query[row], vectors.key[column]
    dot = float((rotated(q, row, info) @ rotated(k, column, info).T)[0, 0])
    logit = float(logits(q, k, info, queries=row, keys=column)[0, 0])
    return PairNumbers(dot, logit, float(weights(q, vectors.key, info, queries=row)[0, there]))


class _Side:
    """The tokens of one kind, and how they become rows."""

    def __init__(self, run: RunDirectory, tokens: NDArray[np.int32], changes: Changes) -> None:
        self.run, self.tokens = run, tokens
        own = run.tokens.iloc[tokens]
        self.segment = own["segment"].to_numpy(np.int64)
        self.hidden: Mask = np.isin(tokens, list(changes.hidden))
        if changes.special:
            self.hidden |= own["is_special"].to_numpy(bool)
        if changes.punctuation:
            self.hidden |= own["is_punctuation"].to_numpy(bool)
        if changes.first:
            self.hidden |= own["position"].to_numpy() == 0
        self.in_words, self.is_image = changes.words, (own["modality"] == "image").to_numpy(bool)
        starts = word_starts(run, tokens) if changes.words else np.ones(len(tokens), bool)
        self.starts: Whole = np.flatnonzero(starts).astype(np.int64)

    def column(self) -> Column:
        """Return the rows: whole words where these were asked for, else tokens."""
        ends = np.append(self.starts[1:], len(self.tokens))
        spans = list(zip(self.starts.tolist(), ends.tolist(), strict=True))
        names = token_names(self.run.tokens.iloc[self.tokens])
        if self.in_words:
            words = word_texts(self.run, self.tokens, spans)
            names = [
                names[a] if self.is_image[a] else word or names[a] for word, (a, _) in zip(words, spans, strict=True)
            ]
        hidden = np.array([self.hidden[a:b].all() for a, b in spans], bool)
        return Column(self.tokens[self.starts], ends - self.starts, tuple(names), hidden, self.segment[self.starts])


def _weights(
    run: RunDirectory, layer: int, head: int, sequence: int, sides: list[_Side], changes: Changes
) -> FloatArray:
    """Return the weights of one head with all that is asked for."""
    queries, keys = sides
    weights = hide(
        run.attention(layer, head, sequence).weights, queries.hidden, keys.hidden, sink=has_sink(run.layers[layer])
    )
    if changes.values:
        weights = weigh_by_value(weights, run.vectors(layer, head, run.token_slice(sequence)).value_norm)
    if changes.words and weights.size:
        weights = _in_words(weights, queries, keys)
    if changes.pairs != "all":
        first, second = ("ab".index(side) for side in changes.pairs)
        kept = (queries.segment[queries.starts] == first)[:, None] & (keys.segment[keys.starts] == second)[None, :]
        weights = np.where(kept, weights, np.float32(0))
    return weights


def _in_words(weights: FloatArray, queries: _Side, keys: _Side) -> FloatArray:
    """Sum over the pieces of a key's word, then take the mean over those pieces of a query's word that are not hidden."""
    together = np.add.reduceat(weights, keys.starts, axis=1)
    total = np.add.reduceat(together, queries.starts, axis=0)
    count = np.add.reduceat((~queries.hidden).astype(np.float32), queries.starts)
    return np.asarray(total / np.maximum(count, 1)[:, None], np.float32)
