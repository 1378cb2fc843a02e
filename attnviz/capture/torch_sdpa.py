"""Seam 2: any torch model that calls ``scaled_dot_product_attention``; timm's transformers do.

A ``TorchFunctionMode`` sees the call with its arguments, so no model is known here. The model's own weights are what the
same call returns for the identity in place of the values.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from attnviz.capture.contract import Call, See

__all__ = ["watch"]


@contextmanager
def watch(module: torch.nn.Module, see: See, *, own: Literal["output", "weights"] = "output") -> Iterator[None]:
    """Watch any torch model; see ``Backend``."""
    stack: list[str] = [""]
    hooks = []
    for name, child in module.named_modules():
        hooks.append(child.register_forward_pre_hook(lambda *_, name=name: stack.append(name)))
        hooks.append(child.register_forward_hook(lambda *_: stack.pop() and None, always_call=True))
    try:
        with _Watcher(see, stack, own):
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _Watcher(TorchFunctionMode):
    def __init__(self, see: See, stack: list[str], own: str) -> None:
        super().__init__()
        self.see, self.stack, self.own = see, stack, own

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        output = func(*args, **options)
        if func is scaled_dot_product_attention:
            call = (
                dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False))
                | options
            )
            self.see(_call(self.stack[-1], call, self.own))
        return output


def _call(name: str, given: dict[str, Any], own: str) -> Call:
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
        weights=weights,
    )
