"""What the cells of a CSV column are: whole numbers, measured numbers, true or false, dates, or text as it stands.

Receives the cells some at a time, gives what reads them. A column is numbers only where writing them back gives what was written:

- whole numbers have no plus and no leading zero and fit into 64 bits, signed or not; longer identifiers are text;
- measured numbers have a decimal point somewhere in the column (or an exponent with a sign, as programs write it) and are
  written in one way: in the shortest form (0.5, 1e5) or all with as many decimals (0.50, 1.25). So the versions 1.1 and 1.10
  stay two, ``1e5`` beside whole numbers stays the code it may be, and an identifier that no float holds stays text;
- a decimal comma is read where the delimiter is another, and where 1,234 could not be a thousand;
- dates and times are ISO 8601 in every cell; times with an offset become UTC.

A gap is None and changes no type. ``NA`` and its like are gaps where all else is no text, and the reader says so. pandas and
pyarrow were tried first (2026-11-28): both make floats of 20 digits, pandas of whole numbers with a gap.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Protocol

__all__ = ["Column"]

_MISSING = frozenset({"NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None", "\\N"})
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,19}")
_MEASURED = {mark: re.compile(rf"-?(?:0|[1-9][0-9]*)?(?:(\{mark})([0-9]*))?(?:[eE]([+-]?)[0-9]+)?") for mark in ".,"}
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2},[0-9]{3}")
_TRUTH = re.compile(r"true|false", re.IGNORECASE)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_FIGURES = re.compile(r"[+-]?[0-9][0-9.,:/ '-]*[%€$]?")
_EXACT = 2**53  # every whole number up to here is a float


class _Kind(Protocol):
    def see(self, cell: str) -> bool:
        """Tell whether a cell is of this kind, and remember it."""
        ...

    def widened(self, cell: str) -> "_Kind | None":
        """Return the kind of all cells so far and of one that is not of this kind, if there is one."""
        ...

    def reads(self) -> Callable[[str], Any] | None:
        """Return what reads the cells; None where they are better kept as text."""
        ...


class _Whole:
    def __init__(self) -> None:
        self.least = self.most = 0

    def see(self, cell: str) -> bool:
        """Note a cell; tell whether it is a whole number."""
        if not _WHOLE.fullmatch(cell):
            return False
        value = int(cell)
        if value > self.most:
            self.most = value
        elif value < self.least:
            self.least = value
        return True

    def widened(self, cell: str) -> _Kind | None:
        if max(-self.least, self.most) > _EXACT:
            return None
        return next((kind for mark in _MEASURED if (kind := _Measured(mark, bare=True)).see(cell)), None)

    def reads(self) -> Callable[[str], Any] | None:
        signed = self.least >= -(2**63) and self.most < 2**63
        return int if signed or (self.least >= 0 and self.most < 2**64) else None


class _Measured:
    def __init__(self, mark: str, *, bare: bool = False) -> None:
        self.mark = mark
        self.measured = False  # some cell shows that these are no codes
        self.decimals = {0} if bare else set[int]()
        self.shortest = True
        self.thousands = True  # every comma may part thousands

    def see(self, cell: str) -> bool:
        """Note a cell; tell whether it is a number with this decimal mark that loses no digit."""
        found = _MEASURED[self.mark].fullmatch(cell)
        if not found or not (cell.lstrip("-")[:1].isdigit() or found[2]):
            return False
        point, decimals, sign = found.groups()
        value = _comma(cell)
        if math.isinf(value) or (
            sign is None and abs(value) > _EXACT and int(value) != int(cell.partition(self.mark)[0])
        ):
            return False
        self.measured |= point is not None or bool(sign)
        self.decimals.add(len(decimals or ""))
        self.shortest &= not (decimals or "").endswith("0") or decimals == "0"
        self.thousands &= point is None or bool(_THOUSANDS.fullmatch(cell))
        return True

    def widened(self, cell: str) -> _Kind | None:
        return None

    def reads(self) -> Callable[[str], Any] | None:
        if not self.measured or not (self.shortest or len(self.decimals) == 1):
            return None
        if self.mark == ".":
            return float
        return None if self.thousands else _comma


def _comma(cell: str) -> float:
    return float(cell.replace(",", "."))


class _Truth:
    def see(self, cell: str) -> bool:
        return bool(_TRUTH.fullmatch(cell))

    def widened(self, cell: str) -> _Kind | None:
        return None

    def reads(self) -> Callable[[str], Any] | None:
        return _truth


def _truth(cell: str) -> bool:
    return cell.lower() == "true"


class _Date:
    def see(self, cell: str) -> bool:
        return bool(_DATE.fullmatch(cell)) and _is(date.fromisoformat, cell)

    def widened(self, cell: str) -> _Kind | None:
        return None

    def reads(self) -> Callable[[str], Any] | None:
        return date.fromisoformat


class _Time:
    def __init__(self) -> None:
        self.offsets: set[bool] = set()

    def see(self, cell: str) -> bool:
        found = _TIME.fullmatch(cell)
        if not found or not _is(_time, cell):
            return False
        self.offsets.add(found[1] is not None)
        return len(self.offsets) == 1

    def widened(self, cell: str) -> _Kind | None:
        return None

    def reads(self) -> Callable[[str], Any] | None:
        return _time


def _time(cell: str) -> datetime:
    value = datetime.fromisoformat(cell)
    return value if value.tzinfo is None else value.astimezone(UTC)


def _is(read: Callable[[str], Any], cell: str) -> bool:
    try:
        read(cell)
    except (ValueError, OverflowError):
        return False
    return True


_KINDS: tuple[Callable[[], _Kind], ...] = (
    _Whole,
    lambda: _Measured("."),
    lambda: _Measured(","),
    _Truth,
    _Date,
    _Time,
)


def _are_figures(cells: Iterable[str]) -> bool:
    return all(cell in _MISSING or _FIGURES.fullmatch(cell) for cell in dict.fromkeys(cells) if cell)


class Column:
    """The cells of one column, seen some at a time."""

    def __init__(self, delimiter: str = ",") -> None:
        self.delimiter = delimiter
        self.empty = True  # no cell held anything
        self.missing: dict[str, int] = {}
        self._kind: _Kind | None = None
        self._is_text = False
        self._figures = True  # all cells look like numbers or dates, though these are text

    def see(self, cells: Sequence[str]) -> None:
        """Take in some cells: each different one is looked at once, and none of a column that is prose."""
        if self._is_text:
            self._figures = self._figures and _are_figures(cells)
            return
        for cell in dict.fromkeys(cells):
            if cell in _MISSING:
                self.empty = False
                self.missing[cell] = self.missing.get(cell, 0) + cells.count(cell)
            elif cell:
                self.empty = False
                if not self._fits(cell):
                    self._is_text, self._figures = True, _are_figures(cells)
                    return

    def _fits(self, cell: str) -> bool:
        """Tell whether some kind has this cell and all before it, and remember it."""
        if self._kind is None:
            self._kind = next((kind for make in _KINDS if (kind := make()).see(cell)), None)
        elif not self._kind.see(cell):
            self._kind = self._kind.widened(cell)
        return self._kind is not None

    def parser(self) -> Callable[[str], Any]:
        """Return what makes a value of a cell."""
        reads = self._reads()
        if reads is None:
            return lambda cell: cell or None
        return lambda cell: None if not cell or cell in _MISSING else reads(cell)

    def notes(self, name: str) -> Iterable[str]:
        """Yield what was assumed of the column, for people."""
        reads = self._reads()
        if reads is None:
            if self._figures and not self.empty:
                yield f"column {name!r} is text: not all its figures are plain numbers (1234.5) or dates (2024-03-01)"
            return
        if reads is _comma:
            yield f"column {name!r}: a comma is read as the decimal point"
        for word, count in self.missing.items():
            yield f"column {name!r}: {word!r} ({count:,} cells) is read as no value"

    def _reads(self) -> Callable[[str], Any] | None:
        reads = None if self._kind is None else self._kind.reads()
        return None if reads is _comma and self.delimiter == "," else reads
