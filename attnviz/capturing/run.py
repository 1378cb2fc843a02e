"""Capture: run a model on a batch and hand over, layer by layer, its queries and keys with padding removed.

The only quantity computed here that the model did not, or did not tell (``sums``), is the log-sum-exp of each query's logits (one
more ``q·k``, in blocks of rows, so that no n × n matrix of all heads exists): with it the weight of any single pair costs one dot
product later.

Cost (``tests/bench/capture.py``, 2 shared and busy cores, 2026-11-28, four runs): MiniLM 1.09 to 1.14 × the plain forward pass, a
Llama of 8 × 8 heads 1.07 to 1.15 ×, ViT-S/16 1.07 to 1.16 ×, of which every batch's check of itself is 2.6 to 4.0 %; toys, with
little to compute, 1.3 × and 1.6 ×. The peak memory of eight times the sequences is 1.01 × as large, that of a text of 8,192 tokens
1.17 × the plain pass's. MiniLM took 1.28 × with the log-sum-exp of a whole batch at once (9 ms a layer,
against 4 in blocks of 1 MB), rounding in numpy, and fresh memory for every shard.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.attention import bias, visible
from attnviz.capturing.contract import Backend, Call, with_kv_heads
from attnviz.capturing.precision import in_float32, is_half, not_held
from attnviz.capturing.rows import ROUNDED, Off, Rows, sampled
from attnviz.capturing.windows import in_order, merged, opened
from attnviz.errors import CaptureError
from attnviz.models import Batch, LoadedModel
from attnviz.types import FloatArray, LayerInfo, LayerVectors, Terms

__all__ = ["BACKENDS", "SEAMS", "Off", "Rows", "Sink", "capture", "layer_vectors"]

Sink = Callable[[LayerVectors], None]


_USUAL = Rows()
_BLOCK = 1 << 18  # logits held at a time: 1 MB, what a processor's cache holds
_BLOCK_OF_GPU = 1 << 26


def capture(
    model: LoadedModel,
    batch: Batch,
    layers: Sequence[LayerInfo],
    sink: Sink,
    *,
    only: Container[int] | None = None,
    dtype: str = "float32",
    names: Sequence[str] = (),
    rows: Rows = _USUAL,
    forward: Callable[[Batch], Any] | None = None,
) -> Any:
    """Run ``model`` on ``batch``, call ``sink`` with each layer's vectors, and return the model's output.

    Parameters
    ----------
    layers
        What ``capture.check.inspect`` found, one for each attention that the model runs; its order is the model's.
    sink
        Receives ``LayerVectors`` as soon as its layer has run, so that one layer is held at a time.
    only
        Numbers of the layers to hand over; all, if not given.
    dtype
        ``"float32"``, or ``"float16"``: of queries and keys. Rounded here, where torch does it on all cores.
    names
        What to call each sequence of the batch in an error.
    rows
        Which rows of attention are rebuilt from what is handed over, and what is done with how far they are off.
    forward
        What runs the model, and whose output is returned: its classifier, where class logits are wanted.

    Raises
    ------
    CaptureError
        If the model runs other attentions than those that were checked, if rows rebuilt from what is handed over are not the
        model's own, or if it hands over values that ``dtype`` cannot hold.
    """
    seen = 0
    judge = rows.judge or partial(_require_own, model, names)

    def see(call: Call) -> None:
        """Hand over one attention, if it is the one that comes next."""
        nonlocal seen
        if seen >= len(layers) or call.name != layers[seen].name:
            raise CaptureError(
                f"{model.info.id} ran {call.name!r} as attention number {seen}, which the check had not seen."
            )
        info = layers[seen]
        seen += 1
        if only is not None and info.layer not in only:
            return
        call = with_kv_heads(call, info.num_kv_heads)
        windows = model.windows.get(info.name)
        columns = _columns(call, info, batch, windows)
        vectors = _kept(columns, call, info, getattr(torch, dtype), model)
        sample = sampled(call, info, batch, rows, windows=windows)
        if sample is not None:
            judge(info, sample.off(columns["query"], columns["key"], vectors))
        sink(vectors)

    with BACKENDS[layers[0].seam]()(model.module, see):
        output = (forward or model.forward)(batch)
    if seen != len(layers):
        raise CaptureError(f"{model.info.id} ran {seen} attentions on this batch; the check had seen {len(layers)}.")
    return output


def layer_vectors(call: Call, info: LayerInfo, batch: Batch, dtype: torch.dtype, *, model: LoadedModel) -> LayerVectors:
    """Return one layer's vectors with padding removed, and the log-sum-exp of each query's logits.

    Raises
    ------
    CaptureError
        If ``dtype`` cannot hold a value, or a value is not finite, or RoPE cannot be taken off though ``info`` says so.
    """
    return _kept(_columns(call, info, batch, model.windows.get(info.name)), call, info, dtype, model)


def _columns(call: Call, info: LayerInfo, batch: Batch, windows: NDArray[np.int32] | None) -> dict[str, torch.Tensor]:
    """Return what ``LayerVectors`` holds, in float32 and where the model runs."""
    held = [
        torch.from_numpy(batch.held(stream, values.shape[2] if windows is None else max(batch.lengths[stream])))
        for stream, values in ((info.query_stream, call.query), (info.key_stream, call.key))
    ]
    if windows is not None:
        normalisers = in_order(_windowed_logsumexp(call, info, windows)[..., None], windows)[..., 0]
        call = merged(call, windows)
    else:
        normalisers = _spread_logsumexp(call, info, batch)
    call = _unrotated(call) if info.rope == "before" else call
    return {
        "query": _rows(call.query, held[0]),
        "key": _rows(call.key, held[1]),
        "value_norm": _rows(torch.linalg.vector_norm(call.value.float(), dim=-1), held[1]),
        "logsumexp": _rows(normalisers, held[0]),
    }


def _kept(
    columns: dict[str, torch.Tensor], call: Call, info: LayerInfo, dtype: torch.dtype, model: LoadedModel
) -> LayerVectors:
    """Return columns as they are stored."""
    vectors: dict[str, torch.Tensor] = {}
    for name, values in columns.items():
        kept = dtype if name in ("query", "key") else torch.float32
        vectors[name] = values.to(kept)
        if not all(map(torch.isfinite, vectors[name].aminmax())):  # of what is stored, which is half as much to read
            raise not_held(model, call, info, name, values, kept)
    return LayerVectors(info.layer, **{name: values.cpu().numpy() for name, values in vectors.items()})


def _require_own(model: LoadedModel, names: Sequence[str], info: LayerInfo, off: Off) -> None:
    """Refuse a batch whose rows are not the model's own, naming the sequence that is furthest off."""
    for away, accepted, of, advice in (
        (
            off.exact,
            off.accepted,
            "queries and keys",
            _other_rule(model, off.computed_in),
        ),
        (off.stored, off.accepted + 2 * ROUNDED, "float16 vectors", "Set capture.dtype = 'float32'."),
    ):
        if (away <= accepted).all():
            continue
        worst = int((away / accepted).argmax())
        name = names[worst] if names else f"sequence {worst} of its batch"
        raise CaptureError(
            f"{model.info.id} is refused at {name}: in layer {info.label} ({info.name}), what attention from {of} makes of "
            f"its values differs from the model's own by {away[worst]:.1e} of the largest; at most {accepted[worst]:.0e} is "
            f"accepted. {advice}"
        )


