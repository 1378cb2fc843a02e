"""RoPE, watched: what a model's ``apply_rotary_pos_emb`` was given, so that vectors can be kept as they were before it.

Most files of transformers have such a function of their own; while a model is watched, each is wrapped, and what it is given and
what it returns is noted. Nothing is changed. What is found is believed only if it can be undone and redone.
"""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.attention import rotated
from attnviz.capturing.contract import Call, Unrotated
from attnviz.errors import CaptureError
from attnviz.types import FloatArray, LayerInfo, Terms

__all__ = ["Rotation", "rotations", "undo_rope"]

_FUNCTIONS = ("apply_rotary_pos_emb", "apply_rotary_pos_emb_interleave")


@dataclass(frozen=True, slots=True)
class Rotation:
    """One call: queries and keys before and after, ``(batch, heads, tokens, rotary_dim)``, and the angles."""

    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]
    cosine: torch.Tensor  # (batch or 1, tokens, rotary_dim)
    sine: torch.Tensor

    def undone(self, vectors: torch.Tensor, kind: Literal["query", "key"]) -> torch.Tensor | None:
        """Return vectors before they were turned; None if they hold something else than what was turned."""
        at = self._dimensions(vectors, self.after[kind])
        if at is None:
            return None
        plain = vectors.clone()
        plain[..., at] = self.before[kind].to(plain.dtype)
        return plain

    def dimensions(self, query: torch.Tensor) -> slice | None:
        """Return which dimensions of a query were turned."""
        return self._dimensions(query, self.after["query"])

    @staticmethod
    def _dimensions(vectors: torch.Tensor, turned: torch.Tensor) -> slice | None:
        """Return which dimensions of ``vectors`` were turned: all, the first or the last ones."""
        if turned.shape[:-1] != vectors.shape[:-1] or turned.shape[-1] > vectors.shape[-1]:
            return None
        width, total = turned.shape[-1], vectors.shape[-1]
        for at in (slice(0, width), slice(total - width, total)):
            if torch.equal(vectors[..., at], turned.to(vectors.dtype)):
                return at
        return None


@contextmanager
def rotations(module: torch.nn.Module, note: Callable[[Rotation], None]) -> Iterator[None]:
    """Call ``note`` whenever a model of transformers turns queries and keys."""
    files = {sys.modules[type(child).__module__] for child in module.modules()}
    with ExitStack() as stack:
        for file, name in itertools.product(files, _FUNCTIONS):
            if callable(original := getattr(file, name, None)):
                stack.enter_context(patch.object(file, name, _noting(original, note)))
        yield


def _noting(original: Callable[..., Any], note: Callable[[Rotation], None]) -> Callable[..., Any]:
    def apply(*args: Any, **options: Any) -> Any:
        """Return what the original returns."""
        result = original(*args, **options)
        if isinstance(result, tuple) and len(result) == 2 and len(args) >= 4 and args[2].ndim == 3:
            kinds = ("query", "key")
            before = dict(zip(kinds, args[:2], strict=True))
            note(Rotation(before, dict(zip(kinds, result, strict=True)), args[2], args[3]))
        return result

    return apply


def undo_rope(info: LayerInfo, call: Call, *, longest: Mapping[str, int]) -> LayerInfo:
    """Return the layer as it is when vectors are kept as they were before RoPE: with the angles, if they give attention back.

    They do not where a sequence is longer than those of the call, whose angles are all that is known. A layer that turns nothing
    stays as it is.

    Raises
    ------
    CaptureError
        If RoPE was not the last step before the product, so that it cannot be taken off.
    """
    if call.unrotated is None:
        return info
    plain = call.unrotated()
    if plain is None:
        raise CaptureError(
            f"{info.name} turns its queries and keys by rotary positions, but not as the last step before the product: what they "
            "are before RoPE cannot be told. Set capture.rope = 'after'."
        )
    before = replace(info, rope="before", rebuilt=False)
    if longest.get(info.query_stream, 0) > call.query.shape[2]:
        return before
    for angles, partner in _readings(plain, info.head_dim):
        terms = replace(info.terms or Terms(), rotation=angles, partner=partner)
        if _redone(tried := replace(before, rebuilt=True, terms=terms), call, plain):
            return tried
    return before


def _readings(plain: Unrotated, head_dim: int) -> Iterator[tuple[FloatArray, NDArray[np.int32]]]:
    """Yield what angles may mean: cosines and signed sines ``(2, positions, head_dim)``, and with which dimension each is turned.

    Dimensions are turned in pairs, of halves or of neighbours; a model has an angle for each dimension, the first half of them
    said twice, or one for each pair; and where it has fewer, the dimensions behind are not turned.
    """
    cosine, sine = (values[0].float().cpu().numpy() for values in (plain.cosine, plain.sine))
    given, room = cosine.shape[1], plain.at.stop - plain.at.start
    spreads = [np.arange(given), np.arange(given) // 2, np.tile(np.arange(given), 2), np.repeat(np.arange(given), 2)]
    for which in spreads:
        if len(which) > room or len(which) % 2:
            continue
        turned = plain.at.start + np.arange(len(which))
        pairs = len(which) // 2
        for first, second in ((turned[:pairs], turned[pairs:]), (turned[0::2], turned[1::2])):
            angles = np.stack(
                [np.ones((len(cosine), head_dim), np.float32), np.zeros((len(cosine), head_dim), np.float32)]
            )
            angles[0][:, turned], angles[1][:, turned] = cosine[:, which], sine[:, which]
            angles[1][:, first] *= -1
            partner = np.arange(head_dim, dtype=np.int32)
            partner[first], partner[second] = second, first
            yield angles, partner


def _redone(info: LayerInfo, call: Call, plain: Unrotated) -> bool:
    """Tell whether turning the plain vectors gives back those that entered the product, as nearly as their dtype knows them."""
    positions = np.arange(call.query.shape[2])
    for before, after in ((plain.query, call.query), (plain.key, call.key)):
        there = after.float().cpu().numpy()
        slack = 40 * torch.finfo(after.dtype).eps * max(1.0, float(np.abs(there).max()))
        if not np.allclose(rotated(before.float().cpu().numpy(), positions, info), there, atol=slack, rtol=0):
            return False
    return True
