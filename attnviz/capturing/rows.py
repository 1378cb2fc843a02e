"""Every batch checks itself: some rows of attention, rebuilt from what goes into the store, against what the model made of them.

Receives a ``Call`` of the batch with its output, and the vectors that are handed over; gives for each sequence how far
``weights @ value`` is from the output of that very call, as a share of the largest value. Two rows of every sequence and one key
head of every layer: a mask, padding or a window that no earlier batch had shows in some row of its sequence and in all heads.
The heads take turns from layer to layer, and so do the sequences whose rows are rebuilt a second time, from vectors as stored:
rounding depends on the size of vectors alone, which one in four of them shows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.attention import weights
from attnviz.capturing.contract import Call
from attnviz.capturing.precision import is_half, named
from attnviz.capturing.windows import in_order
from attnviz.models import Batch
from attnviz.types import FloatArray, LayerInfo, LayerVectors

__all__ = ["EXACT", "ROUNDED", "Off", "Rows", "Sample", "accepted_of_weights", "rounding", "sampled"]

EXACT = {"float64": 1e-5, "float32": 1e-5, "bfloat16": 3e-2, "float16": 5e-3}
"""Largest accepted difference of an attention weight, by the model's own dtype (a few units of its last place)."""

ROUNDED = 1e-2
"""Largest accepted difference of a weight after vectors were rounded to how they are stored."""

_ROUGH = 0.1
"""Difference of a weight above which a dtype that rounds so far is refused, sound or not: nobody could read such weights."""

_LAST_PLACE = float(np.finfo(np.float32).eps)


def rounding(query: FloatArray, key: FloatArray, scaling: float, logits_in: str) -> FloatArray:
    """Return how far rounding may take the logits of each query, ``(..., queries)``.

    A sum of ``d`` products, the last rounding of it, and the scaling are each off by half a unit of the last place of at most
    ``|q| · |k| · scaling``; errors of steps add up as ``√d`` (Higham, Accuracy and Stability of Numerical Algorithms, 2002, §2.8
    and §3.1). Products add up in float32 in every dtype, but what is written down between steps is rounded to it: the product, its
    scaling and the sum with a mask, three times half a unit of the logit.

    Parameters
    ----------
    query, key
        ``(..., queries, head_dim)`` and ``(..., keys, head_dim)``.
    logits_in
        What the model writes its logits in: "float32" of a kernel that writes none. Of 8 trained Llamas in bfloat16 one was refused
        for what its own logits had lost (weights off by 1.2e-2 to 3.0e-2, 2026-11-28).
    """
    largest = np.linalg.norm(query, axis=-1) * np.linalg.norm(key, axis=-1).max(-1, keepdims=True) * abs(scaling)
    result: FloatArray = _LAST_PLACE / 2 * (np.sqrt(query.shape[-1]) + 3) * largest
    if is_half(logits_in):
        logits = np.abs(query @ np.swapaxes(key, -1, -2)).max(-1) * abs(scaling)
        result = result + np.float32(1.5 * torch.finfo(getattr(torch, logits_in)).eps) * logits
    return result


def accepted_of_weights(found: FloatArray, off: FloatArray, dtype: str) -> FloatArray:
    """Return the largest difference of a weight that is put down to rounding, for each row of weights.

    Where all logits of a row move by at most ``off``, a weight ``w`` moves by at most ``2 · off · w(1 - w)``: not at all where one
    key has it all, however large the logits. A BERT whose key weights are 3,000 times as large has logits of 25,000, on which the
    model's own float32 weights are up to 5e-5 off those of float64 and ours 1e-5 (MiniLM, 2026-11-28).
    """
    spread = (found * (1 - found)).max(-1, initial=0)
    result: FloatArray = np.clip(_moved(off) * spread, EXACT[dtype], _ROUGH)
    return result


def accepted_of_outputs(found: FloatArray, off: FloatArray, dtype: str) -> FloatArray:
    """Return the same of ``weights @ value``, as a share of the largest value: what all weights of a row move together."""
    spread = (found * (1 - found)).sum(-1)
    result: FloatArray = np.maximum(EXACT[dtype], _moved(off) * spread)
    return result


def _moved(off: FloatArray) -> FloatArray:
    """Return the factor of ``w(1 - w)``, which is up to ``exp(2 off)`` as large on the way there."""
    result: FloatArray = 2 * off * np.exp(2 * np.minimum(off, 1))
    return result


