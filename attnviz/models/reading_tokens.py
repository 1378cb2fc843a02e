"""From token ids to what they say: words, punctuation, and characters, also where several tokens share one.

Receives a tokenizer and the ids of one sequence. How the tokenizer writes text is asked of itself: of the parts of a fast one
(its model, decoder, normalizer and pre-tokenizer), and of any other by letting it write a few words. Never of how often a mark
shows in the data: a corpus of Hebrew has few blanks, and more bytes than characters.

A word begins where a blank stands before it, however the tokenizer says so: a blank of its own (byte-level, ``▁``, characters),
``##`` on pieces that go on, ``</w>`` on the last piece, or nothing, and then the text tells. Special tokens, line ends and pieces
of nothing but punctuation are words of their own, so what follows them begins one; a blank alone belongs to what follows.

3 to 7 µs a token, with all that makes a sequence of it; decoding each token by itself took 3 to 8 (docs-llama and MiniLM over
docstrings and over eight scripts, one shared core, 2026-11-28).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnviz.token_text import characters_of, is_punctuation
from attnviz.types import TokenText

__all__ = ["Places", "TokenReader"]

Mask = NDArray[np.bool_]

_WORDS = "東 the unbelievably zyxwvutsrqponmlk"  # what a tokenizer is asked to write; no table holds the last word
MOST_RUNS = 50_000  # of tokens that share characters, to be kept
_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True, slots=True)
class Places:
    """Where in its texts a fast tokenizer found each token."""

    texts: tuple[str | None, ...]  # the text, or both of a pair
    encoding: Any  # of the ``tokenizers`` library

    def after_blank(self) -> Mask:
        """Return before which tokens a blank stands in the text, or nothing."""
        found = np.ones(len(self.encoding.ids), bool)
        end, before = 0, None
        for row, (number, (first, last)) in enumerate(
            zip(self.encoding.sequence_ids, self.encoding.offsets, strict=True)
        ):
            text = None if number is None else self.texts[number]
            if text is not None and number == before:
                between = text[min(end, first) : first + 1]
                found[row] = first == 0 or any(c.isspace() for c in between)
            end, before = last, number
        return found


@dataclass(frozen=True, slots=True)
class _Writing:
    """How a tokenizer writes text in its pieces."""

    alphabet: str = "text"  # "bytes": GPT-2's letters for bytes; "latin": a character for each byte, as ByT5
    blank: str = ""  # what stands for one: "▁"
    goes_on: str = ""  # before a piece that is not the first of a word: "##"
    ends: str = ""  # behind the last piece of a word: "</w>"
    joins: str = ""  # behind each other piece: "@@"
    byte_pieces: bool = False  # "<0xE6>"
    keeps_blanks: bool = False

    @property
    def says_where_words_begin(self) -> bool:
        """Whether pieces say so by themselves, without the text: a piece with ``</w>`` before a digit may end no word."""
        return bool(self.keeps_blanks or self.goes_on or self.joins)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a token of the vocabulary says wherever it stands."""

    token: TokenText
    raw: bytes | None = None  # its bytes, where they are no whole characters
    special: bool = False
    lone: bool = False  # a blank, or several, and no more
    breaks: bool = False  # a line end or a tab, which belong to no word
    starts: bool | None = None  # whether it says itself that it begins a word; None: it does not say
    follows: bool | None = None  # whether it says that what comes next begins one


