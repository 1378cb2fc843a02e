"""Where words begin among the pieces of a tokenizer.

Three ways of writing are known: ``##`` before a piece that goes on (WordPiece), and ``Ġ`` or ``▁`` before one that begins a word
(byte-level BPE, SentencePiece). A special token, a patch and a piece of nothing but ASCII punctuation are words of their own, and
so what follows them begins one: "well-known." is four words whichever tokenizer wrote it.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from attnviz.store import RunDirectory

__all__ = ["word_starts", "word_text"]

GOES_ON = "##"
BEGINS = ("Ġ", "▁")
BLANK = "ĠĊĉ▁"  # spaces, line ends and tabs as such tokenizers write them
LOOKED_AT = 10_000  # tokens of a run, to tell which way it is written
ENOUGH = 0.05  # of them


def word_starts(run: RunDirectory, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which of some tokens of one sequence, ascending, begin a word."""
    marked = any(_share(run, mark) >= ENOUGH for mark in BEGINS)
    columns = ["text", "is_special", "modality", "segment", "stream"]
    own = run.tokens[columns].iloc[tokens]
    places = list(zip(own["segment"], own["stream"], strict=True))
    starts = np.ones(len(own), bool)
    alone_before = True
    for row, (text, special, modality) in enumerate(zip(*(own[name] for name in columns[:3]), strict=True)):
        alone = special or modality != "text" or _is_punctuation(text)
        begins = text.startswith(BEGINS) if marked else not _goes_on(text)
        starts[row] = row == 0 or begins or alone or alone_before or places[row] != places[row - 1]
        alone_before = alone
    return starts


def word_text(pieces: Iterable[str]) -> str:
    """Return the pieces of a word as one, without their marks."""
    return "".join(piece.removeprefix(GOES_ON).lstrip(BLANK) for piece in pieces)


def _share(run: RunDirectory, mark: str) -> float:
    return float(run.tokens["text"].iloc[:LOOKED_AT].str.startswith(mark).mean())


def _goes_on(text: str) -> bool:
    return text.startswith(GOES_ON) and len(text) > len(GOES_ON)


def _is_punctuation(text: str) -> bool:
    bare = text.lstrip(BLANK)
    if not bare:
        return text.strip("Ġ▁") != ""  # a line end, but not a lone mark, which belongs to what follows
    return not _goes_on(text) and bare.isascii() and not any(c.isalnum() for c in bare)
