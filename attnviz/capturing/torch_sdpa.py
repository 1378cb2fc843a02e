"""Seam 2: any torch model that calls ``scaled_dot_product_attention``; timm's transformers do.

A ``TorchFunctionMode`` sees the call with its arguments, so no model is known here. The model's own weights are what the
same call returns for the identity in place of the values.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from attnviz.capturing.contract import Call, Own, See, added_to_logits
from attnviz.capturing.sums import sums_of, with_sums
from attnviz.errors import CaptureError
from attnviz.models.torch_module import sequences_among

__all__ = ["is_attention", "opened_functions", "running", "watch"]

_EXPORTED = "scaled_dot_product_attention.default"  # what it is called in the graph of torch.export


@contextmanager
def watch(module: torch.nn.Module, see: See, *, own: Own = "output") -> Iterator[None]:
    """Watch any torch model; see ``Backend``."""
    with running(module) as stack, opened_functions(), _Watcher(see, stack, own):
        yield


def is_attention(func: Callable[..., Any]) -> bool:
    """Tell whether this is torch's function of attention, or what ``torch.export`` makes of it."""
    return func is scaled_dot_product_attention or getattr(func, "__name__", "") == _EXPORTED


@contextmanager
def opened_functions() -> Iterator[None]:
    """Let a mode see what happens inside of torch's own functions (``nn.MultiheadAttention`` is one), not the whole of each."""
    with patch.object(torch.nn.functional, "has_torch_function", lambda _: False):
        yield


@contextmanager
def running(module: torch.nn.Module) -> Iterator[list[str]]:
    """Give the paths of the modules that are running, the innermost last."""
    stack: list[str] = [""]
    own = type(module).__name__

    def leave(*_: Any) -> None:
        stack.pop()  # and return nothing: what a hook returns takes the place of the module's output

    hooks = []
    for name, child in module.named_modules():
        hooks.append(child.register_forward_pre_hook(lambda *_, name=name or own: stack.append(name)))
        hooks.append(child.register_forward_hook(leave, always_call=True))
    try:
        yield stack
    finally:
        for hook in hooks:
            hook.remove()


class _Watcher(TorchFunctionMode):
    def __init__(self, see: See, stack: list[str], own: Own) -> None:
        super().__init__()
        self.see, self.stack, self.own = see, stack, own

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if not is_attention(func):
            return func(*args, **options)
        given = (
            dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)) | options
        )
        output, sums = with_sums(partial(func, *args, **options), given["query"])
        given, of_heads = _of_heads(self.stack[-1], given, output)
        call = _call(self.stack[-1], given, of_heads, self.own)
        self.see(replace(call, logsumexp=sums_of(call.query, sums)))
        return output


def _of_heads(name: str, given: dict[str, Any], output: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    """Return what is given and what comes out as ``(batch, heads, tokens, …)``, whose axes before tokens may be fewer."""
    query = given["query"]
    if query.dim() == 4 and not query.is_nested:
        return given, output
    if query.dim() > 4 or query.is_nested:
        how = "nested tensors" if query.is_nested else f"queries of shape {tuple(query.shape)}"
        raise CaptureError(
            f"{name} attends over {how}; what can be kept is (batch, heads, tokens, head_dim). Give padded batches with a mask, "
            "and one axis for all heads."
        )
    told, shared = sequences_among.get(), len(query) if query.dim() == 3 else 1
    batch = shared if told is None or shared == 1 else told(shared, (query.shape[-2], given["key"].shape[-2]))
    mask = given.get("attn_mask")
    if mask is not None and mask.dim() == 3:
        mask = mask[:, None] if len(mask) == 1 else _split(mask, batch)
    parts = {part: _split(given[part], batch) for part in ("query", "key", "value")}
    return given | parts | {"attn_mask": mask}, _split(output, batch)


def _split(values: torch.Tensor, batch: int) -> torch.Tensor:
    return values.reshape(batch, -1, *values.shape[-2:])


def _call(name: str, given: dict[str, Any], output: torch.Tensor, own: Own) -> Call:
    query, key = given["query"], given["key"]
    scale = given.get("scale")
    weights = None
    if own == "weights":
        identity = torch.eye(key.shape[-2], dtype=query.dtype, device=query.device).expand(*key.shape[:-2], -1, -1)
        weights = scaled_dot_product_attention(**(given | {"value": identity, "dropout_p": 0.0}))
    return Call(
        name=name,
        query=query,
        key=key,
        value=given["value"],
        scaling=float(query.shape[-1] ** -0.5 if scale is None else scale),
        causal=bool(given.get("is_causal", False)) or None,
        added=_added(given.get("attn_mask"), own, query),
        weights=weights,
        output=output,
    )


def _added(mask: torch.Tensor | None, own: Own, query: torch.Tensor) -> torch.Tensor | None:
    if own == "output":
        return None
    return mask if own == "masks" else added_to_logits(mask, None, query)
