"""Masks: tokens that stand in the way of seeing the others."""

import numpy as np
from numpy.typing import NDArray

from attnviz.store import RunDirectory

__all__ = ["find_first", "find_punctuation"]


def find_punctuation(run: RunDirectory) -> NDArray[np.bool_]:
    """Return which tokens are punctuation, ``(tokens,)``; special tokens, emoji and patches are not. See ``token_text``."""
    found: NDArray[np.bool_] = run.tokens["is_punctuation"].to_numpy(bool)
    return found


def find_first(run: RunDirectory) -> NDArray[np.bool_]:
    """Return which tokens are the first of their stream in a sequence, ``(tokens,)``."""
    first: NDArray[np.bool_] = run.tokens["position"].to_numpy() == 0
    return first
