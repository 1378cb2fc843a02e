"""Search: which tokens a text matches, by themselves, by their word, by the whole text of their sequence, or by its labels.

A token is compared as it is written and by its plain text: "the" is exactly " the", "ing" and "##ing" both find "##ing", and "東"
finds the parts of that character. What is written for a part, its "1/3", is found by who asks for it, not by who seeks a "3".
A word is found in all its tokens, however the tokenizer cut it.

One boolean per token is enough for every view: a token's query and key match together, in all heads at once. It is decided
once per distinct token, sequence or label: a vocabulary is some hundred times smaller than a run. Patterns are those of RE2,
whose time grows with the text and never with the pattern's tangles, so that no visitor can stop the server with one.

Measured with 1.5 M tokens (3 M points), 30,000 of them distinct, and 50,000 sequences of 150 characters: 3 to 8 ms for tokens once
the vocabulary is read (150 ms), 70 to 125 ms for the texts of sequences, 1 to 5 ms for 40 labels (2 shared cores, 2026-11-21).
Words take longer to be read, 5 s with 270,000 distinct ones, and 100 ms to be searched (the same cores, busy, 2026-11-28).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.store import RunDirectory
from attnviz.token_text import spelled
from attnviz.views.describe import ISOLATES, SIGNS
from attnviz.views.words import word_starts

__all__ = ["HOW", "VOCABULARIES", "WHERE", "Vocabulary", "count_sequences", "match_tokens", "read_vocabulary"]

HOW = ("contains", "exact", "prefix", "regex")
WHERE = ("tokens", "words", "sequences", "labels")
VOCABULARIES = ("tokens", "words")
"""Where one is searched by its vocabulary, see ``read_vocabulary``."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The distinct tokens of a run, or its distinct words; and which of them each token is, or is of."""

    texts: pa.Array  # of strings: as they are shown
    codes: NDArray[np.int32]  # (tokens,)
    plain: pa.Array  # of strings: without blanks and marks
    byte_values: pa.Array  # of strings: where a text speaks of bytes, or of parts of characters, which these are


_SIGNS = str.maketrans({sign: meant for meant, sign in SIGNS.items()} | {"␠": " "} | dict.fromkeys([*ISOLATES, "◌"]))
_NUMBERED = re.compile(r"U\+((?:10|[0-9A-F])?[0-9A-F]{4})(?![0-9A-F])")
"""What ``views.show_token`` shows for others: what is copied from a page is found."""


def read_vocabulary(run: RunDirectory, where: str = "tokens") -> Vocabulary:
    """Find the distinct tokens of a run, or its words: the slow part of a search, worth keeping between searches.

    Parameters
    ----------
    where
        One of ``VOCABULARIES``.
    """
    return _read_words(run) if where == "words" else _read_tokens(run)


def _read_tokens(run: RunDirectory) -> Vocabulary:
    codes, texts = pd.factorize(run.tokens["text"])
    first = _first_of_each(codes, len(texts))
    own = run.tokens[["plain", "byte_values"]].iloc[first]  # what is shown alike is alike
    return Vocabulary(
        pa.array(texts, pa.string()),
        codes.astype(np.int32),
        pa.array(own["plain"], pa.string()),
        pa.array(own["byte_values"], pa.string()),
    )


def _read_words(run: RunDirectory) -> Vocabulary:
    """Return the words, told apart by the tokens that they are of, so that each is spelled once."""
    known = _read_tokens(run)
    firsts = np.flatnonzero(word_starts(run, np.arange(run.num_tokens, dtype=np.int32)))
    ends = np.append(firsts[1:], run.num_tokens)
    codes = known.codes[firsts]  # of words that are one token; the others are numbered behind them
    several = np.flatnonzero(ends - firsts > 1)
    numbers = known.codes.tobytes()
    spans = zip((4 * firsts[several]).tolist(), (4 * ends[several]).tolist(), strict=True)
    codes[several], distinct = pd.factorize(np.array([*(numbers[a:b] for a, b in spans), b""], dtype=object)[:-1])
    codes[several] += len(known.texts)
    plain, values = known.plain.to_pylist(), known.byte_values.to_pylist()
    words = [[token] for token in range(len(plain))] + [np.frombuffer(word, np.int32).tolist() for word in distinct]
    spelt = (spelled([plain[i] for i in word], [values[i] for i in word]) for word in words)
    texts = pa.array(spelt, pa.string())
    return Vocabulary(texts, np.repeat(codes, ends - firsts), texts, pa.nulls(len(texts), pa.string()))


