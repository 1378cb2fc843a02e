"""Seam 2: any torch model that calls ``scaled_dot_product_attention``; timm's transformers do.

A ``TorchFunctionMode`` sees the call with its arguments, so no model is known here. The model's own weights are what the
same call returns for the identity in place of the values.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from attnviz.capturing.contract import Call, See, added_to_logits

__all__ = ["opened_functions", "running", "watch"]


@contextmanager
def watch(module: torch.nn.Module, see: See, *, own: Literal["output", "weights"] = "output") -> Iterator[None]:
    """Watch any torch model; see ``Backend``."""
    with running(module) as stack, opened_functions(), _Watcher(see, stack, own):
        yield


@contextmanager
def opened_functions() -> Iterator[None]:
    """Let a mode see what happens inside of torch's own functions (``nn.MultiheadAttention`` is one), not the whole of each."""
    with patch.object(torch.nn.functional, "has_torch_function", lambda _: False):
        yield


@contextmanager
def running(module: torch.nn.Module) -> Iterator[list[str]]:
    """Give the paths of the modules that are running, the innermost last."""
    stack: list[str] = [""]

    def leave(*_: Any) -> None:
        stack.pop()  # and return nothing: what a hook returns takes the place of the module's output

    hooks = []
    for name, child in module.named_modules():
        hooks.append(child.register_forward_pre_hook(lambda *_, name=name: stack.append(name)))
        hooks.append(child.register_forward_hook(leave, always_call=True))
    try:
        yield stack
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
            self.see(_call(self.stack[-1], call, self.own, output))
        return output


def _call(name: str, given: dict[str, Any], own: str, output: torch.Tensor) -> Call:
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
        added=None if weights is None else added_to_logits(given.get("attn_mask"), None, query),
        weights=weights,
        output=output,
    )
