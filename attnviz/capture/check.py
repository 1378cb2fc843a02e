"""Believe nothing: rebuild attention from exactly what would be stored and compare it with the model's own.

``inspect`` runs a padded batch and finds the layers with what they do to ``q·k`` (scaling, mask, window, soft-cap), as the
model declares it and as its weights show it. ``check`` then compares, head by head. A model that disagrees is refused by
layer, with the number: a run made of wrong vectors would look just as good.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from attnviz.attention import weights
from attnviz.capture.contract import Call
from attnviz.capture.run import backend_of, capture
from attnviz.errors import CaptureError
from attnviz.models import LoadedModel
from attnviz.types import LayerInfo, LayerVectors, TokenSequence

__all__ = ["EXACT", "ROUNDED", "LayerCheck", "check", "inspect", "require_exact"]

EXACT = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 5e-3}
"""Largest accepted difference of an attention weight, by the model's own dtype (a few units of its last place)."""

ROUNDED = 1e-2
"""Largest accepted difference after vectors were rounded to how they are stored."""


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """How well one layer's attention is rebuilt."""

    info: LayerInfo
    exact: float  # largest difference of any weight, from vectors as the model had them
    stored: float  # the same, from vectors as they would be stored
    tolerance: float  # for ``exact``

    @property
    def ok(self) -> bool:
        """Whether both differences are accepted."""
        return bool(self.exact <= self.tolerance and self.stored <= max(ROUNDED, self.tolerance))


def inspect(model: LoadedModel, sequences: Sequence[TokenSequence]) -> tuple[LayerInfo, ...]:
    """Run a batch and return the attention layers that the model has.

    Raises
    ------
    CaptureError
        If the model hands over no attention, or attention of a shape that cannot be kept.
    """
    calls = _own_weights(model, sequences)
    numbers = _layer_numbers([call.name for call in calls])
    return tuple(_layer_info(number, call, sequences) for number, call in zip(numbers, calls, strict=True))


def check(
    model: LoadedModel,
    sequences: Sequence[TokenSequence],
    layers: Sequence[LayerInfo] | None = None,
    *,
    dtype: Literal["float16", "float32"] = "float16",
) -> list[LayerCheck]:
    """Compare attention rebuilt from what would be stored with the model's own, over every head and token.

    Parameters
    ----------
    sequences
        At least two, of different lengths where the model takes them, so that padding is tried.
    layers
        What to check; what ``inspect`` finds, if not given.
    dtype
        How vectors would be stored.

    Raises
    ------
    CaptureError
        If capturing changes the model's output, or as ``inspect`` and ``capture`` raise.
    """
    layers = inspect(model, sequences) if layers is None else layers
    own = _own_weights(model, sequences)
    batch = model.collate(sequences)
    captured: list[LayerVectors] = []
    watched = capture(model, batch, layers, captured.append)
    changed = float((model.forward(batch) - watched).abs().max())
    if not changed <= 1e-6:
        raise CaptureError(f"Capturing changes the output of {model.info.id} by {changed:.1e}: it cannot be trusted.")
    return [
        LayerCheck(
            info,
            _difference(vectors, info, call, sequences, np.float32),
            _difference(vectors, info, call, sequences, np.float16 if dtype == "float16" else np.float32),
            EXACT[model.info.dtype],
        )
        for info, vectors, call in zip(layers, captured, own, strict=True)
    ]


def require_exact(model: LoadedModel, checks: Sequence[LayerCheck]) -> float:
    """Return the largest difference of any weight from stored vectors.

    Raises
    ------
    CaptureError
        Naming the first layer that disagrees, with the number.
    """
    for result in checks:
        where = f"{model.info.id} is refused: in layer {result.info.layer} ({result.info.name}), attention from"
        if not result.exact <= result.tolerance:
            raise CaptureError(
                f"{where} queries and keys differs from the model's own by {result.exact:.1e}; at most "
                f"{result.tolerance:.0e} is accepted. `attnviz check` shows every layer."
            )
        if not result.ok:
            raise CaptureError(
                f"{where} float16 vectors differs from the model's own by {result.stored:.1e}; at most {ROUNDED:.0e} is "
                "accepted. Set capture.dtype = 'float32'."
            )
    return max(result.stored for result in checks)


