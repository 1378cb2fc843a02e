"""Attention rebuilt from stored queries and keys: the one place that knows the formula.

Attention is never stored as n × n matrices; every view and metric asks here. What a layer does to ``q·k`` is in its
``LayerInfo``: scaling, then soft-capping, then the mask.
"""

import numpy as np
from numpy.typing import NDArray

from attnviz.types import FloatArray, LayerInfo

__all__ = ["logits", "logsumexp", "visible", "weights"]


def visible(queries: int, keys: int, layer: LayerInfo) -> NDArray[np.bool_]:
    """Return which keys each query may see, ``(queries, keys)``.

    A causal query sees its own position and earlier ones; with a window, only keys less than ``layer.window`` away.
    """
    distance = np.arange(queries)[:, None] - np.arange(keys)[None, :]
    seen = distance >= 0 if layer.causal else np.ones((queries, keys), dtype=bool)
    if layer.window is not None:
        seen &= np.abs(distance) < layer.window
    return seen


def logits(query: FloatArray, key: FloatArray, layer: LayerInfo) -> FloatArray:
    """Return the logits of one sequence, ``(..., queries, keys)``; keys that may not be seen are ``-inf``.

    Parameters
    ----------
    query, key
        ``(..., tokens, head_dim)``, tokens of one whole sequence.
    layer
        What the layer does to ``q·k``.
    """
    scores = np.matmul(query, np.swapaxes(key, -1, -2), dtype=np.float32) * np.float32(layer.scaling)
    if layer.softcap is not None:
        scores = layer.softcap * np.tanh(scores / layer.softcap)
    return np.where(visible(scores.shape[-2], scores.shape[-1], layer), scores, -np.inf).astype(np.float32)


def logsumexp(scores: FloatArray) -> FloatArray:
    """Return log Σ exp over the keys, ``(..., queries)``."""
    largest: FloatArray = scores.max(axis=-1)
    total: FloatArray = np.exp(scores - largest[..., None]).sum(axis=-1)
    return largest + np.log(total)


def weights(query: FloatArray, key: FloatArray, layer: LayerInfo) -> FloatArray:
    """Return softmax attention of one sequence, ``(..., queries, keys)``; rows sum to 1. Arguments as for ``logits``."""
    scores = logits(query, key, layer)
    result: FloatArray = np.exp(scores - logsumexp(scores)[..., None])
    return result
