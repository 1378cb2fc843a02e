"""Attention in windows, brought back to whole sequences: what Swin and its like hand over has a batch of windows.

Receives a ``Call`` and which token stands at each place of each window; gives the same tensors in the order of the tokens.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.capturing.contract import Call

__all__ = ["in_order", "merged", "opened"]


def opened(values: torch.Tensor, windows: int) -> torch.Tensor:
    """Turn ``(batch * windows, heads, places, …)`` into ``(batch, windows, heads, places, …)``."""
    return values.reshape(-1, windows, *values.shape[1:])


def merged(call: Call, windows: NDArray[np.int32]) -> Call:
    """Return a call in the order of the tokens: query, key and value ``(batch, heads, tokens, head_dim)``, no weights.

    Parameters
    ----------
    windows
        ``(windows, places)``: which token stands where; -1 is padding.
    """
    return replace(
        call,
        query=in_order(call.query, windows),
        key=in_order(call.key, windows),
        value=in_order(call.value, windows),
        added=None,
        weights=None,
        output=None,
    )


def in_order(values: torch.Tensor, windows: NDArray[np.int32]) -> torch.Tensor:
    """Turn ``(batch * windows, heads, places, …)`` into ``(batch, heads, tokens, …)``."""
    spread = opened(values, len(windows)).transpose(1, 2)  # (batch, heads, windows, places, …)
    flat = spread.flatten(2, 3)
    places = np.flatnonzero(windows.ravel() >= 0)
    order = places[np.argsort(windows.ravel()[places], kind="stable")]
    return flat[:, :, torch.from_numpy(order).to(flat.device)]