class TokenReader:
    """Reads the tokens of one tokenizer; what a piece says by itself is kept.

    Parameters
    ----------
    tokenizer
        A tokenizer of transformers, fast or not.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._writing = _writing(tokenizer)
        unknown = {getattr(tokenizer, "unk_token_id", None)}
        self._special = set(tokenizer.all_special_ids) - unknown
        # Written without marks: whether a blank stands before them is in the text alone.
        self._unmarked = ({*getattr(tokenizer, "added_tokens_decoder", ())} | unknown) - self._special
        self._pieces: dict[tuple[int, bool], _Piece] = {}
        self._after: dict[tuple[int, int], TokenText] = {}  # what a piece says after another, by their identities
        self._runs: dict[tuple[bytes, ...], tuple[list[TokenText], list[int]]] = {}

    def read(
        self,
        ids: Sequence[int] | NDArray[np.integer],
        is_special: Mask,
        *,
        segment: NDArray[np.integer] | None = None,
        places: Places | None = None,
    ) -> tuple[TokenText, ...]:
        """Return what the tokens of one stream of a sequence say.

        Parameters
        ----------
        is_special
            Which tokens are special, beside those that the tokenizer knows to be.
        segment
            Which text of a pair each token is of; no character and no word reaches from one into the other.
        places
            Where the first of the tokens stand in the text, if it is known; what a model writes has no place.
        """
        numbers = [int(number) for number in ids]
        pieces = [self._piece(number, special) for number, special in zip(numbers, is_special.tolist(), strict=True)]
        cuts = [False] * len(pieces) if segment is None else (np.diff(segment, prepend=segment[:1]) != 0).tolist()
        tokens, inside = self._put_together(pieces, cuts)
        blanks = self._blanks(numbers, places)
        for row in range(1, len(tokens)):
            if row not in inside and not cuts[row]:
                tokens[row] = self._in_place(row, pieces, tokens, blanks)
        return tuple(tokens)

    def _in_place(
        self, row: int, pieces: list[_Piece], tokens: list[TokenText], blanks: list[bool] | None
    ) -> TokenText:
        """Return a token that begins a word, or does not; where two pieces alone decide, they are asked once."""
        pair = None
        if blanks is None and pieces[row].raw is None and pieces[row - 1].raw is None:
            pair = id(pieces[row - 1]), id(pieces[row])  # of pieces that are kept
            if (known := self._after.get(pair)) is not None:
                return known
        token = tokens[row]
        if not _starts(row, pieces, tokens, blanks):
            token = replace(token, starts_word=False)
        if pair is not None:
            self._after[pair] = token
        return token

    def _put_together(self, pieces: list[_Piece], cuts: list[bool]) -> tuple[list[TokenText], set[int]]:
        """Return the tokens with the characters that neighbours share, and which tokens begin inside of one."""
        tokens, inside = [piece.token for piece in pieces], set()
        row = 0
        while row < len(pieces):
            stop = row + 1
            if pieces[row].raw is not None:
                while stop < len(pieces) and pieces[stop].raw is not None and not cuts[stop]:
                    stop += 1
                tokens[row:stop], within = self._run(tuple(piece.raw or b"" for piece in pieces[row:stop]))
                inside |= {row + place for place in within}
            row = stop
        return tokens, inside

    def _run(self, raws: tuple[bytes, ...]) -> tuple[list[TokenText], list[int]]:
        """Return what neighbours say whose bytes are no whole characters; the same words come again."""
        if raws not in self._runs:
            if len(self._runs) >= MOST_RUNS:
                self._runs.clear()
            self._runs[raws] = _shared(raws)
        return self._runs[raws]

    def _blanks(self, numbers: list[int], places: Places | None) -> list[bool] | None:
        """Return before which tokens a blank stands in the text, if it is known and anything depends on it."""
        if places is None or (self._writing.says_where_words_begin and self._unmarked.isdisjoint(numbers)):
            return None
        found = places.after_blank()
        return [*found, *[True] * (len(numbers) - len(found))]

    def _piece(self, number: int, is_special: bool) -> _Piece:
        """Return what a token says by itself."""
        key = number, is_special
        if key not in self._pieces:
            self._pieces[key] = self._read_piece(number, is_special)
        return self._pieces[key]

    def _read_piece(self, number: int, is_special: bool) -> _Piece:
        written: str | bytes | None = self.tokenizer.convert_ids_to_tokens(number)
        if written is None:  # models have more rows than tokens, for the sake of the hardware, and may write them
            return _named(f"[{number}]")
        if is_special or number in self._special:
            return _named(written if isinstance(written, str) else written.decode("utf-8", "replace"))
        if number in self._unmarked and isinstance(written, str):
            return _said(_utf8(written))
        return _read(written, self._writing)


def _starts(row: int, pieces: list[_Piece], tokens: list[TokenText], blanks: list[bool] | None) -> bool:
    """Tell whether a token begins a word, by its own mark, by what stands before it, or by the text."""
    piece, before = pieces[row], pieces[row - 1]
    if piece.special or before.special or piece.breaks:
        return True
    if before.lone:
        return False
    if before.breaks or tokens[row].is_punctuation or tokens[row - 1].is_punctuation:
        return True
    if piece.starts is not None:
        return piece.starts or before.follows is True
    return before.follows is not False and (blanks is None or blanks[row])


def _shared(raws: tuple[bytes, ...]) -> tuple[list[TokenText], list[int]]:
    """Return what neighbours say whose bytes are no whole characters, and which of them begin inside of a character."""
    characters = characters_of(b"".join(raws))
    tokens, inside, start, at = [], [], 0, 0
    for place, raw in enumerate(raws):
        stop = start + len(raw)
        while characters[at][1] <= start:
            at += 1
        if characters[at][0] < start:
            inside.append(place)
        last = at
        while last < len(characters) and characters[last][0] < stop:
            last += 1
        made = _parts(raw, start, characters[at:last])
        tokens.append(replace(made, starts_word=False) if characters[at][0] < start else made)
        start = stop
    return tokens, inside


def _parts(raw: bytes, start: int, characters: list[tuple[int, int, str | None]]) -> TokenText:
    """Return what a token says that holds these characters, or parts of them, from byte ``start`` on."""
    text, plain, shared, parts = "", "", [], []
    apart = False  # whether a remark stands before
    for first, end, character in characters:
        own = range(max(first, start) - first, min(end, start + len(raw)) - first)
        whole = len(own) == end - first
        said = (
            character
            if whole and character is not None
            else _remark(raw[max(first - start, 0)], character, own, end - first)
        )
        plain += character or ""
        if not whole and character is not None:
            shared.append(character)
            parts.append(said.rpartition(" ")[2])
        remark = not whole or character is None
        text += f" {said}" if (remark or apart) and text and not text.endswith(" ") else said
        apart = remark
    plain = plain.strip()
    whose, which = ("".join(shared), ", ".join(parts)) if shared else (None, None)
    return TokenText(text, plain, True, is_punctuation(plain), whose, which, raw.hex(" ").upper())


def _remark(byte: int, character: str | None, own: range, width: int) -> str:
    """Return how people read a part of a character, or a byte of none."""
    if character is None:
        return f"0x{byte:02X}"
    which = f"{own[0] + 1}" if len(own) == 1 else f"{own[0] + 1}–{own[-1] + 1}"
    return f"{character} {which}/{width}"


def _named(name: str) -> _Piece:
    return _Piece(TokenText(name, name), special=True)


def _read(written: str | bytes, how: _Writing) -> _Piece:
    """Return what a piece of a vocabulary says."""
    if isinstance(written, bytes):
        return _marked_by_blanks(_said(written))
    if how.byte_pieces and _BYTE.fullmatch(written):
        return _marked_by_blanks(_said(bytes.fromhex(written[3:5])))
    if how.goes_on:
        inner = written.startswith(how.goes_on) and written != how.goes_on
        bare = written.removeprefix(how.goes_on) if inner else written
        return replace(_said(_raw(bare, how), before=how.goes_on if inner else ""), starts=not inner)
    if how.joins:
        inner = written.endswith(how.joins) and written != how.joins
        bare = written.removesuffix(how.joins) if inner else written
        return replace(_said(_raw(bare, how), behind=how.joins if inner else ""), follows=not inner)
    if how.ends:
        return replace(_said(_raw(written.removesuffix(how.ends), how)), follows=written.endswith(how.ends))
    made = _said(_raw(written, how))
    return _marked_by_blanks(made) if how.keeps_blanks else made


def _said(raw: bytes, before: str = "", behind: str = "") -> _Piece:
    """Return what some bytes say, with marks that people know and see."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return _Piece(TokenText("", "", byte_values=""), raw)
    plain = text.strip()
    token = TokenText(f"{before}{text}{behind}", plain, is_punctuation=is_punctuation(plain))
    lone = text != "" and not text.strip(" ")
    return _Piece(token, lone=lone, breaks=text != "" and not plain and not lone)


