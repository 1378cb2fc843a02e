"""Capture: run a model on a batch and hand over, layer by layer, its queries and keys with padding removed.

The only quantity computed here that the model did not is the log-sum-exp of each query's logits (one more ``q·k``, in blocks
of rows, so that no n × n matrix of all heads exists): with it the weight of any single pair costs one dot product later.
"""

from collections.abc import Callable, Container, Sequence

import numpy as np
import torch

from attnviz.capture.contract import Backend, Call
from attnviz.errors import CaptureError
from attnviz.models import Batch, LoadedModel
from attnviz.types import FloatArray, LayerInfo, LayerVectors

__all__ = ["BACKENDS", "Sink", "backend_of", "capture", "layer_vectors"]

Sink = Callable[[LayerVectors], None]

_BLOCK = 1 << 24  # logits held at a time


def backend_of(model: LoadedModel) -> Backend:
    """Return the backend for a model's library."""
    return BACKENDS[model.info.library]()


def capture(
    model: LoadedModel, batch: Batch, layers: Sequence[LayerInfo], sink: Sink, *, only: Container[int] | None = None
) -> torch.Tensor:
    """Run ``model`` on ``batch``, call ``sink`` with each layer's vectors, and return the model's output.

    Parameters
    ----------
    layers
        What ``capture.check.inspect`` found, one for each attention that the model runs; its order is the model's.
    only
        Numbers of the layers to hand over; all, if not given.
    sink
        Receives ``LayerVectors`` as soon as its layer has run, so that one layer is held at a time.

    Raises
    ------
    CaptureError
        If the model runs other attentions than those that were checked, or hands over values that are not finite.
    """
    seen = 0

    def see(call: Call) -> None:
        nonlocal seen
        if seen >= len(layers) or call.name != layers[seen].name:
            raise CaptureError(
                f"{model.info.id} ran {call.name!r} as attention number {seen}, which the check had not seen."
            )
        info = layers[seen]
        seen += 1
        if only is None or info.layer in only:
            sink(layer_vectors(call, info, batch.lengths))

    with backend_of(model)(model.module, see):
        output = model.forward(batch)
    if seen != len(layers):
        raise CaptureError(f"{model.info.id} ran {seen} attentions on this batch; the check had seen {len(layers)}.")
    return output


def layer_vectors(call: Call, info: LayerInfo, lengths: tuple[int, ...]) -> LayerVectors:
    """Return one layer's vectors with padding removed, and the log-sum-exp of each query's logits.

    Raises
    ------
    CaptureError
        If a value is not finite.
    """
    held = (
        torch.arange(call.query.shape[2], device=call.query.device)[None]
        < torch.tensor(lengths, device=call.query.device)[:, None]
    )
    vectors = LayerVectors(
        layer=info.layer,
        query=_rows(call.query, held),
        key=_rows(call.key, held),
        value_norm=_rows(torch.linalg.vector_norm(call.value.float(), dim=-1), held),
        logsumexp=_rows(_logsumexp(call, info, held), held),
    )
    if not (np.isfinite(vectors.logsumexp).all() and np.isfinite(vectors.value_norm).all()):
        raise CaptureError(
            f"Layer {info.layer} ({info.name}) gave values that are not finite. Try model.dtype = 'float32'."
        )
    return vectors


def _rows(values: torch.Tensor, held: torch.Tensor) -> FloatArray:
    """Turn ``(batch, heads, tokens, …)`` into ``(tokens, heads, …)`` without padding."""
    return values.transpose(1, 2)[held].float().cpu().numpy()


def _logsumexp(call: Call, info: LayerInfo, held: torch.Tensor) -> torch.Tensor:
    """Return log Σ exp of each query's logits over the keys it may see, ``(batch, heads, tokens)``."""
    batch, heads, tokens, _ = call.query.shape
    query, key = call.query.float() * info.scaling, call.key.float()
    query = query.reshape(batch, key.shape[1], heads // key.shape[1], tokens, -1)  # kv_heads, then the heads of each
    key = key[:, :, None].transpose(-1, -2)
    rows = max(1, _BLOCK // max(1, batch * heads * tokens))
    blocks = []
    for start in range(0, tokens, rows):
        logits = query[..., start : start + rows, :] @ key
        if info.softcap is not None:
            logits = info.softcap * torch.tanh(logits / info.softcap)
        if (hidden := _hidden(info, held, start, logits.shape[-2])) is not None:
            logits = logits.masked_fill_(hidden, -torch.inf)
        blocks.append(torch.logsumexp(logits, dim=-1))
    return torch.cat(blocks, dim=-1).flatten(1, 2)


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
