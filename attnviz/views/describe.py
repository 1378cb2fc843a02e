"""Points in words: what a tooltip, a header or a screen reader says.

Plain text, never HTML. Text from the user's data is shortened and its control characters are made visible, so that one
token stays one line; whoever writes HTML escapes it all the same. Of a token, blanks are made visible too, and one that is written
from right to left is isolated, or it would turn the numbers and tokens beside it.
"""

import re
import unicodedata

import numpy as np
import pandas as pd

from attnviz.metrics import HEADLINES
from attnviz.store import RunDirectory
from attnviz.types import LayerInfo

__all__ = [
    "ISOLATES",
    "SIGNS",
    "describe_absence",
    "describe_token",
    "excerpt",
    "layer_name",
    "patch_name",
    "score_phrases",
    "show_text",
    "show_token",
    "token_names",
]

LONGEST = 28
ISOLATES = "\u2068", "\u2069"
"""What stands before and behind a text that runs from right to left; in HTML, the same as ``<bdi>`` and ``</bdi>``."""

TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
"""Characters that turn the direction of the text around them, or break its line."""

SIGNS = {" ": "␣", "\t": "⇥", "\n": "⏎", "\r": "␍", "\xa0": "⍽"}
"""What is shown for characters that cannot be seen; for a blank, in tokens alone: the open box, since few fonts have ␠."""

_PART = re.compile(r" \d+(–\d+)?/\d+$")  # of a character, as models.reading_tokens writes it
_BLANKS = re.compile("^ +| +$| {2,}")  # one between two words is seen without a sign
_NO_WIDTH = frozenset("\xad\u034f\u180e\u200b\u2060\u2061\u2062\u2063\u2064\ufeff")
_JOINERS = frozenset("\u200c\u200d")  # seen by what they do, unless there is nothing to join
_RIGHT_TO_LEFT = frozenset(("R", "AL"))


def show_text(text: str, *, longest: int = LONGEST) -> str:
    """Return a text on one line: control characters as symbols, the middle of a long one left out."""
    visible = "".join(_visible(c) for c in text)
    if len(visible) > longest:
        half = (longest - 1) // 2
        visible = f"{visible[:half]}…{visible[-half:]}"
    return visible or "∅"


def show_token(text: str, *, longest: int = LONGEST) -> str:
    """Return a token on one line, with signs for blanks (␣ ⇥ ⏎) and for what has no width; isolated if it runs right to left."""
    spaced = _BLANKS.sub(lambda found: SIGNS[" "] * len(found[0]), text)
    seen = show_text("".join(_sign(spaced, place) for place in range(len(spaced))), longest=longest)
    turns = any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in seen)
    if not turns:
        return seen
    part = _PART.search(seen)
    character = seen[: part.start()] if part else seen
    return character.join(ISOLATES) + seen[len(character) :]


def token_names(tokens: pd.DataFrame) -> list[str]:
    """Return how tokens are called, given rows of the run's ``tokens``: a patch by its place, others by their text as it came."""
    patch = (tokens["patch_row"].notna() & ~tokens["is_special"]).tolist()
    columns = zip(tokens["text"], tokens["patch_row"], tokens["patch_col"], patch, strict=True)
    return [f"patch {int(row)}, {int(col)}" if is_patch else str(text) for text, row, col, is_patch in columns]


def layer_name(layer: LayerInfo) -> str:
    """Return how a layer is called where a title or a sentence begins: "Layer 3", "Encoder 3", "Stage 1, layer 3"."""
    if not layer.stack:
        return f"Layer {layer.label}"
    stack = layer.stack[0].upper() + layer.stack[1:]
    return f"{stack}, layer {layer.number}" if stack[-1].isdigit() else f"{stack} {layer.number}"


