"""Capture: run a model on a batch and hand over, layer by layer, its queries and keys with padding removed.

The only quantity computed here that the model did not is the log-sum-exp of each query's logits (one more ``q·k``, in blocks
of rows, so that no n × n matrix of all heads exists): with it the weight of any single pair costs one dot product later.

Cost (``tests/bench/capture.py``, MiniLM, 2 shared cores, 2026-11-21): 1.14 × the plain forward pass, and the same peak memory
for eight times the sequences. It was 1.28 × with the log-sum-exp of a whole batch at once (9 ms a layer, against 4 in blocks of
1 MB), rounding in numpy, and fresh memory for every shard.
"""

from collections.abc import Callable, Container, Sequence

import torch

from attnviz.capture.contract import Backend, Call
from attnviz.errors import CaptureError
from attnviz.models import Batch, LoadedModel
from attnviz.types import LayerInfo, LayerVectors

__all__ = ["BACKENDS", "Sink", "backend_of", "capture", "layer_vectors"]

Sink = Callable[[LayerVectors], None]

_BLOCK = 1 << 18  # logits held at a time: 1 MB


def backend_of(model: LoadedModel) -> Backend:
    """Return the backend for a model's library."""
    return BACKENDS[model.info.library]()


def capture(
    model: LoadedModel,
    batch: Batch,
    layers: Sequence[LayerInfo],
    sink: Sink,
    *,
    only: Container[int] | None = None,
    dtype: str = "float32",
) -> torch.Tensor:
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

    Raises
    ------
    CaptureError
        If the model runs other attentions than those that were checked, or hands over values that ``dtype`` cannot hold.
    """
    seen = 0

    def see(call: Call) -> None:
        """Hand over one attention, if it is the one that comes next."""
        nonlocal seen
        if seen >= len(layers) or call.name != layers[seen].name:
            raise CaptureError(
                f"{model.info.id} ran {call.name!r} as attention number {seen}, which the check had not seen."
            )
        info = layers[seen]
        seen += 1
        if only is None or info.layer in only:
            sink(layer_vectors(call, info, batch.lengths[""], getattr(torch, dtype)))

    with backend_of(model)(model.module, see):
        output = model.forward(batch)
    if seen != len(layers):
        raise CaptureError(f"{model.info.id} ran {seen} attentions on this batch; the check had seen {len(layers)}.")
    return output


def layer_vectors(call: Call, info: LayerInfo, lengths: tuple[int, ...], dtype: torch.dtype) -> LayerVectors:
    """Return one layer's vectors with padding removed, and the log-sum-exp of each query's logits.

    Raises
    ------
    CaptureError
        If ``dtype`` cannot hold a value, or a value is not finite.
    """
    counts = torch.tensor(lengths, device=call.query.device)
    held = torch.arange(call.query.shape[2], device=call.query.device) < counts[:, None]
    columns = {
        "query": _rows(call.query, held),
        "key": _rows(call.key, held),
        "value_norm": _rows(torch.linalg.vector_norm(call.value.float(), dim=-1), held),
        "logsumexp": _rows(_logsumexp(call, info, lengths), held),
    }
    for name, values in columns.items():
        low, high = (float(extreme) for extreme in values.aminmax())
        if not -torch.finfo(dtype).max <= low <= high <= torch.finfo(dtype).max:  # nor is NaN within
            raise CaptureError(
                f"Layer {info.layer} ({info.name}) has {name} values from {low:.3g} to {high:.3g}, not finite in {dtype}. Set "
                "capture.dtype = 'float32'; if it stays so, set model.dtype = 'float32'."
            )
    vectors = {name: columns[name].to(dtype) for name in ("query", "key")}
    return LayerVectors(info.layer, **{name: values.cpu().numpy() for name, values in (columns | vectors).items()})


def _rows(values: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """Turn ``(batch, heads, tokens, …)`` into ``(tokens, heads, …)`` without padding."""
    return values.transpose(1, 2)[held].float()


def _logsumexp(call: Call, info: LayerInfo, lengths: tuple[int, ...]) -> torch.Tensor:
    """Return log Σ exp of each query's logits over the keys it may see, ``(batch, heads, tokens)``.

    In blocks that stay in the processor's cache, some sequences and some rows at a time, each group as wide as its longest.
    """
    batch, heads, tokens, _ = call.query.shape
    result = torch.zeros((batch, heads, tokens), device=call.query.device)
    first = 0
    while first < batch:
        last = first + max(1, _BLOCK // (heads * lengths[first] ** 2))
        width = max(lengths[first:last])
        query, key = (values[first:last, :, :width].float() for values in (call.query, call.key))
        query = query.reshape(len(query), key.shape[1], heads // key.shape[1], width, -1)  # kv_heads, the heads of each
        held = (
            torch.arange(width, device=query.device) < torch.tensor(lengths[first:last], device=query.device)[:, None]
        )
        rows = max(1, _BLOCK // (heads * width * len(query)))
        for start in range(0, width, rows):
            stop = min(start + rows, width)
            logits = query[..., start:stop, :] @ key[:, :, None].transpose(-1, -2)
            result[first:last, :, start:stop] = _normalizer(logits, info, held, start).flatten(1, 2)
        first = last
    return result


def _normalizer(logits: torch.Tensor, info: LayerInfo, held: torch.Tensor, start: int) -> torch.Tensor:
    """Turn raw q·k into its log-sum-exp, in place where it can be."""
    logits.mul_(info.scaling)
    if info.softcap is not None:
        logits.div_(info.softcap).tanh_().mul_(info.softcap)
    if (hidden := _hidden(info, held, start, logits.shape[-2])) is not None:
        logits.masked_fill_(hidden, -torch.inf)
    largest = logits.amax(-1, keepdim=True)
    return logits.sub_(largest).exp_().sum(-1).log_().add_(largest[..., 0])


def _hidden(info: LayerInfo, held: torch.Tensor, start: int, rows: int) -> torch.Tensor | None:
    """Return which keys a block of queries may not see, ``(batch, 1, 1, rows, tokens)``; None if they see all."""
    tokens = held.shape[1]
    hidden = None if bool(held.all()) else ~held[:, None, None, None, :]
    if info.causal or info.window is not None:
        positions = torch.arange(tokens, device=held.device)
        distance = positions[start : start + rows, None] - positions[None, :]
        outside = distance < 0 if info.causal else torch.zeros_like(distance, dtype=torch.bool)
        if info.window is not None:
            outside = outside | (distance.abs() >= info.window)
        hidden = outside if hidden is None else hidden | outside
        # A padded query may see nothing at all; its row is dropped afterwards, but must not poison the block.
        hidden = hidden & ~torch.eye(tokens, dtype=torch.bool, device=held.device)[start : start + rows]
    return hidden


def _transformers() -> Backend:
    from attnviz.capture.transformers import watch

    return watch


def _torch_sdpa() -> Backend:
    from attnviz.capture.torch_sdpa import watch

    return watch


BACKENDS: dict[str, Callable[[], Backend]] = {"transformers": _transformers, "timm": _torch_sdpa}
"""One line per library: what gives its backend (imported only when used)."""
