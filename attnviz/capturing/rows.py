"""Every batch checks itself: some rows of attention, rebuilt from what goes into the store, against what the model made of them.

Receives a ``Call`` of the batch with its output, and the vectors that are handed over; gives for each sequence how far
``weights @ value`` is from the output of that very call, as a share of the largest value. Two rows of every sequence and two key
heads of every layer: a mask, padding or a window that no earlier batch had shows in some row of its sequence and in all heads.
The heads take turns from layer to layer.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.attention import weights
from attnviz.capturing.contract import Call
from attnviz.capturing.windows import in_order
from attnviz.models import Batch
from attnviz.types import FloatArray, LayerInfo

__all__ = ["EXACT", "ROUNDED", "Sample", "exact_within", "sampled"]

EXACT = {"float64": 1e-5, "float32": 1e-5, "bfloat16": 3e-2, "float16": 5e-3}
"""Largest accepted difference of an attention weight, by the model's own dtype (a few units of its last place)."""

ROUNDED = 1e-2
"""Largest accepted difference of a weight after vectors were rounded to how they are stored."""

_LAST_PLACE = float(np.finfo(np.float32).eps)


def exact_within(dtype: str, head_dim: int, largest: FloatArray | float) -> FloatArray:
    """Return the largest difference of a weight that is put down to rounding.

    Parameters
    ----------
    dtype
        What the model computes in.
    head_dim
        How many products a logit sums up.
    largest
        ``|q| · |k| · scaling``, which no logit exceeds. Rounding each of ``d`` steps moves a logit by about ``√d`` units of its
        last place, in the model and in what rebuilds it, and a weight by at most half of what its logit moves (Higham, Accuracy
        and Stability of Numerical Algorithms, 2002, §2.8 and §3.1).
    """
    rounding = _LAST_PLACE * np.sqrt(head_dim) * np.asarray(largest, np.float32)
    result: FloatArray = np.maximum(np.float32(EXACT[dtype]), rounding)
    return result


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
    value: FloatArray  # (heads, sequences, keys, value_dim)
    output: FloatArray  # (heads, sequences, rows, value_dim): the model's own
    dtype: str

    def off(self, query: torch.Tensor, key: torch.Tensor) -> tuple[FloatArray, FloatArray]:
        """Return how far each sequence's rows are off, and how far rounding may take them, ``(sequences,)`` each.

        Parameters
        ----------
        query, key
            What is handed over: ``(queries, heads, head_dim)`` and ``(keys, kv_heads, head_dim)``, without padding.
        """
        own = _numpy(query[:, self.heads][self.query_rows.to(query.device)]).transpose(2, 0, 1, 3)
        keys = _numpy(key[:, self.kv_heads][self.key_rows.to(key.device)]).transpose(2, 0, 1, 3)
        shared = own.shape[0] // keys.shape[0]
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # what float16 cannot hold shows as a difference that is no number
            norms = np.linalg.norm(own, axis=-1).max(-1), np.linalg.norm(keys, axis=-1).max(-1).repeat(shared, axis=0)
            keys = keys.repeat(shared, axis=0)
            columns = np.arange(keys.shape[2])
            ours = weights(own, keys, self.info, queries=self.queries, keys=columns, held=self.held) @ self.value
            size = np.abs(self.value).max(axis=(1, 2, 3), keepdims=True)
            away = np.abs(ours - self.output) / np.maximum(size, np.finfo(np.float32).tiny)
        largest = (norms[0] * norms[1]).max(0) * self.info.scaling
        # An output is off by the sum of what its weights are off, which is four times as much as one weight may be.
        accepted = np.maximum(EXACT[self.dtype], 2 * exact_within(self.dtype, own.shape[-1], largest))
        return np.where(np.isfinite(away), away, np.inf).max(axis=(0, 2, 3)), accepted


def sampled(
    call: Call, info: LayerInfo, batch: Batch, *, windows: NDArray[np.int32] | None, rows: int = 2, heads: int = 2
) -> Sample | None:
    """Choose rows of one attention of a batch; None where the model's own output of them is not at hand.

    Parameters
    ----------
    rows
        How many of each sequence, the last one among them: it sees what a window or another text in its row leaves.
    heads
        How many key heads.
    """
    if call.output is None or not info.rebuilt:
        return None
    kv_heads, own, of_values = _chosen(call, info, heads)
    value, output = call.value[:, of_values], call.output[:, own]
    if windows is not None:
        value, output = in_order(value, windows), in_order(output, windows)
    queries, keys = (batch.lengths[stream] for stream in (info.query_stream, info.key_stream))
    chosen = np.stack(
        [np.linspace(0 if rows > 2 else count // 3, count - 1, rows).astype(np.int64) for count in queries]
    )
    width = np.arange(max(keys))
    there = width < np.array(keys)[:, None]
    starts = [np.cumsum([0, *counts])[:-1, None] for counts in (queries, keys)]
    within = np.minimum(width, np.array(keys)[:, None] - 1)
    at_queries, at_keys = batch.standing(info.query_stream, chosen), batch.standing(info.key_stream, within)
    of_head = np.arange(own.start, own.stop) // (info.num_heads // call.value.shape[1]) - of_values.start
    terms = None if info.terms is None else info.terms.of_head(own)
    return Sample(
        info=replace(info, terms=terms),
        heads=own,
        kv_heads=kv_heads,
        queries=chosen,
        query_rows=torch.from_numpy(starts[0] + chosen),
        key_rows=torch.from_numpy(starts[1] + within),
        held=there[:, None],
        value=_picked(value, at_keys)[of_head],
        output=_picked(output, at_queries),
        dtype=str(call.query.dtype).removeprefix("torch."),
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
    return _numpy(values.transpose(1, 2)[number, torch.from_numpy(places).to(values.device)]).transpose(2, 0, 1, 3)


def _numpy(values: torch.Tensor) -> FloatArray:
    result: FloatArray = values.detach().float().cpu().numpy()
    return result