@dataclass(frozen=True, slots=True)
class Off:
    """How far rows of attention are from what the model made of them, ``(sequences,)`` each; see ``Sample.off``."""

    exact: FloatArray  # from vectors as the model had them
    accepted: FloatArray  # of that
    stored: FloatArray  # from vectors as they are stored
    computed_in: str  # the dtype of the model's own


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of attention a capture rebuilds to check itself."""

    number: int = 2
    """Of each sequence, the last one among them: it sees what a window or another text in its row leaves."""
    heads: int = 1  # key heads of each layer
    every: int = 4  # one sequence in so many is rebuilt from vectors as stored, too
    judge: Callable[[LayerInfo, Off], None] | None = None  # None: refuse the batch


@dataclass(frozen=True, slots=True)
class Sample:
    """Some rows of one attention. Arrays are ``(heads, sequences, …)``."""

    info: LayerInfo  # as the sampled heads see it
    heads: slice  # query heads
    kv_heads: slice
    queries: NDArray[np.int64]  # (sequences, rows): positions within their sequence
    query_rows: torch.Tensor  # (sequences, rows): where they stand among all queries of the batch
    key_rows: torch.Tensor  # (sequences, keys): the same of keys, of the longest sequence's number
    held: NDArray[np.bool_]  # (sequences, 1, keys): which of them are tokens
    value: FloatArray  # (heads or 1, sequences, keys, value_dim)
    output: FloatArray  # (heads, sequences, rows, value_dim): the model's own
    size: FloatArray  # (heads or 1, 1, 1, 1): the largest value
    dtype: str
    logits_in: str  # the dtype that logits are written in
    again: slice  # sequences that are rebuilt from vectors as stored, too

    def off(self, query: torch.Tensor, key: torch.Tensor, stored: LayerVectors) -> Off:
        """Return how far each sequence's rows are from the model's own.

        Parameters
        ----------
        query, key
            As the model had them: ``(queries, heads, head_dim)`` and ``(keys, kv_heads, head_dim)``, without padding.
        stored
            As they are handed over.
        """
        own, keys = self._chosen(query, key)
        found, exact = self._rebuilt(own, keys)
        kept = exact.copy()
        if stored.query.dtype != np.float32:
            some = self._of(self.again)
            chosen = some._chosen(torch.from_numpy(stored.query), torch.from_numpy(stored.key))
            _, kept[:, self.again] = some._rebuilt(*chosen)
        accepted = np.full_like(exact, EXACT[self.dtype])
        if (exact > accepted).any():  # which costs more than to look
            keys = _repeated(keys, len(own))
            with np.errstate(over="ignore", invalid="ignore"):
                off = accepted_of_outputs(found, rounding(own, keys, self.info.scaling, self.logits_in), self.dtype)
            accepted = np.where(np.isfinite(off), off, accepted)
        return Off(*_worst(exact, accepted), kept.max(axis=(0, 2)), self.dtype)

    def _of(self, sequences: slice) -> "Sample":
        """Return the same of some sequences."""
        tables = {name: getattr(self, name)[sequences] for name in ("queries", "query_rows", "key_rows", "held")}
        return replace(self, **tables, value=self.value[:, sequences], output=self.output[:, sequences])

    def _chosen(self, query: torch.Tensor, key: torch.Tensor) -> tuple[FloatArray, FloatArray]:
        """Return the queries and keys of the sample, ``(heads, sequences, …, head_dim)``."""
        own = query[:, self.heads][self.query_rows.to(query.device)]
        return _by_head(own), _by_head(_standing(key[:, self.kv_heads], self.key_rows))

    def _rebuilt(self, query: FloatArray, key: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return weights of the rows, and how far each row is off as a share of its head's largest value."""
        key = _repeated(key, len(query))
        columns = np.arange(key.shape[2])
        with np.errstate(over="ignore", invalid="ignore"):  # what float16 cannot hold shows as a difference that is NaN
            found = weights(query, key, self.info, queries=self.queries, keys=columns, held=self.held)
            away = np.abs(found @ self.value - self.output) / self.size
        return found, np.where(np.isfinite(away), away, np.inf).max(-1)


