"""Where words begin among the tokens of a run: what the tokenizer decided, and what a layer's own tokens add to it."""

import numpy as np
from numpy.typing import NDArray

from attnviz.store import RunDirectory
from attnviz.token_text import spelled

__all__ = ["word_starts", "word_text"]


def word_starts(run: RunDirectory, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which of some tokens of one sequence, ascending, begin a word; the first does, and what follows a patch."""
    own = run.tokens[["starts_word", "segment", "stream", "modality"]].iloc[tokens]
    starts: NDArray[np.bool_] = own["starts_word"].to_numpy(bool, copy=True)
    starts[:1] = True
    for name in ("segment", "stream", "modality"):
        values = own[name].to_numpy()
        starts[1:] |= values[1:] != values[:-1]
    return starts


def word_text(run: RunDirectory, tokens: NDArray[np.int32]) -> str:
    """Return the tokens of a word as one text, without their marks; characters that they share are put together."""
    own = run.tokens[["plain", "byte_values"]].iloc[tokens]
    return spelled(own["plain"].tolist(), own["byte_values"].tolist())
