"""What a capture backend is: it runs a model and calls ``see`` once for every softmax attention, with what entered it.

The seam is deliberately this narrow. A backend knows one library's way of computing attention; everything else (layers,
padding, norms, normalisers) is written once, in ``capture.run`` and ``capture.check``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

__all__ = ["Backend", "Call", "See"]


@dataclass(frozen=True, slots=True)
class Call:
    """One attention, as the model computed it. Shapes are ``(batch, heads, tokens, head_dim)``."""

    name: str  # module path
    query: torch.Tensor
    key: torch.Tensor  # kv_heads instead of heads
    value: torch.Tensor
    scaling: float
    causal: bool | None = None  # what the model says; None: it shows in the weights alone
    window: int | None = None
    chunk: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None  # (heads,): a logit of each head that no key has
    added: torch.Tensor | None = None  # broadcasts to weights: position bias, and -inf or less than -1e4 where a key is hidden
    weights: torch.Tensor | None = None  # the model's own, (batch, heads, queries, keys), where asked for
    unrotated: tuple[torch.Tensor, torch.Tensor] | None = None  # query and key before RoPE, where asked for


See = Callable[[Call], None]


class Backend(Protocol):
    """Watches a model while it runs."""

    def __call__(
        self, module: torch.nn.Module, see: See, *, own: Literal["output", "weights"] = "output"
    ) -> AbstractContextManager[None]:
        """Call ``see`` at every attention of ``module`` while the context is open.

        With ``own="output"`` the model computes exactly what it would compute unwatched; with ``"weights"`` it may take a
        slower way that hands out its own attention weights too.
        """
