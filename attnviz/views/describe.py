"""Points in words: what a tooltip, a header or a screen reader says.

Plain text, never HTML. Text from the user's data is shortened and its control characters are made visible, so that one
token stays one line; whoever writes HTML escapes it all the same.
"""

import numpy as np
import pandas as pd

from attnviz.metrics import HEADLINES
from attnviz.store import RunDirectory
from attnviz.types import LayerInfo

__all__ = [
    "describe_absence",
    "describe_token",
    "excerpt",
    "layer_name",
    "patch_name",
    "score_phrases",
    "show_text",
]

LONGEST = 28
TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
"""Characters that turn the direction of the text around them, or break its line."""


def show_text(text: str, *, longest: int = LONGEST) -> str:
    """Return a token on one line: control characters as symbols, the middle of a long one left out."""
    visible = "".join(_visible(c) for c in text)
    if len(visible) > longest:
        half = (longest - 1) // 2
        visible = f"{visible[:half]}…{visible[-half:]}"
    return visible or "∅"


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
    before, after = (" ".join(show_text(text, longest=14) for text in side) for side in sides)
    left = "… " if place > around else ""
    right = " …" if place + around + 1 < len(texts) else ""
    return left + before, show_text(texts[place]), after + right


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


def patch_name(run: RunDirectory, token: int) -> str:
    """Return how a token is called in an image or a text: its patch, or its text if it is none."""
    row = run.tokens.iloc[token]
    if row.is_special or row.isna()["patch_row"]:
        return show_text(row.text)
    return f"patch {int(row.patch_row)}, {int(row.patch_col)}"


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
    if code < 32:
        return chr(0x2400 + code)
    if character in TURNS:
        return "�"
    return "␡" if code == 127 else character
