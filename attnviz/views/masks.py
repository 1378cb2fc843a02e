"""Masks: tokens that stand in the way of seeing the others."""

import unicodedata

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnviz.store import RunDirectory

__all__ = ["find_first", "find_punctuation", "is_punctuation"]


def is_punctuation(text: str) -> bool:
    """Tell whether a text is made of punctuation and symbols alone."""
    return all(unicodedata.category(c)[0] in "PS" for c in text)


def find_punctuation(run: RunDirectory) -> NDArray[np.bool_]:
    """Return which tokens are punctuation, ``(tokens,)``; special tokens and patches are not."""
    codes, texts = pd.factorize(run.tokens["text"])
    is_word = run.tokens["modality"].to_numpy() == "text"
    found: NDArray[np.bool_] = np.array([is_punctuation(text) for text in texts], bool)[codes] & is_word
    found &= ~run.tokens["is_special"].to_numpy(bool)
    return found


def find_first(run: RunDirectory) -> NDArray[np.bool_]:
    """Return which tokens are the first of their stream in a sequence, ``(tokens,)``."""
    first: NDArray[np.bool_] = run.tokens["position"].to_numpy() == 0
    return first