def _marked_by_blanks(piece: _Piece) -> _Piece:
    """Return a piece whose blanks say where words begin."""
    text = piece.token.text if piece.raw is None else piece.raw.decode("utf-8", "replace")
    return replace(piece, starts=text[:1].isspace(), follows=text[-1:].isspace() or None)


def _raw(bare: str, how: _Writing) -> bytes:
    """Return the bytes for which a piece without its marks stands."""
    text = bare.replace(how.blank, " ") if how.blank else bare
    if how.alphabet == "bytes":
        return b"".join(_LETTERS[c] if c in _LETTERS else _utf8(c) for c in text)
    if how.alphabet == "latin" and all(ord(c) < 256 for c in text):
        return text.encode("latin-1")
    return _utf8(text)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _letters() -> dict[str, bytes]:
    """Return GPT-2's letters for bytes (Radford et al. 2019): a byte that shows is itself, the others follow from U+0100 on."""
    shows = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(shows)]
    letters = {chr(byte): bytes([byte]) for byte in shows}
    return letters | {chr(0x100 + place): bytes([byte]) for place, byte in enumerate(others)}


_LETTERS = _letters()


def _writing(tokenizer: Any) -> _Writing:
    """Return how a tokenizer writes text."""
    fast = getattr(tokenizer, "backend_tokenizer", None) if getattr(tokenizer, "is_fast", False) else None
    return _of_pieces(tokenizer) if fast is None else _of_parts(fast, tokenizer)


