"""Points in words: what a tooltip, a header or a screen reader says.

Plain text, never HTML. Text from the user's data is shortened and its control characters are made visible, so that one
token stays one line; whoever writes HTML escapes it all the same.
"""

import pandas as pd

from attnviz.metrics import HEADLINES
from attnviz.store import RunDirectory

__all__ = ["describe_token", "excerpt", "patch_name", "score_phrases", "show_text"]

LONGEST = 28


def show_text(text: str, *, longest: int = LONGEST) -> str:
    """Return a token on one line: control characters as symbols, the middle of a long one left out."""
    visible = "".join(_visible(c) for c in text)
    if len(visible) > longest:
        half = (longest - 1) // 2
        visible = f"{visible[:half]}…{visible[-half:]}"
    return visible or "∅"


def excerpt(run: RunDirectory, token: int, *, around: int = 5) -> tuple[str, str, str]:
    """Return the tokens before, the token, and the tokens after it in its sequence, as text."""
    rows = run.token_slice(int(run.tokens["sequence_id"].iloc[token]))
    texts = run.tokens["text"]
    before = texts.iloc[max(rows.start, token - around) : token]
    after = texts.iloc[token + 1 : min(rows.stop, token + around + 1)]
    shown = [" ".join(show_text(text, longest=14) for text in side) for side in (before, after)]
    left = "… " if token - around > rows.start else ""
    right = " …" if token + around + 1 < rows.stop else ""
    return left + shown[0], show_text(texts.iloc[token]), shown[1] + right


def describe_token(run: RunDirectory, token: int, kind: str, *, norm: float | None = None) -> list[str]:
    """Return one point as a few short lines: text and kind, place, surroundings."""
    row = run.tokens.iloc[token]
    length = int(run.sequences["num_tokens"].loc[row.sequence_id])
    place = f"position {row.position} of {length}, sequence {row.sequence_id}"
    facts = [place] if norm is None else [place, f"norm {norm:.2f}"]
    if run.manifest.model.modality == "image":
        reference = str(run.sequences["reference"].loc[row.sequence_id])
        return [f"{patch_name(run, token)} · {kind}", *facts, show_text(reference, longest=44)]
    before, text, after = excerpt(run, token)
    return [f"{text} · {kind}", *facts, f"{before} [{text}] {after}".strip()]


def patch_name(run: RunDirectory, token: int) -> str:
    """Return how a token of an image is called: its patch, or its text if it is none."""
    row = run.tokens.iloc[token]
    if row.is_special or row.isna()["patch_row"]:
        return show_text(row.text)
    return f"patch {int(row.patch_row)}, {int(row.patch_col)}"


def score_phrases(scores: pd.DataFrame, layer: int, head: int) -> list[str]:
    """Return a map's most telling scores of one head, ready to be shown: ``trustworthiness 0.97``."""
    rows = scores.loc[[(layer, head)]]
    shown = [name for name in HEADLINES if name in rows]
    return [f"{name.replace('_', ' ')} {float(rows[name].iloc[0]):.2f}" for name in shown]


def _visible(character: str) -> str:
    code = ord(character)
    if code < 32:
        return chr(0x2400 + code)
    return "␡" if code == 127 else character