def _other_rule(model: LoadedModel, computed_in: str) -> str:
    why = "It is masked, padded or biased in another way than what was checked."
    if not is_half(computed_in):
        return why
    return f"{why[:-1]}, or {computed_in} rounds so far. {in_float32(model)}"


def _unrotated(call: Call) -> Call:
    plain = call.unrotated() if call.unrotated is not None else None
    if plain is None:
        raise CaptureError(
            f"{call.name} does not turn its queries and keys in a way that can be taken off. Set capture.rope = 'after'."
        )
    return replace(call, query=plain.query, key=plain.key)


def _spread_logsumexp(call: Call, info: LayerInfo, batch: Batch) -> torch.Tensor:
    """Return what ``_logsumexp`` does, at the positions where the queries stand: as the kernel told it, if it did."""
    if call.logsumexp is not None and info.softcap is None and (info.terms is None or info.terms.sinks is None):
        return call.logsumexp
    lengths = batch.lengths[info.query_stream], batch.lengths[info.key_stream]
    if not batch.places.keys() & {info.query_stream, info.key_stream}:
        return _logsumexp(call, info, *lengths)
    orders = [
        torch.from_numpy(batch.standing(stream, np.tile(np.arange(max(counts)), (len(counts), 1))))
        for stream, counts in zip((info.query_stream, info.key_stream), lengths, strict=True)
    ]
    number = torch.arange(len(call.query))[:, None]
    query, key = (
        values.transpose(1, 2)[number, order].transpose(1, 2)
        for values, order in zip((call.query, call.key), orders, strict=True)
    )
    found = _logsumexp(replace(call, query=query, key=key), info, *lengths)
    result = torch.zeros(call.query.shape[:3], device=found.device)
    result.transpose(1, 2)[number, orders[0]] = found.transpose(1, 2)
    return result


def _held(lengths: tuple[int, ...], vectors: torch.Tensor) -> torch.Tensor:
    """Return which padded positions of ``(batch, heads, tokens, head_dim)`` hold a token, ``(batch, tokens)``."""
    counts = torch.tensor(lengths, device=vectors.device)
    return torch.arange(vectors.shape[2], device=vectors.device) < counts[:, None]