def _own_weights(model: LoadedModel, sequences: Sequence[TokenSequence]) -> list[Call]:
    calls: list[Call] = []
    with backend_of(model)(model.module, calls.append, own="weights"):
        model.forward(model.collate(sequences))
    if not calls:
        raise CaptureError(
            f"{model.info.id} ({model.info.architecture}) ran but handed over no queries or keys: its attention bypasses the "
            f"{'attention interface' if model.info.library == 'transformers' else 'scaled_dot_product_attention'} of "
            f"{'transformers' if model.info.library == 'transformers' else 'torch'}. `attnviz check MODEL` tells what works."
        )
    tokens = max(len(sequence) for sequence in sequences)
    for call in calls:
        expected = (len(sequences), call.query.shape[1], tokens)
        if call.query.shape[:3] != expected or call.key.shape[2] != tokens:
            raise CaptureError(
                f"{model.info.id}: {call.name} hands over queries of shape {tuple(call.query.shape)} and keys of shape "
                f"{tuple(call.key.shape)} for {len(sequences)} sequences of up to {tokens} tokens: windowed or cross attention "
                "is not supported yet."
            )
    return calls


def _layer_numbers(names: Sequence[str]) -> list[int]:
    """Take each layer's number from its module path; count calls where paths repeat (tied layers) or carry none."""
    found = [re.search(r"(?:^|\.)(\d+)(?:\.|$)", name) for name in names]
    numbers = [int(match[1]) if match else -1 for match in found]
    return numbers if -1 not in numbers and len(set(numbers)) == len(numbers) else list(range(len(names)))


def _layer_info(number: int, call: Call, sequences: Sequence[TokenSequence]) -> LayerInfo:
    return LayerInfo(
        layer=number,
        name=call.name,
        num_heads=call.query.shape[1],
        num_kv_heads=call.key.shape[1],
        head_dim=call.query.shape[-1],
        scaling=call.scaling,
        causal=_looks_causal(call, sequences),
        window=call.window,
        softcap=call.softcap,
    )


def _looks_causal(call: Call, sequences: Sequence[TokenSequence]) -> bool:
    """Tell from the weights: no query gives anything to a later key. A module's ``is_causal`` is not always the truth."""
    if call.weights is None:
        raise CaptureError(f"{call.name} gave no attention weights to compare with.")
    tokens = max(len(sequence) for sequence in sequences)
    if tokens < 2:
        return bool(call.causal)
    longest = int(np.argmax([len(sequence) for sequence in sequences]))
    later = torch.triu(torch.ones(tokens, tokens, dtype=torch.bool, device=call.weights.device), diagonal=1)
    return not bool(call.weights[longest][:, later].any())


def _difference(
    vectors: LayerVectors, info: LayerInfo, own: Call, sequences: Sequence[TokenSequence], kept: type[np.floating[Any]]
) -> float:
    """Return the largest difference of weights rebuilt from ``kept`` vectors; infinite if any is not a number."""
    shared = info.num_heads // info.num_kv_heads
    assert own.weights is not None
    largest, first = 0.0, 0
    for row, sequence in enumerate(sequences):
        stop = first + len(sequence)
        theirs = own.weights[row, :, : len(sequence), : len(sequence)].float().cpu().numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # what float16 cannot hold shows as an infinite difference
            query = vectors.query[first:stop].astype(kept).astype(np.float32).swapaxes(0, 1)
            key = vectors.key[first:stop].astype(kept).astype(np.float32).swapaxes(0, 1).repeat(shared, axis=0)
            difference = np.abs(weights(query, key, info) - theirs).max()
        largest = max(largest, float(difference)) if np.isfinite(difference) else np.inf
        first = stop
    return largest