def _worst(away: FloatArray, accepted: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return of each sequence the row that is furthest off for what is accepted of it; given are ``(heads, sequences, rows)``."""
    away, accepted = (values.swapaxes(0, 1).reshape(values.shape[1], -1) for values in (away, accepted))
    at = (away / accepted).argmax(-1, keepdims=True)
    return np.take_along_axis(away, at, -1)[:, 0], np.take_along_axis(accepted, at, -1)[:, 0]


def sampled(
    call: Call, info: LayerInfo, batch: Batch, rows: "Rows", *, windows: NDArray[np.int32] | None
) -> Sample | None:
    """Choose rows of one attention of a batch; None where the model's own output of them is not at hand."""
    if call.output is None or not info.rebuilt:
        return None
    kv_heads, own, of_values = _chosen(call, info, rows.heads)
    value, output = call.value[:, of_values], call.output[:, own]
    if windows is not None:
        value, output = in_order(value, windows), in_order(output, windows)
    queries, keys = (batch.lengths[stream] for stream in (info.query_stream, info.key_stream))
    counts = np.array(queries)
    chosen = np.linspace(0 * counts if rows.number > 2 else counts // 3, counts - 1, rows.number, axis=-1).astype(
        np.int64
    )
    width = np.arange(max(keys))
    there = width < np.array(keys)[:, None]
    starts = [np.cumsum([0, *counts])[:-1, None] for counts in (queries, keys)]
    within = np.minimum(width, np.array(keys)[:, None] - 1)
    at_queries, at_keys = batch.standing(info.query_stream, chosen), batch.standing(info.key_stream, within)
    of_head = np.arange(own.start, own.stop) // (info.num_heads // call.value.shape[1]) - of_values.start
    terms = None if info.terms is None else info.terms.of_head(own)
    values = _by_sequence(value) if there.all() and value.shape[2] == len(width) else _picked(value, at_keys)
    values = values if len(values) == 1 else values[of_head]
    every = min(rows.every, len(queries))
    return Sample(
        info=replace(info, terms=terms),
        heads=own,
        kv_heads=kv_heads,
        queries=chosen,
        query_rows=torch.from_numpy(starts[0] + chosen),
        key_rows=torch.from_numpy(starts[1] + within),
        held=there[:, None],
        value=values,
        output=_picked(output, at_queries),
        size=_largest(values),
        dtype=named(call.computed_in),
        logits_in=named(call.computed_in) if call.weights is not None or info.seam == "softmax" else "float32",
        again=slice(info.layer % every, None, every),
    )


def _chosen(call: Call, info: LayerInfo, heads: int) -> tuple[slice, slice, slice]:
    """Return key heads, other ones in each layer, with the query heads and the value heads that belong to them."""
    some = min(heads, info.num_kv_heads)
    first = info.layer * some % (info.num_kv_heads - some + 1)
    shared = info.num_heads // info.num_kv_heads
    own = slice(first * shared, (first + some) * shared)
    apart = info.num_heads // call.value.shape[1]
    return slice(first, first + some), own, slice(own.start // apart, (own.stop - 1) // apart + 1)


def _picked(values: torch.Tensor, places: NDArray[np.int64]) -> FloatArray:
    """Return ``(heads, sequences, places, …)`` of ``(sequences, heads, tokens, …)``."""
    number = torch.arange(len(values), device=values.device)[:, None]
    return _by_head(values.transpose(1, 2)[number, torch.from_numpy(places).to(values.device)])


def _by_sequence(values: torch.Tensor) -> FloatArray:
    """Return ``(heads, sequences, tokens, …)`` of ``(sequences, heads, tokens, …)``, without a copy where it can be."""
    return _by_head(values.transpose(1, 2))


def _standing(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return ``values[rows]``, without a copy where the rows are all there are, in order."""
    if rows.numel() == len(values):
        return values.reshape(*rows.shape, *values.shape[1:])
    return values[rows.to(values.device)]


def _by_head(values: torch.Tensor) -> FloatArray:
    """Return ``(heads, sequences, places, …)`` of ``(sequences, places, heads, …)``."""
    values = values.detach().cpu()
    values = values.float() if values.dtype == torch.bfloat16 else values  # which numpy lacks
    result: FloatArray = values.numpy().astype(np.float32, copy=False)
    return result.transpose(2, 0, 1, 3)


def _repeated(key: FloatArray, heads: int) -> FloatArray:
    """Give each query head its keys; those of a single key head are shared as they are."""
    return key if len(key) == 1 else key.repeat(heads // len(key), axis=0)


def _largest(value: FloatArray) -> FloatArray:
    """Return the largest value of each head, but no less than a number can be divided by."""
    axes = (1, 2, 3)
    largest = np.maximum(value.max(axis=axes, keepdims=True), -value.min(axis=axes, keepdims=True))
    result: FloatArray = np.maximum(largest, np.finfo(np.float32).tiny)
    return result