def _rows(values: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """Turn ``(batch, heads, tokens, …)`` into ``(tokens, heads, …)`` without padding."""
    by_token = values.transpose(1, 2)
    return (by_token.flatten(0, 1) if bool(held.all()) else by_token[held.to(values.device)]).float()


def _logsumexp(call: Call, info: LayerInfo, queries: tuple[int, ...], keys: tuple[int, ...]) -> torch.Tensor:
    """Return log Σ exp of each query's logits over the keys it may see, ``(batch, heads, queries)``.

    In blocks that stay in the processor's cache, some sequences and some rows at a time, each group as wide as its longest.
    """
    batch, heads, tokens, _ = call.query.shape
    device = call.query.device
    block = _BLOCK if device.type == "cpu" else _BLOCK_OF_GPU
    result = torch.zeros((batch, heads, tokens), device=device)
    first = 0
    while first < batch:
        last = first + max(1, block // (heads * queries[first] * keys[first]))
        high, width = max(queries[first:last]), max(keys[first:last])
        query, key = call.query[first:last, :, :high].float(), call.key[first:last, :, :width].float()
        query = query.reshape(len(query), key.shape[1], -1, *query.shape[2:])  # kv_heads, the heads of each
        held = _held(keys[first:last], key)
        rows = max(1, block // (heads * width * len(query)))
        for start in range(0, high, rows):
            stop = min(start + rows, high)
            logits = query[..., start:stop, :] @ key[:, :, None].transpose(-1, -2)
            result[first:last, :, start:stop] = _normalizer(logits.flatten(1, 2), info, held, start)
        first = last
    return result


def _normalizer(logits: torch.Tensor, info: LayerInfo, held: torch.Tensor, start: int) -> torch.Tensor:
    """Turn raw q·k of some rows, ``(batch, heads, rows, keys)``, into its log-sum-exp, in place where it can be."""
    terms = info.terms or Terms()
    logits.mul_(info.scaling)
    if info.softcap is not None:
        logits.div_(info.softcap).tanh_().mul_(info.softcap)
    rows, keys = np.arange(start, start + logits.shape[-2]), np.arange(logits.shape[-1])
    if (added := bias(rows, keys, terms)) is not None:
        logits.add_(torch.from_numpy(added).to(logits))
    if (hidden := _hidden(info, held, rows, keys)) is not None:
        logits.masked_fill_(hidden, -torch.inf)
    return _summed(logits, terms.sinks)


def _summed(logits: torch.Tensor, sinks: FloatArray | None) -> torch.Tensor:
    """Return log Σ exp over the last axis, and over each head's sink."""
    largest = logits.amax(-1, keepdim=True)
    if sinks is None:
        return logits.sub_(largest).exp_().sum(-1).log_().add_(largest[..., 0])
    sink = torch.from_numpy(sinks).to(logits)[:, None, None]
    largest = torch.maximum(largest, sink)
    return (logits.sub_(largest).exp_().sum(-1) + (sink - largest).exp()[..., 0]).log_().add_(largest[..., 0])


def _hidden(
    info: LayerInfo, held: torch.Tensor, rows: NDArray[np.integer], keys: NDArray[np.integer]
) -> torch.Tensor | None:
    """Return which keys a block of queries may not see, ``(batch, 1, rows, keys)``; None if they see all."""
    hidden = None if bool(held.all()) else ~held[:, None, None, :]
    grouped = info.terms is not None and info.terms.group is not None
    if info.causal or info.window is not None or info.chunk is not None or grouped:
        outside = torch.from_numpy(~visible(rows, keys, info)).to(held.device)
        hidden = outside if hidden is None else hidden | outside
        # A padded query may see nothing at all; its row is dropped afterwards, but must not poison the block.
        hidden = hidden & torch.from_numpy(rows[:, None] != keys).to(held.device)
    return hidden


def _windowed_logsumexp(call: Call, info: LayerInfo, windows: NDArray[np.integer]) -> torch.Tensor:
    """Return log Σ exp of each query's logits over what it sees of its window, ``(batch * windows, heads, places)``."""
    assert info.terms is not None
    assert info.terms.group is not None
    assert info.terms.by_place is not None
    logits = (call.query.float() @ call.key.float().transpose(-1, -2)).mul_(info.scaling)
    logits += torch.from_numpy(info.terms.by_place).to(logits)
    group = np.where(windows >= 0, info.terms.group[windows], -1)
    apart = torch.from_numpy(group[:, :, None] != group[:, None, :]).to(logits.device)
    opened(logits, len(windows)).masked_fill_(apart[:, None], -torch.inf)
    return _summed(logits, info.terms.sinks)


def _interface() -> Backend:
    from attnviz.capturing.transformers import watch

    return watch


def _sdpa() -> Backend:
    from attnviz.capturing.torch_sdpa import watch

    return watch


def _softmax() -> Backend:
    from attnviz.capturing.torch_softmax import watch

    return watch


BACKENDS: dict[str, Callable[[], Backend]] = {"interface": _interface, "sdpa": _sdpa, "softmax": _softmax}
"""One line per seam: what gives its backend (imported only when used)."""

SEAMS = {"transformers": ("interface", "sdpa", "softmax"), "timm": ("sdpa", "softmax"), "torch": ("sdpa", "softmax")}
"""Which seams are tried for a library's models, in this order: the first that hands something over is the model's."""
