"""Attention rebuilt from stored queries and keys: the one place that knows the formula.

Attention is never stored as n × n matrices; every view and metric asks here. What a layer does to ``q·k`` is in its
``LayerInfo``: RoPE where the vectors lack it, scaling, soft-capping, bias, the mask, and in the sum of softmax its sink.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attnviz.types import FloatArray, LayerInfo, Sequences, Terms

__all__ = ["Reach", "bias", "logits", "logsumexp", "rotated", "visible", "weights", "within_sequences"]

Positions = NDArray[np.integer] | None
_NOTHING = Terms()


def visible(queries: NDArray[np.integer] | int, keys: NDArray[np.integer] | int, layer: LayerInfo) -> NDArray[np.bool_]:
    """Return which keys each query may see, ``(..., queries, keys)``.

    A causal query sees its own position and earlier ones; with a window, only keys less than ``layer.window`` away; with chunks or
    groups, only keys of its own.

    Parameters
    ----------
    queries, keys
        Their positions in the sequence, or how many there are from its start. Those of several sequences have an axis before.
    """
    rows = (queries if isinstance(queries, np.ndarray) else np.arange(queries))[..., None]
    columns = (keys if isinstance(keys, np.ndarray) else np.arange(keys))[..., None, :]
    seen = columns <= rows if layer.causal else np.ones(np.broadcast_shapes(rows.shape, columns.shape), dtype=bool)
    if layer.window is not None:
        seen &= np.abs(rows - columns) < layer.window
    if layer.chunk is not None:
        seen &= rows // layer.chunk == columns // layer.chunk
    if layer.terms is not None and layer.terms.group is not None:
        seen &= layer.terms.group[rows] == layer.terms.group[columns]
    return seen


def bias(queries: NDArray[np.integer], keys: NDArray[np.integer], terms: Terms) -> FloatArray | None:
    """Return what is added to the logits of pairs of positions, ``(..., queries, keys)``; None if nothing is."""
    if terms.by_distance is not None:
        reach = terms.by_distance.shape[-1] // 2
        distance = keys[..., None, :] - queries[..., None]
        between: FloatArray = terms.by_distance[..., np.clip(distance + reach, 0, 2 * reach)]
        return between
    if terms.by_place is None:
        return None
    rows, columns = (which if terms.place is None else terms.place[which] for which in (queries, keys))
    placed: FloatArray = terms.by_place[..., rows[..., None], columns[..., None, :]]
    return placed


def rotated(vectors: FloatArray, positions: NDArray[np.integer], layer: LayerInfo) -> FloatArray:
    """Return vectors with the RoPE that they still lack; as they are, where they lack none. ``(..., positions, head_dim)``."""
    if layer.terms is None or layer.terms.rotation is None:
        return vectors
    cosine, sine = layer.terms.rotation[:, positions]
    result: FloatArray = vectors * cosine + vectors[..., layer.terms.partner] * sine
    return result


def logits(
    query: FloatArray,
    key: FloatArray,
    layer: LayerInfo,
    *,
    queries: Positions = None,
    keys: Positions = None,
    held: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Return the logits of one sequence, ``(..., queries, keys)``; keys that may not be seen are ``-inf``.

    Parameters
    ----------
    query, key
        ``(..., queries, head_dim)`` and ``(..., keys, head_dim)``, of one sequence. Where they are of one head, without an axis of
        heads, ``layer`` is ``LayerInfo.of_head``.
    layer
        What the layer does to ``q·k``.
    queries, keys
        Their positions in the sequence; all from its start, if not given. Those of several sequences have an axis before, the last
        of the vectors' own leading axes.
    held
        Which keys are tokens, where sequences are padded to one length; broadcasts to the logits.
    """
    terms = layer.terms or _NOTHING
    rows = np.arange(query.shape[-2]) if queries is None else queries
    columns = np.arange(key.shape[-2]) if keys is None else keys
    query, key = rotated(query, rows, layer), rotated(key, columns, layer)
    # In float64, rounded: a float32 product gives equal vectors unequal numbers at the edges of its blocks, by the processor.
    products = np.matmul(query, np.swapaxes(key, -1, -2), dtype=np.float64).astype(np.float32)
    scores = products * np.float32(layer.scaling)
    if layer.softcap is not None:
        scores = layer.softcap * np.tanh(scores / layer.softcap)
    if (added := bias(rows, columns, terms)) is not None:
        scores = scores + added
    seen = visible(rows, columns, layer)
    return np.where(seen if held is None else seen & held, scores, -np.inf).astype(np.float32)


