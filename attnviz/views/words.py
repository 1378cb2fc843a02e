"""Where words begin among the tokens of a run: what the tokenizer decided, and what a layer's own tokens add to it."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from attnviz.store import RunDirectory
from attnviz.token_text import spelled

__all__ = ["word_starts", "word_texts"]


def word_starts(run: RunDirectory, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which of some tokens, ascending, begin a word; the first of a sequence does, and what follows a patch."""
    apart = ("sequence_id", "segment", "stream", "modality")
    own = run.tokens[["starts_word", *apart]].iloc[tokens]
    starts: NDArray[np.bool_] = own["starts_word"].to_numpy(bool, copy=True)
    starts[:1] = True
    for name in apart:
        values = own[name].to_numpy()
        starts[1:] |= values[1:] != values[:-1]
    return starts


def word_texts(run: RunDirectory, tokens: NDArray[np.int32], spans: Iterable[tuple[int, int]]) -> list[str]:
    """Return words, each a span of some tokens, without marks; characters that tokens share are put together."""
    own = run.tokens[["plain", "byte_values"]].iloc[tokens]
    plain, values = own["plain"].tolist(), own["byte_values"].tolist()
    return [spelled(plain[a:b], values[a:b]) for a, b in spans]
