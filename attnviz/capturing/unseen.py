"""Kernels of attention that are called past torch's own function: what they attend to is seen by no watcher.

A dispatch mode meets every kernel, whoever calls it. One that is called by torch's function was announced; any other one that is
named after attention would leave its layer out of a run that shows the rest, and the module is refused.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from attnviz.capturing.torch_sdpa import is_attention
from attnviz.errors import CaptureError

__all__ = ["no_other_kernels"]

_ATTENTION = re.compile(r"attention|attn|flash", re.IGNORECASE)
_CHOICE = "aten::_fused_sdp_choice"  # which kernel to take; attends to nothing


@contextmanager
def no_other_kernels(model: str) -> Iterator[None]:
    """Refuse kernels of attention that torch's own function does not call. Raises ``CaptureError`` at the first of them."""
    with _Announced() as announced, _Kernels(model, announced):
        yield


class _Announced(TorchFunctionMode):
    """Tells whether torch's own function is running."""

    running = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        before, self.running = self.running, self.running or is_attention(func)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.running = before


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch annotates none of it
    def __init__(self, model: str, announced: _Announced) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model, self._announced = model, announced

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.name().partition(".")[0]
        if _ATTENTION.search(name) and name != _CHOICE and not self._announced.running:
            raise CaptureError(
                f"{self._model} attends by the kernel {name}, which cannot be seen into. Let it attend by "
                "scaled_dot_product_attention while it is captured."
            )
        return func(*args, **(kwargs or {}))