def logsumexp(scores: FloatArray, sinks: FloatArray | None = None) -> FloatArray:
    """Return log Σ exp over the keys, and over the head's sink where it has one, ``(..., queries)``; -inf of no key at all."""
    largest, parts = _parts(scores, sinks)
    with np.errstate(divide="ignore"):
        return largest + np.log(_total(parts, largest, sinks))


def weights(
    query: FloatArray,
    key: FloatArray,
    layer: LayerInfo,
    *,
    queries: Positions = None,
    keys: Positions = None,
    held: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Return softmax attention of one sequence, ``(..., queries, keys)``; rows sum to 1, to less with a sink, to 0 without a key.

    Arguments as for ``logits``. Parts are divided by their sum: ``exp(logit - logsumexp)`` loses the digits that large logits have
    before the point (5.6e-5 of a weight at logits of 3,000, against 1.2e-7; 2026-11-28).
    """
    scores = logits(query, key, layer, queries=queries, keys=keys, held=held)
    sinks = layer.terms.sinks if layer.terms is not None else None
    largest, parts = _parts(scores, sinks)
    total = _total(parts, largest, sinks)
    parts /= np.where(total > 0, total, 1)[..., None]
    return parts


def _parts(scores: FloatArray, sinks: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Return the largest logit of each row, that of the sink included, and the exponentials of what each lacks to it."""
    largest: FloatArray = scores.max(axis=-1, initial=-np.inf)
    if sinks is not None:
        largest = np.maximum(largest, _of_rows(sinks, largest))
    largest = _finite(largest)
    return largest, np.exp(scores - largest[..., None])


def _total(parts: FloatArray, largest: FloatArray, sinks: FloatArray | None) -> FloatArray:
    total: FloatArray = parts.sum(axis=-1)
    return total if sinks is None else total + np.exp(_of_rows(sinks, largest) - largest)


def _of_rows(sinks: FloatArray, rows: FloatArray) -> FloatArray:
    """Give sinks, ``(heads,)`` or of one head, as many axes as rows, ``(heads, ..., queries)``, have."""
    given = np.asarray(sinks)
    return given.reshape(given.shape + (1,) * (rows.ndim - given.ndim))


def _finite(of_rows: FloatArray) -> FloatArray:
    """Return numbers of rows, 0 in place of -inf: a query that may see no key gives nothing, and -inf less -inf is no number."""
    return np.where(np.isneginf(of_rows), np.float32(0), of_rows)


@dataclass(frozen=True, slots=True)
class Reach:
    """The keys that each query may see in its sequence: ``first`` to ``stop - 1``, ``(queries,)`` each.

    One stretch of keys, told by the query's position: a sequence of any length costs as much as its tokens, not as their square.
    """

    first: NDArray[np.int64]
    stop: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequences) -> "Reach":
        """Return the reach of every query of a head."""
        lengths, layer = np.diff(sequences.bounds), sequences.layer
        first, stop = (np.repeat(bounds, lengths) for bounds in (sequences.key_bounds[:-1], sequences.key_bounds[1:]))
        if not (layer.causal or layer.window or layer.chunk):
            return cls(first, stop)
        position = np.arange(sequences.bounds[-1]) - np.repeat(sequences.bounds[:-1], lengths)
        longest = int(lengths.max())
        rule = replace(layer, chunk=None, terms=None)  # which depends on the distance alone
        back = int(visible(longest, 1, rule).sum()) - 1  # the mask of every later query on the first key
        ahead = int(visible(1, longest, rule).sum())
        begin = position - back
        if layer.chunk is not None:
            begin = np.maximum(begin, position // layer.chunk * layer.chunk)
            ahead = ahead if layer.causal else longest
            stop = np.minimum(stop, first + (position // layer.chunk + 1) * layer.chunk)
        return cls(np.maximum(first, first + begin), np.minimum(stop, first + position + ahead))

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many keys each query sees."""
        return self.stop - self.first


def within_sequences(
    query: FloatArray, key: FloatArray, sequences: Sequences
) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Yield for each sequence of one head which queries and keys stand in it, and their attention weights, ``(queries, keys)``."""
    for (first, last), (first_key, last_key) in zip(
        itertools.pairwise(sequences.bounds), itertools.pairwise(sequences.key_bounds), strict=True
    ):
        rows, columns = slice(int(first), int(last)), slice(int(first_key), int(last_key))
        where = None if sequences.positions is None else sequences.positions[rows]
        yield rows, columns, weights(query[rows], key[columns], sequences.layer, queries=where, keys=where)
