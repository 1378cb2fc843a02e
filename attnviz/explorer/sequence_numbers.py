"""The numbers of one query and one key under some heads: q·k, logit, weight, as a table and in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from attnviz.explorer.markup import isolated
from attnviz.explorer.sequence_reading import Pair, Shown, changes_of
from attnviz.explorer.state import State
from attnviz.plots.theme import THEMES, head_colors
from attnviz.types import KINDS
from attnviz.views import Changes, pair_numbers

__all__ = ["Row", "numbers_table", "pair_row", "pair_steps", "pair_table", "side_of"]

MOST = 16  # heads


@dataclass(frozen=True, slots=True)
class Row:
    """One head's numbers; None where there are none, as of a word of several pieces."""

    head: str
    color: str
    partner: str  # which token the numbers are with, where heads differ in it
    dot: float | None
    logit: float | None
    weight: float | None  # the model's
    shown: float | None  # after whatever was asked for; None where that is nothing


def pair_table(state: State, shown: Shown, pair: Pair) -> str:
    """Return the numbers of a row and a column under every head; of one of both, with each head's strongest partner."""
    several = None in pair
    kind, _ = side_of(pair)
    names = shown.texts[1 - KINDS.index(kind)]
    rows = []
    for number in range(len(shown.heads[:MOST])):
        place = _strongest(shown, number, pair) if None in pair else _whole(pair)
        rows.append(pair_row(state, shown, number, place, names[place[1 - KINDS.index(kind)]] if several else ""))
    title = " → ".join(texts[i] if i is not None else "…" for texts, i in zip(shown.texts, pair, strict=True))
    left = f"The first {MOST} of {len(shown.heads)} heads." if len(shown.heads) > MOST else ""
    strongest = "Each head with its strongest partner. " if several else ""
    return numbers_table(title, rows, note=f"{strongest}{left}".strip())


def pair_row(state: State, shown: Shown, number: int, pair: tuple[int, int], partner: str = "") -> Row:
    """Return the numbers of one of the heads that are shown; the model's, where row and column are a token each."""
    head, (query, key) = shown.heads[number], pair
    color = head_colors(THEMES[state.theme], head + 1)[head]
    weight = float(shown.weights[number, query, key])
    if shown.columns is None:
        return Row(str(head), color, partner, None, None, weight, None)
    tokens = [side.tokens(row) for side, row in zip(shown.columns, (query, key), strict=True)]
    if max(map(len, tokens)) > 1:
        return Row(str(head), color, partner, None, None, None, weight)
    made = pair_numbers(state.directory, state.layer, head, tokens[0][0], tokens[1][0])
    changed = weight if changes_of(state) != Changes() else None
    return Row(str(head), color, partner, made.dot, made.logit, made.weight, changed)


def pair_steps(state: State, row: Row) -> list[str]:
    """Return the way from q·k to the weight in words, of a pair of tokens."""
    if row.dot is None or row.logit is None or row.weight is None:
        return []
    scaled = row.dot * state.directory.layers[state.layer].scaling
    way = f"q·k {_number(row.dot)}, scaled {_number(scaled)}, logit {_number(row.logit)}"
    return [way, *([f"the model's weight: {_share(row.weight)}"] if row.shown is not None else [])]


def side_of(pair: Pair) -> tuple[str, int]:
    """Return kind and row of a place on one side."""
    query, key = pair
    if query is not None:
        return "query", query
    if key is None:
        raise ValueError("a place of neither a row nor a column")
    return "key", key


def _whole(pair: Pair) -> tuple[int, int]:
    query, key = pair
    if query is None or key is None:
        raise ValueError(f"{pair} is no pair")
    return query, key


def _strongest(shown: Shown, number: int, pair: Pair) -> tuple[int, int]:
    kind, row = side_of(pair)
    own = shown.weights[number, row] if kind == "query" else shown.weights[number, :, row]
    best = int(np.argmax(own))
    return (row, best) if kind == "query" else (best, row)


def numbers_table(title: str, rows: Sequence[Row], *, note: str = "") -> str:
    """Return the table under a title such as ``cat → mat``."""
    partner, shown = any(row.partner for row in rows), any(row.shown is not None for row in rows)
    names = ["head", *["with"] * partner, "q·k", "logit", "weight", *["shown"] * shown]
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cells(row, partner=partner, shown=shown))}</tr>" for row in rows)
    left = f'<p class="left">{escape(note)}</p>' if note else ""
    return f'<h3>{isolated(title)}</h3><table class="numbers"><tr>{head}</tr>{body}</table>{left}'


def _cells(row: Row, *, partner: bool, shown: bool) -> list[str]:
    swatch = f'<i class="swatch" style="background:{escape(row.color)}"></i>'
    cells = [f"<td>{swatch}{escape(row.head)}</td>"]
    if partner:
        cells.append(f'<td class="name">{isolated(row.partner)}</td>')
    cells += [f'<td class="number">{_number(value)}</td>' for value in (row.dot, row.logit)]
    cells.append(f'<td class="number">{_share(row.weight)}</td>')
    if shown:
        cells.append(f'<td class="number">{_share(row.shown)}</td>')
    return cells


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-inf", "−∞")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.2f} %"
