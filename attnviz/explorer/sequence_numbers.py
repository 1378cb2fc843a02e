"""The numbers of one query and one key under some heads, as a table: q·k, logit, weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Row", "numbers_table"]


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


def numbers_table(title: str, rows: Sequence[Row], *, note: str = "") -> str:
    """Return the table under a title such as ``cat → mat``."""
    partner, shown = any(row.partner for row in rows), any(row.shown is not None for row in rows)
    names = ["head", *["with"] * partner, "q·k", "logit", "weight", *["shown"] * shown]
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cells(row, partner=partner, shown=shown))}</tr>" for row in rows)
    left = f'<p class="left">{escape(note)}</p>' if note else ""
    return f'<h3>{escape(title)}</h3><table class="numbers"><tr>{head}</tr>{body}</table>{left}'


def _cells(row: Row, *, partner: bool, shown: bool) -> list[str]:
    swatch = f'<i class="swatch" style="background:{escape(row.color)}"></i>'
    cells = [f"<td>{swatch}{escape(row.head)}</td>"]
    if partner:
        cells.append(f'<td class="name">{escape(row.partner)}</td>')
    cells += [f'<td class="number">{_number(value)}</td>' for value in (row.dot, row.logit)]
    cells.append(f'<td class="number">{_share(row.weight)}</td>')
    if shown:
        cells.append(f'<td class="number">{_share(row.shown)}</td>')
    return cells


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-inf", "−∞")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.2f} %"
