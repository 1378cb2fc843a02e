"""Seam 1: models of transformers hand every query and key to one named attention function; we register ours.

Ours delegates to the very function the model would have used (its mask function is registered under the same name:
without it, padded rows come out silently wrong), so a watched model computes what an unwatched one does, bit for bit.
For the check it delegates to the model file's own ``eager_attention_forward``, which returns the weights.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from attnviz.capturing.contract import Call, Own, See, Unrotated, added_to_logits
from attnviz.capturing.rope import Rotation, rotations
from attnviz.capturing.sums import sums_of, with_sums
from attnviz.errors import CaptureError

__all__ = ["watch"]

_PREFIX = "attnviz_"


@dataclass(slots=True)
class _Watching:
    """What is being watched."""

    see: See
    names: dict[torch.nn.Module, str]
    own: str
    rotations: list[Rotation] = field(default_factory=list)  # since the last attention


_watching: ContextVar[_Watching] = ContextVar("attnviz_watching")


@contextmanager
def watch(module: Any, see: See, *, own: Own = "output") -> Iterator[None]:
    """Watch a transformers model; see ``Backend``."""
    configs = {id(child.config): child.config for child in module.modules() if hasattr(child, "config")}
    before = {key: getattr(config, "_attn_implementation", None) for key, config in configs.items()}
    watching = _Watching(see, {child: name for name, child in module.named_modules()}, own)
    token = _watching.set(watching)
    try:
        for key, config in configs.items():
            inner = "eager" if own == "weights" else before[key] or "eager"
            config._attn_implementation_internal = _registered(inner)
        with rotations(module, watching.rotations.append):
            yield
    finally:
        _watching.reset(token)
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


def _registered(inner: str) -> str:
    """Register our function and the mask function that belongs to it, and return their name."""
    name = _PREFIX + inner
    if name in ALL_ATTENTION_FUNCTIONS:
        return name
    if inner not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise CaptureError(f"Attention implementation {inner!r} has no mask function. Accepted: eager, sdpa.")

    def attention(
        module: torch.nn.Module, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any
    ) -> Any:
        """Return what ``inner`` returns: the output, and weights where it has them."""
        delegate = ALL_ATTENTION_FUNCTIONS[inner] if inner in ALL_ATTENTION_FUNCTIONS else _own_eager(module)
        attend = partial(delegate, module, query, key, value, attention_mask, **options)
        (output, weights), sums = with_sums(attend, query)
        call = _call(module, (query, key, value), attention_mask, options, (output, weights))
        _watching.get().see(replace(call, logsumexp=sums_of(query, sums)))
        return output, weights

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[inner])
    return name


def _own_eager(module: torch.nn.Module) -> Callable[..., Any]:
    file = sys.modules[type(module).__module__]
    if not hasattr(file, "eager_attention_forward"):
        raise CaptureError(
            f"{type(module).__name__} has no eager attention of its own to compare with: it cannot be checked."
        )
    own: Callable[..., Any] = file.eager_attention_forward
    return own


def _call(module: Any, tensors: tuple[Any, Any, Any], mask: Any, options: dict[str, Any], result: Any) -> Call:
    query, key, value = tensors
    output, weights = result
    watching = _watching.get()
    scaling, causal, sinks = (options.get(name) for name in ("scaling", "is_causal", "s_aux"))
    call = Call(
        name=watching.names.get(module, type(module).__name__),
        query=query,
        key=key,
        value=value,
        scaling=float(query.shape[-1] ** -0.5 if scaling is None else scaling),
        causal=getattr(module, "is_causal", None) if causal is None else bool(causal),
        window=options.get("sliding_window"),
        chunk=_chunk(module),
        softcap=options.get("softcap"),
        sinks=None if sinks is None else sinks.reshape(-1),
        added=added_to_logits(mask, options.get("position_bias"), query) if watching.own != "output" else None,
        weights=weights,
        output=output.transpose(1, 2) if output.ndim == 4 else None,
        unrotated=partial(_unrotated, query, key, watching.rotations[-1]) if watching.rotations else None,
    )
    watching.rotations.clear()
    return call


def _chunk(module: Any) -> int | None:
    """Return how long the chunks of a layer are, if it attends in chunks (Llama 4)."""
    config, index = getattr(module, "config", None), getattr(module, "layer_idx", None)
    kinds = getattr(config, "layer_types", None)
    chunked = kinds is not None and index is not None and kinds[index] == "chunked_attention"
    return getattr(config, "attention_chunk_size", None) if chunked else None


def _unrotated(query: torch.Tensor, key: torch.Tensor, turned: Rotation) -> Unrotated | None:
    """Return queries and keys before RoPE, if RoPE was the last thing done to them, or to a part of their dimensions."""
    at = turned.dimensions(query)
    before_query, before_key = turned.undone(query, "query"), turned.undone(key, "key")
    if at is None or before_query is None or before_key is None:
        return None
    return Unrotated(before_query, before_key, at, turned.cosine, turned.sine)
