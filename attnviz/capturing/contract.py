"""What a capture backend is: it runs a model and calls ``see`` once for every softmax attention, with what entered it.

The seam is deliberately this narrow. A backend knows one library's way of computing attention; everything else (layers,
padding, norms, normalisers) is written once, in ``capture.run`` and ``capture.check``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch

__all__ = ["HIDDEN", "Backend", "Call", "Own", "See", "Unrotated", "added_to_logits", "with_kv_heads"]

HIDDEN = -9e3
"""What is added to a logit that may not count is less: models say -inf, the least float or -1e4; biases stay above."""


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
    added: torch.Tensor | None = (
        None  # broadcasts to weights: a bias, less than HIDDEN where a key is hidden; bool: what is not
    )
    weights: torch.Tensor | None = None  # the model's own, (batch, heads, queries, keys), where asked for
    output: torch.Tensor | None = None  # (batch, heads, queries, value_dim), where the model's own is at hand
    logsumexp: torch.Tensor | None = None  # (batch, heads, queries): log Σ exp of the logits, where the kernel told it
    unrotated: "Callable[[], Unrotated | None] | None" = None  # None: nothing was turned; gives None: not as last step

    @property
    def computed_in(self) -> torch.dtype:
        """What it was computed in. Under autocast that is less precise than what entered, and shows in what came out."""
        dtypes = [values.dtype for values in (self.query, self.output) if values is not None]
        return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


@dataclass(frozen=True, slots=True)
class Unrotated:
    """Queries and keys before RoPE, and what turned them."""

    query: torch.Tensor  # (batch, heads, queries, head_dim)
    key: torch.Tensor
    at: slice  # the dimensions that were turned, or some of them
    cosine: torch.Tensor  # (batch or 1, positions, angles): as the model has them, for each dimension or for each pair
    sine: torch.Tensor


See = Callable[[Call], None]

Own = Literal["output", "masks", "weights"]
"""What of its own a model is asked for: no more than it computes, what it adds to its logits too, or its weights besides."""


class Backend(Protocol):
    """Watches a model while it runs."""

    def __call__(self, module: torch.nn.Module, see: See, *, own: Own = "output") -> AbstractContextManager[None]:
        """Call ``see`` at every attention of ``module`` while the context is open.

        With ``own="output"`` or ``"masks"`` the model computes exactly what it would compute unwatched; with ``"weights"`` it may
        take a slower way that hands out its own attention weights too.
        """


def added_to_logits(mask: torch.Tensor | None, bias: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    """Return a mask (what may be seen, or what is added) and a position bias as one thing that is added to logits."""
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=like.dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
    if mask is None or bias is None:
        return bias if mask is None else mask
    return mask + bias


def with_kv_heads(call: Call, kv_heads: int) -> Call:
    """Return a call with so many heads of keys. Models of transformers repeat them in a batch that has a mask, and only there."""
    if call.key.shape[1] == kv_heads:
        return call
    key, value = (part.repeat_interleave(kv_heads // part.shape[1], dim=1) for part in (call.key, call.value))
    return replace(call, key=key, value=value)
