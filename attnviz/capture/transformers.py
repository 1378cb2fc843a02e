"""Seam 1: models of transformers hand every query and key to one named attention function; we register ours.

Ours delegates to the very function the model would have used (its mask function is registered under the same name:
without it, padded rows come out silently wrong), so a watched model computes what an unwatched one does, bit for bit.
For the check it delegates to the model file's own ``eager_attention_forward``, which returns the weights.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from attnviz.capture.contract import Call, See
from attnviz.errors import CaptureError

__all__ = ["watch"]

_PREFIX = "attnviz_"
_see: ContextVar[tuple[See, dict[torch.nn.Module, str]]] = ContextVar("attnviz_see")


@contextmanager
def watch(module: Any, see: See, *, own: Literal["output", "weights"] = "output") -> Iterator[None]:
    """Watch a transformers model; see ``Backend``."""
    before = module.config._attn_implementation or "eager"
    inner = "eager" if own == "weights" else before
    _register(inner)
    names = {child: name for name, child in module.named_modules()}
    token = _see.set((see, names))
    try:
        module.set_attn_implementation(_PREFIX + inner)
        yield
    finally:
        _see.reset(token)
        module.set_attn_implementation(before)


def _register(inner: str) -> None:
    """Register our function and the mask function that belongs to it."""
    name = _PREFIX + inner
    if name in ALL_ATTENTION_FUNCTIONS:
        return
    if inner not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise CaptureError(f"Attention implementation {inner!r} has no mask function. Accepted: eager, sdpa.")

    def attention(module: torch.nn.Module, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        delegate = ALL_ATTENTION_FUNCTIONS[inner] if inner in ALL_ATTENTION_FUNCTIONS else _own_eager(module)
        output, weights = delegate(module, query, key, value, mask, **options)
        see, names = _see.get()
        see(_call(names.get(module, type(module).__name__), module, (query, key, value), weights, options))
        return output, weights

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[inner])


def _own_eager(module: torch.nn.Module) -> Any:
    file = sys.modules[type(module).__module__]
    if not hasattr(file, "eager_attention_forward"):
        raise CaptureError(
            f"{type(module).__name__} has no eager attention of its own to compare with: it cannot be checked."
        )
    return file.eager_attention_forward


def _call(name: str, module: Any, tensors: tuple[Any, Any, Any], weights: Any, options: dict[str, Any]) -> Call:
    query, key, value = tensors
    scaling = options.get("scaling")
    causal = options.get("is_causal")
    return Call(
        name=name,
        query=query,
        key=key,
        value=value,
        scaling=float(query.shape[-1] ** -0.5 if scaling is None else scaling),
        causal=getattr(module, "is_causal", None) if causal is None else bool(causal),
        window=options.get("sliding_window"),
        softcap=options.get("softcap"),
        weights=weights,
    )