def _first_of_each(codes: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Return where each of some numbers comes first."""
    first = np.full(count, len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    return first


def match_tokens(
    run: RunDirectory,
    text: str,
    *,
    how: str = "contains",
    where: str = "tokens",
    case: bool = False,
    vocabulary: Vocabulary | None = None,
) -> NDArray[np.bool_]:
    """Return which tokens match, ``(tokens,)``; an empty text matches none.

    Parameters
    ----------
    how
        One of ``HOW``. In tokens, each compares the text that is shown and the plain one.
    where
        One of ``WHERE``: the token itself; the word that it is of; the texts of its sequence; any of the user's columns for its
        sequence.
    case
        Whether "Paris" and "paris" differ.
    vocabulary
        ``read_vocabulary(run, where)``, if it is kept.

    Raises
    ------
    DatasetError
        If the text is no regular expression where one is asked for, or ``how`` or ``where`` is none of these.
    """
    if how not in HOW or where not in WHERE:
        raise DatasetError(
            f"A search with how={how!r} and where={where!r} is unknown. Accepted are how: {', '.join(HOW)}; "
            f"where: {', '.join(WHERE)}."
        )
    if not text:
        return np.zeros(run.num_tokens, bool)
    if where in VOCABULARIES:
        known = vocabulary or read_vocabulary(run, where)
        text = _NUMBERED.sub(lambda found: chr(int(found[1], 16)), text.translate(_SIGNS))
        if where == "words" and not (text := text.strip()):
            return np.zeros(run.num_tokens, bool)
        return _of_vocabulary(known, text, how, case=case)[known.codes]
    found = np.zeros(run.num_sequences, bool)
    for codes, values in _texts_of_sequences(run) if where == "sequences" else _labels(run):
        found |= np.append(_matches(values, text, how, case=case), False)[codes]  # a missing value has the code -1
    return np.repeat(found, np.diff(run.bounds))


def count_sequences(run: RunDirectory, points: NDArray[np.bool_]) -> int:
    """Return how many sequences have one of some points, ``(points,)``: queries, then keys."""
    tokens = points[: run.num_tokens] | points[run.num_tokens :]
    return int(np.count_nonzero(np.add.reduceat(tokens, run.bounds[:-1], dtype=np.int64)))


def _of_vocabulary(known: Vocabulary, wanted: str, how: str, *, case: bool) -> NDArray[np.bool_]:
    """Return which distinct tokens match."""
    shown = _matches(known.texts, wanted, how, case=case)
    in_bytes = known.byte_values.is_valid().to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(shown & in_bytes).tolist() if how in ("contains", "regex") else ():
        shown[row] = how == "contains" and _asks_for_bytes(wanted, known.plain[row].as_py())
    return shown | _matches(known.plain, wanted, how, case=case)


def _asks_for_bytes(wanted: str, plain: str) -> bool:
    """Tell whether a text names a byte, or a part of one of a token's characters."""
    return wanted.lower().startswith("0x") or any(character in wanted for character in plain)


def _texts_of_sequences(run: RunDirectory) -> Iterator[tuple[NDArray[np.int64], pa.Array]]:
    """Yield which of its different texts each sequence has, and these."""
    for name in ("text", "pair"):
        codes, values = pd.factorize(run.sequences[name])
        yield codes, pa.array(values.tolist(), pa.string())


def _labels(run: RunDirectory) -> Iterator[tuple[NDArray[np.int64], pa.Array]]:
    """Yield the same of the user's columns, as they are shown."""
    for column in run.columns.values():
        yield column.codes, column.names


def _matches(texts: pa.Array, wanted: str, how: str, *, case: bool) -> NDArray[np.bool_]:
    matched: NDArray[np.bool_] = _COMPARE[how](texts, wanted, not case).to_numpy(zero_copy_only=False).astype(bool)
    return matched


def _equals(texts: pa.Array, wanted: str, ignore: bool) -> pa.Array:
    return pc.equal(pc.utf8_lower(texts), wanted.lower()) if ignore else pc.equal(texts, wanted)


def _contains(texts: pa.Array, wanted: str, ignore: bool) -> pa.Array:
    return pc.match_substring(texts, wanted, ignore_case=ignore)


def _starts(texts: pa.Array, wanted: str, ignore: bool) -> pa.Array:
    return pc.starts_with(texts, wanted, ignore_case=ignore)


def _fits(texts: pa.Array, wanted: str, ignore: bool) -> pa.Array:
    try:
        return pc.match_substring_regex(texts, wanted, ignore_case=ignore)
    except pa.ArrowInvalid as error:
        reason = str(error).rpartition("Invalid regular expression: ")[2]
        raise DatasetError(f"The search {wanted!r} is no regular expression: {reason}.") from error


_COMPARE = {"contains": _contains, "exact": _equals, "prefix": _starts, "regex": _fits}
