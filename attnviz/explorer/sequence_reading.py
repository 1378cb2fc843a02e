"""What the sentence view draws: read from the run as the state asks, and cut to what a canvas holds."""

from dataclasses import dataclass

import numpy as np

from attnviz.explorer import library
from attnviz.explorer.sequence_controls import heads_of, hidden_of
from attnviz.explorer.state import State
from attnviz.types import KINDS, FloatArray
from attnviz.views import Changes, Column, HeadsOfSequence, PositionMean, read_heads, show_token

__all__ = ["Pair", "Shown", "changes_of", "mean_of", "read_mean", "read_sequence"]

MOST = {"lines": 400, "matrix": 200}  # tokens a side: a canvas may not be higher than 16,384 device pixels

Pair = tuple[int | None, int | None]
"""A row and a column of what is shown; of a label, one of both; of nothing, none."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is drawn: weights, and the texts of their rows and columns."""

    heads: tuple[int, ...]
    weights: FloatArray  # (heads, queries, keys)
    texts: tuple[list[str], list[str]]
    hidden: tuple[list[bool], list[bool]]
    columns: tuple[Column, Column] | None = None  # None: rows and columns are positions
    whole: tuple[int, int] = (0, 0)

    def count(self, kind: str) -> int:
        """Return how many rows, or columns, there are."""
        return len(self.texts[KINDS.index(kind)])


def changes_of(state: State) -> Changes:
    """Return what a state asks to be done to the weights."""
    return Changes(
        hidden_of(state),
        special=state.hide_special,
        punctuation=state.hide_punctuation,
        first=state.hide_first,
        values=state.sentence_values,
        words=state.sentence_words,
        pairs=state.sentence_pairs,
    )


def read_sequence(state: State) -> Shown:
    """Return the state's sequence under its heads, cut to what a canvas holds."""
    run, changes = state.directory, changes_of(state)
    rows = read_heads(run, state.layer, (), state.sequence, changes)
    spans = [_around(state, rows.side(kind), kind) for kind in KINDS]
    made: HeadsOfSequence = read_heads(
        run, state.layer, heads_of(state), state.sequence, changes, rows=spans[0], columns=spans[1]
    )
    sides = (made.queries, made.keys)
    texts = [[show_token(text, longest=16) for text in side.texts] for side in sides]
    hidden = [side.hidden.tolist() for side in sides]
    return Shown(made.heads, made.weights, (texts[0], texts[1]), (hidden[0], hidden[1]), sides, made.whole)


def read_mean(state: State) -> Shown:
    """Return the mean of the state's heads over all sequences, by position."""
    made = [mean_of(state, head) for head in heads_of(state)]
    weights = np.stack([mean.weights for mean in made]) if made else np.zeros((0, 1, 1), np.float32)
    names = [[str(i) for i in range(count)] for count in weights.shape[1:]]
    hidden = [[state.hide_first and i == 0 for i in range(count)] for count in weights.shape[1:]]
    return Shown(heads_of(state), weights, (names[0], names[1]), (hidden[0], hidden[1]))


def mean_of(state: State, head: int) -> PositionMean:
    """Return the mean of one head, with the state's masks, weighed by value norms if it asks for that."""
    masks = {"special": state.hide_special, "punctuation": state.hide_punctuation, "first": state.hide_first}
    masks |= {"values": state.sentence_values}
    return library.mean_attention(state.directory, state.layer, head, **masks)


def _around(state: State, column: Column, kind: str) -> slice:
    """Return which rows are shown: all, or those around the chosen token."""
    most = MOST[state.sentence_form]
    found = None if state.token is None else column.row(state.token)
    place = 0 if found is None else found  # a token without such a row: the beginning
    start = max(0, min(place - most // 2, len(column) - most))
    return slice(start, start + most)