def excerpt(run: RunDirectory, token: int, *, around: int = 5) -> tuple[str, str, str]:
    """Return the tokens before, the token, and the tokens after it, as text: of its sequence, and there of its stream."""
    rows = run.token_slice(int(run.tokens["sequence_id"].iloc[token]))
    beside = run.tokens[["text", "stream", "modality"]].iloc[rows]
    own = beside.iloc[token - rows.start]
    kept = ((beside["stream"] == own["stream"]) & (beside["modality"] == own["modality"])).to_numpy()
    texts = beside["text"].to_numpy()[kept]
    place = int(np.count_nonzero(kept[: token - rows.start]))
    sides = texts[max(0, place - around) : place], texts[place + 1 : place + around + 1]
    before, after = (" ".join(show_token(text, longest=14) for text in side) for side in sides)
    left = "… " if place > around else ""
    right = " …" if place + around + 1 < len(texts) else ""
    return left + before, show_token(texts[place]), after + right


def describe_token(run: RunDirectory, token: int, kind: str, *, norm: float | None = None) -> list[str]:
    """Return one point as a few short lines: text and kind, place, surroundings."""
    row = run.tokens.iloc[token]
    facts = [_place(run, row)] if norm is None else [_place(run, row), f"norm {norm:.2f}"]
    if row.modality == "image":
        reference = str(run.sequences["reference"].loc[row.sequence_id])
        return [f"{patch_name(run, token)} · {kind}", *facts, show_text(reference, longest=44)]
    before, text, after = excerpt(run, token)
    return [f"{text} · {kind}", *facts, f"{before} [{text}] {after}".strip()]


def describe_absence(run: RunDirectory, layer: int, token: int) -> str:
    """Return a sentence that says why a token is not among the points of a layer."""
    info, row = run.layers[layer], run.tokens.iloc[token]
    streams = info.query_stream, info.key_stream
    has = (
        f"queries and keys of {streams[0]}"
        if streams[0] == streams[1]
        else "queries of {} and keys of {}".format(*streams)
    )
    return (
        f"The selected token, “{patch_name(run, token)}” ({row.stream}, position {row.position}), has no point here: "
        f"{info.label} has {has}. It stays selected for the layers that have it."
    )


def patch_name(run: RunDirectory, token: int, *, longest: int = LONGEST) -> str:
    """Return how a token is called in an image or a text, as ``show_token`` shows it."""
    return show_token(token_names(run.tokens.iloc[[token]])[0], longest=longest)


def score_phrases(scores: pd.DataFrame, layer: int, head: int) -> list[str]:
    """Return a map's most telling scores of one head, ready to be shown: ``trustworthiness 0.97``."""
    rows = scores.loc[[(layer, head)]]
    shown = [name for name in HEADLINES if name in rows]
    return [f"{name.replace('_', ' ')} {float(rows[name].iloc[0]):.2f}" for name in shown]


def _place(run: RunDirectory, row: "pd.Series") -> str:
    """Return where a token stands: its position counts in its stream."""
    beside = run.tokens["stream"].iloc[run.token_slice(int(row.sequence_id))]
    where = f"{row.stream} position" if row.stream else "position"
    written = ", generated" if row.is_generated else ""
    return f"{where} {row.position} of {int((beside == row.stream).sum())}{written}, sequence {row.sequence_id}"


def _visible(character: str) -> str:
    code = ord(character)
    if character in TURNS:
        return "�"
    if character in SIGNS and character != " ":
        return SIGNS[character]
    return chr(0x2400 + code) if code < 32 else "␡" if code == 127 else character


def _sign(text: str, place: int) -> str:
    """Return a character of a token as something that is seen."""
    character = text[place]
    if character.isascii():
        return character
    beside = (text[place - 1] if place else " ", text[place + 1] if place + 1 < len(text) else " ")
    lost = character in _JOINERS and any(c in (" ", SIGNS[" "]) for c in beside)
    if character in _NO_WIDTH or lost or (place == 0 and _selects(character)):
        return f"U+{ord(character):04X}"
    category = unicodedata.category(character)
    if category == "Zs" and character not in SIGNS:
        return f"U+{ord(character):04X}"
    return f"◌{character}" if place == 0 and category[0] == "M" else character


def _selects(character: str) -> bool:
    """Tell whether a character says how the one before it looks, and has no look of its own."""
    return 0xFE00 <= ord(character) <= 0xFE0F or 0xE0000 <= ord(character) <= 0xE01EF
