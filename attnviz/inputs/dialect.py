"""How a CSV is written: what stands between its cells, whether quotes mean anything, what stands before the header.

Receives a text file and the delimiter that its name promises, gives a ``Dialect`` and what of it is not as promised. A
delimiter other than the promised one is taken where it cuts the header into several cells and nearly every row into as many;
where that is not so, the promised one stays, and a row of another number of cells says what is wrong. ``csv.Sniffer`` was
tried first: of ten small files it found blanks, line ends and the letter "e" as the delimiters of five (2026-11-28). pyarrow
and pandas must be told the delimiter, and pandas takes a trailing separator for an index and shifts the columns.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from attnviz.errors import InputError
from attnviz.inputs.opening import TextFile

__all__ = ["UNQUOTED", "Dialect", "cut", "detect", "rows"]

_DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
UNQUOTED = "quotes are characters of the text: as marks of cells they would join rows"
_SAMPLE = 200  # rows
_AGREE = 0.9  # of the rows have as many cells as the header
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How rows are cut into cells."""

    delimiter: str
    quotes: bool = True
    blanks: bool = False  # a blank behind a delimiter belongs to no cell
    before: int = 0  # lines above the header


@dataclass(frozen=True, slots=True)
class _Fit:
    cells: int  # of the header
    share: float  # of the rows below it that have as many
    inner: bool  # a cell begins with a blank and a quote


def detect(file: TextFile, promised: str, given: str | None = None) -> tuple[Dialect, tuple[str, ...]]:
    """Return how a file is written, and a note for each thing that its name does not promise.

    Parameters
    ----------
    given
        A delimiter that the user named.

    Raises
    ------
    InputError
        If ``given`` is no delimiter.
    """
    dialect = Dialect(promised)
    notes = []
    if told := _SEPARATOR.fullmatch(next(file.raw(), "").lstrip("\ufeff")):
        dialect = replace(dialect, delimiter=told[1], before=1)
        notes.append(f"the first line, sep={told[1]}, names the delimiter and is no row")
    if given is not None:
        dialect = replace(dialect, delimiter=_delimiter(file, given))
    elif not told and (other := _better(file, dialect)) != dialect:
        dialect = other
        if other.delimiter != promised:
            notes.append(f"cells are parted by {_NAMES[other.delimiter]}")
        if not other.quotes:
            notes.append(UNQUOTED)
    loose = replace(dialect, blanks=True)
    if _blanks(file, dialect) and _fit(file, loose).share >= _fit(file, dialect).share:
        dialect = loose
        notes.append("the blank behind a delimiter belongs to no cell")
    return dialect, tuple(f"{file.path.name}: {note}" for note in notes)


def _delimiter(file: TextFile, given: str) -> str:
    """Return a delimiter as the user named it."""
    known = {"tab": "\t", "\\t": "\t"}.get(given, given)
    if len(known) != 1 or known in '"\r\n':
        raise InputError(
            f"data.delimiter = {given!r} of {file.path} is no delimiter. Accepted: one character, such as ';', or 'tab'."
        )
    return known


def _better(file: TextFile, promised: Dialect) -> Dialect:
    """Return the dialect that cuts nearly all rows alike; the promised one, where it does, or where none does."""
    fit = _fit(file, promised)
    if fit.cells > 1 and fit.share >= _AGREE:
        return promised
    others = [replace(promised, delimiter=delimiter) for delimiter in _DELIMITERS]
    others.append(replace(promised, delimiter="\t", quotes=False))
    fits = [(found.share, found.cells, other) for other in others if (found := _fit(file, other)).cells > 1]
    return max((good for good in fits if good[0] >= _AGREE), key=lambda good: good[:2], default=(0, 0, promised))[2]


def _fit(file: TextFile, dialect: Dialect) -> _Fit:
    """Measure a dialect on the first rows."""
    sample: list[list[str] | str] = []
    try:
        sample += (cells for _, cells in islice(rows(file, dialect), _SAMPLE))
    except InputError:  # a quote that never ends: the dialect is another
        sample.append("")
    header = sample[0] if sample else []
    if isinstance(header, str):
        return _Fit(1, 0.0, inner=False)
    alike = [isinstance(row, list) and cut(row, len(header)) is not None for row in sample[1:]]
    inner = any(re.match(r'\s+"', cell) for row in sample if isinstance(row, list) for cell in row[1:])
    return _Fit(len(header), sum(alike) / len(alike) if alike else 1.0, inner=inner)


def _blanks(file: TextFile, dialect: Dialect) -> bool:
    """Tell whether blanks stand behind delimiters: before a quote somewhere, or before every name of the header but the first."""
    header = next((cells for _, cells in rows(file, dialect)), [])
    all_names = len(header) > 1 and all(name.startswith(" ") for name in header[1:])
    return dialect.quotes and (all_names or _fit(file, dialect).inner)


def cut(cells: list[str], wanted: int) -> list[str] | None:
    """Return a row without the empty cells that further separators make; None if it has another number of cells."""
    while len(cells) > wanted and not cells[-1]:
        cells = cells[:-1]
    return cells if len(cells) == wanted else None


def rows(file: TextFile, dialect: Dialect) -> Iterator[tuple[int, list[str] | str]]:
    """Yield line number and cells of every row that is not blank, the header included; in words what is wrong, if it cannot be cut.

    Raises
    ------
    InputError
        If a cell is longer than ``csv`` reads, or its quote never ends: then what follows is no rows.
    """
    text = islice(file.raw(), dialect.before, None)
    reader = csv.reader(
        text,
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.quotes else csv.QUOTE_NONE,
        skipinitialspace=dialect.blanks,
        strict=dialect.quotes,
    )
    first = 1 + dialect.before
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            _refuse(file, first, reader.line_num + dialect.before, str(error))
            yield reader.line_num + dialect.before, _explained(str(error))
        else:
            if cells and not (len(cells) == 1 and cells[0].isspace()):  # a line of blanks is layout
                yield reader.line_num + dialect.before, cells
        first = reader.line_num + dialect.before + 1


def _refuse(file: TextFile, first: int, number: int, error: str) -> None:
    if "unexpected end of data" in error:
        raise InputError(
            f'{file.path}, line {first}: a cell begins with " and never ends, so all lines behind it are in it. End the '
            'cell with ", and write a " inside a cell twice.'
        )
    if "limit" in error:
        raise InputError(
            f"{file.path}, line {number}: {error}. Accepted are cells of at most {csv.field_size_limit()} characters, "
            'quoted with " where they hold the delimiter. Is there a " that never ends? Longer texts fit into .jsonl or '
            ".parquet."
        )


def _explained(error: str) -> str:
    if "expected after" in error:
        return 'more follows where a quoted cell ends (a " inside a cell is written twice)'
    if "new-line character" in error:
        return "a carriage return (CR) stands in a cell without quotes"
    return error
