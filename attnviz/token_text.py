"""What a token says, apart from how its tokenizer writes it: the definitions that the tokenizer's side and the readers share.

Punctuation is defined here and nowhere else: categories P and S of Unicode, so that ``+``, ``=`` and ``$`` count, without emoji,
which are words to whoever studies them. ``models.reading_tokens`` decides at tokenisation, where the tokenizer is at hand;
``guess`` makes the best of texts alone, for runs of earlier versions and for modules whose user gives the texts.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnviz.types import TokenText

__all__ = ["Guess", "characters_of", "guess", "guessed", "is_punctuation", "spelled"]

Mask = NDArray[np.bool_]

GOES_ON = "##"
ENDS = "</w>"
BLANKS = " Ġ▁"  # runs of earlier versions hold the marks of pieces that could not be decoded
FEW = 20_000  # tokens that tell how a run is written

_EMOJI = (
    *((0x231A, 0x231B), (0x2328, 0x2328), (0x23CF, 0x23CF), (0x23E9, 0x23FA), (0x2600, 0x27BF), (0x2B1B, 0x2B1C)),
    *((0x2B50, 0x2B50), (0x2B55, 0x2B55), (0x303D, 0x303D), (0x3297, 0x3297), (0x3299, 0x3299), (0x1F000, 0x1FAFF)),
)
"""Blocks and single characters that are pictures; © and ° are signs, and count as punctuation."""


def is_punctuation(plain: str) -> bool:
    """Tell whether a token's plain text is punctuation and signs alone; an emoji, with its colour of skin, is neither."""
    return plain != "" and all(unicodedata.category(c)[0] in "PS" and not _is_emoji(c) for c in plain)


def characters_of(raw: bytes) -> list[tuple[int, int, str | None]]:
    """Return where each character of some UTF-8 begins and ends, and which it is; None for a byte that is of none."""
    found: list[tuple[int, int, str | None]] = []
    start = 0
    while start < len(raw):
        stop = start + _width(raw[start])
        try:
            found.append((start, stop, raw[start:stop].decode("utf-8")))
        except UnicodeDecodeError:
            stop = start + 1
            found.append((start, stop, None))
        start = stop
    return found


def spelled(plain: Iterable[str], byte_values: Iterable[str | None]) -> str:
    """Return the tokens of a word as one text: characters that several tokens share are put together again.

    Parameters
    ----------
    plain, byte_values
        Of each token, as in ``tokens.parquet``.
    """
    raw = b"".join(
        bytes.fromhex(values) if isinstance(values, str) else text.encode("utf-8", "replace")
        for text, values in zip(plain, byte_values, strict=True)
    )
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return "".join(f"0x{raw[a]:02X}" if char is None else char for a, _, char in characters_of(raw)).strip()


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """What texts alone tell of tokens, one entry per token."""

    plain: NDArray[np.object_]
    starts_word: Mask
    is_punctuation: Mask


def guess(codes: NDArray[np.integer], texts: Sequence[str], alone: Mask, first: Mask) -> Guess:
    """Tell words and punctuation by the marks in the texts of tokens: ``##`` before, ``</w>`` behind, or a blank before.

    Which of these a run is written with is what most of its first tokens show; without any, each token is a word.

    Parameters
    ----------
    codes, texts
        The number of each token's text, and the distinct texts.
    alone
        Which tokens are special, or parts of an image: their texts are names.
    first
        Which tokens are the first of their sequence, stream or segment.
    """
    known = [_bare(text) for text in texts]
    plain = np.array([*known, ""], dtype=object)[:-1]
    named = np.array([*texts, ""], dtype=object)[:-1]
    punctuation = np.fromiter((is_punctuation(text) for text in known), bool, len(known))[codes] & ~alone
    lone, leading, breaks, goes_on, ends = (
        np.fromiter((tell(text) for text in texts), bool, len(texts))[codes] & ~alone for tell in _MARKS
    )
    apart = alone | punctuation | breaks
    marks = {"goes on": goes_on, "ends": ends, "blank": leading | lone}
    most = max(marks, key=lambda name: int(marks[name][:FEW].sum()))
    by_mark = {"goes on": ~goes_on, "ends": _before(ends), "blank": leading | lone}[most]
    starts = (by_mark if marks[most].any() else np.ones(len(codes), bool)) | apart | _before(apart)
    starts &= ~_before(lone) | alone | breaks
    return Guess(np.where(alone, named[codes], plain[codes]), starts | first, punctuation)


def guessed(texts: Sequence[str]) -> tuple[TokenText, ...]:
    """Return the tokens of one sequence whose texts are all that is known."""
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(text, len(known)) for text in texts], np.int64)
    nothing = np.zeros(len(codes), bool)
    made = guess(codes, list(known), nothing, np.arange(len(codes)) == 0)
    columns = (made.plain.tolist(), made.starts_word.tolist(), made.is_punctuation.tolist())
    return tuple(TokenText(text, *facts) for text, *facts in zip(texts, *columns, strict=True))


def _bare(text: str) -> str:
    text = text[len(GOES_ON) :] if _goes_on(text) else text
    return text.removesuffix(ENDS).lstrip(BLANKS).strip()


def _goes_on(text: str) -> bool:
    return text.startswith(GOES_ON) and len(text) > len(GOES_ON)


def _breaks(text: str) -> bool:
    """Tell whether a token is a line end or a tab, which belongs to no word."""
    return not text.strip() and bool(text.strip(" "))


_MARKS = (
    lambda text: text != "" and not text.strip(BLANKS),
    lambda text: text.startswith(tuple(BLANKS)),
    _breaks,
    _goes_on,
    lambda text: text.endswith(ENDS),
)
"""What a text shows: a blank alone, a blank before, a line end, that it goes on, and that it ends a word."""


def _before(tokens: Mask) -> Mask:
    """Return which tokens follow one of these."""
    return np.append(False, tokens[:-1])[: len(tokens)]


def _is_emoji(character: str) -> bool:
    code = ord(character)
    return unicodedata.category(character) in ("So", "Sk") and any(low <= code <= high for low, high in _EMOJI)


def _width(lead: int) -> int:
    """Return how many bytes a character has that begins with this one."""
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