def _of_parts(fast: Any, tokenizer: Any) -> _Writing:
    """Return how a fast tokenizer writes, by its model and by what it does before and after that."""
    parts = [part for place in ("normalizer", "pre_tokenizer", "decoder") for part in _parts_of(getattr(fast, place))]
    kinds = {part.get("type") for part in parts}
    metaspaces = [part["replacement"] for part in parts if part.get("type") == "Metaspace"]
    metaspaces += [
        mark for part in parts if part.get("type") == "Replace" for mark in [_blank_of(part)] if mark is not None
    ]
    ends = getattr(fast.model, "end_of_word_suffix", None) or ""
    blank = metaspaces[0] if metaspaces else ""
    written = "ByteLevel" in kinds
    return _Writing(
        alphabet="bytes" if written else "text",
        blank=blank,
        goes_on=getattr(fast.model, "continuing_subword_prefix", None) or "",
        ends=ends,
        byte_pieces="ByteFallback" in kinds or bool(getattr(fast.model, "byte_fallback", False)),
        keeps_blanks=not ends and (written or bool(blank) or _writes_blanks(tokenizer)),
    )


def _parts_of(part: Any) -> Iterable[dict[str, Any]]:
    """Yield the settings of a part of a fast tokenizer, and of the parts it is made of."""
    waiting = [] if part is None else [json.loads(part.__getstate__())]
    while waiting:
        settings = waiting.pop()
        yield settings
        waiting += [
            inner
            for value in settings.values()
            if isinstance(value, list)
            for inner in value
            if isinstance(inner, dict)
        ]


def _blank_of(part: dict[str, Any]) -> str | None:
    """Return what a replacement puts in the place of a blank, or takes for one."""
    pattern, content = part.get("pattern", {}).get("String"), part.get("content")
    return content if pattern == " " and content else pattern if content == " " and pattern else None


def _of_pieces(tokenizer: Any) -> _Writing:
    """Return how a tokenizer without parts writes, by what it makes of a few words."""
    pieces = tokenizer.tokenize(_WORDS)
    texts = [piece for piece in pieces if isinstance(piece, str)]
    joined = "".join(texts)
    behind = {mark: any(text.endswith(mark) and text != mark for text in texts) for mark in ("</w>", "@@")}
    return _Writing(
        alphabet="bytes" if "æĿ±" in joined else "latin" if "æ\x9d±" in joined else "text",
        blank="▁" if "▁" in joined else "",
        goes_on="##" if any(text.startswith("##") for text in texts) else "",
        ends="</w>" if behind["</w>"] else "",
        joins="@@" if behind["@@"] else "",
        byte_pieces="<0xE6>" in texts,
        keeps_blanks=any(mark in joined for mark in ("▁", "Ġ", " ")),
    )


def _writes_blanks(tokenizer: Any) -> bool:
    """Tell whether blanks stand in a tokenizer's pieces as they are."""
    return any(" " in piece for piece in tokenizer.tokenize(_WORDS) if isinstance(piece, str))
