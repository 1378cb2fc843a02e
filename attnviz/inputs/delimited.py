"""CSV and TSV files, with a header line, as spreadsheets, pandas, R and databases write them.

Opening walks through the file once: it counts the rows and finds, per column, the narrowest type that every value has (see
``attnviz.inputs.values``). Guessing from the first block, as streaming readers do, fails at row 100,000 when an identifier turns
out to have letters. How the file is cut into cells is in ``attnviz.inputs.dialect``; what was assumed is a note.

A row with another number of cells than the header is a counted skip, and the first one's line is noted; where they are more than
half, the file is not what was taken for, and is refused.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attnviz.errors import InputError
from attnviz.inputs.columns import Columns, choose, free_name, require_distinct, to_record
from attnviz.inputs.dialect import UNQUOTED, Dialect, cut, detect, rows
from attnviz.inputs.opening import TextFile, open_text
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip, pick
from attnviz.inputs.values import Column
from attnviz.types import Record

__all__ = ["read_csv", "read_tsv"]

_AT_ONCE = 1024  # rows: a label that they share is looked at once


def read_csv(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a comma-separated file, or one that a spreadsheet calls so."""
    return _open(Path(location), ",", options)


def read_tsv(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a tab-separated file."""
    return _open(Path(location), "\t", options)


@dataclass(slots=True)
class _Scan:
    """What one walk through a file finds."""

    header: list[str]
    columns: list[Column]
    count: int = 0
    wrong: list[tuple[int, int]] = field(default_factory=list)  # lines and numbers of cells, the first few
    wrong_count: int = 0
    malformed: tuple[int, str] | None = None  # the first row that is no row
    malformed_count: int = 0
    further: int = 0  # rows that end in separators beyond the header

    @property
    def unusable(self) -> int:
        return self.wrong_count + self.malformed_count


def _open(path: Path, promised: str, options: DataOptions) -> Rows:
    file = open_text(path, options.encoding)
    dialect, notes = detect(file, promised, options.delimiter)
    dialect, scan, unquoted = _scanned(file, dialect)
    if scan is None:
        return Rows(0, lambda indexes: iter(()))
    _require_rows(path, scan, dialect)
    names = _names(path, scan, dialect)
    columns = choose(str(path), [name for name in names if name is not None], options)
    parsers = [
        None if name is None else str if name in columns.shown else column.parser()
        for name, column in zip(names, scan.columns, strict=True)
    ]

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for number, cells in pick(rows(file, dialect), indexes + 1):  # row 0 lies below the header
            yield _to_record(f"{path.name}:{number}", names, cells, parsers, columns)

    assumed = (*notes, *unquoted, *(f"{path.name}: {note}" for note in _notes(scan, names, columns)))
    return Rows(scan.count, take, (*file.notes, *assumed))


def _scanned(file: TextFile, dialect: Dialect) -> tuple[Dialect, _Scan | None, tuple[str, ...]]:
    """Walk through a file; where tabs part cells and quotes spoil rows, quotes are characters, as such files often have them."""
    literal = replace(dialect, quotes=False)
    if dialect.delimiter != "\t" or not dialect.quotes:
        return dialect, _scan(file, dialect), ()
    try:
        scan = _scan(file, dialect)
    except InputError:
        scan, plain = None, _scan(file, literal)
        if plain is None or plain.unusable:
            raise
    else:
        plain = _scan(file, literal) if scan and scan.unusable else None
    if plain is None or (scan and plain.unusable >= scan.unusable):
        return dialect, scan, ()
    return literal, plain, (f"{file.path.name}: {UNQUOTED}",)


def _scan(file: TextFile, dialect: Dialect) -> _Scan | None:
    """Return what a walk through all rows finds; None for a file without a header."""
    scan: _Scan | None = None
    kept: list[list[str]] = []
    for number, cells in rows(file, dialect):
        if scan is None:
            if isinstance(cells, str):
                raise InputError(f"{file.path}, line {number}: the header is no row: {cells}. Mend it.")
            scan = _Scan(cells, [Column(dialect.delimiter) for _ in cells])
            continue
        scan.count += 1
        if isinstance(cells, str):
            scan.malformed = scan.malformed or (number, cells)
            scan.malformed_count += 1
        elif exact := _exact(scan, number, cells):
            kept.append(exact)
            if len(kept) == _AT_ONCE:
                _see(scan, kept)
    if scan is not None and kept:
        _see(scan, kept)
    return scan


def _exact(scan: _Scan, number: int, cells: list[str]) -> list[str] | None:
    """Return the cells of a row that has as many as the header; count one that has not."""
    exact = cut(cells, len(scan.header))
    if exact is None:
        scan.wrong_count += 1
        if len(scan.wrong) < 5:
            scan.wrong.append((number, len(cells)))
    elif len(cells) > len(exact):
        scan.further += 1
    return exact


def _see(scan: _Scan, kept: list[list[str]]) -> None:
    """Show some rows to the columns, and forget them."""
    for column, values in zip(scan.columns, zip(*kept, strict=True), strict=True):
        column.see(values)
    kept.clear()


def _require_rows(path: Path, scan: _Scan, dialect: Dialect) -> None:
    """Refuse a file most of whose rows have another number of cells than its header, naming the likely cause."""
    if scan.wrong_count * 2 <= scan.count:
        return
    line, cells = scan.wrong[0]
    header = len(scan.header)
    if header > 1 and {count for _, count in scan.wrong} == {header + 1}:
        cause = (
            "Likely rows begin with a name that the header lacks, as R's write.table writes them: write with "
            "row.names = FALSE; or a text holds the delimiter without quotes: quote it."
        )
    elif cells > header > 1:
        cause = 'Likely a text holds the delimiter without quotes. Write such cells in ", as csv.writer and pandas do.'
    else:
        cause = (
            "Likely lines above the table, or line ends within texts without quotes, or another delimiter: remove those "
            "lines, quote the texts, or set data.delimiter."
        )
    raise InputError(
        f"{path}, line {line}: {cells} cells, cut at {dialect.delimiter!r}, where the header has {header}; so it is with "
        f"{scan.wrong_count:,} of {scan.count:,} rows. {cause}"
    )


def _names(path: Path, scan: _Scan, dialect: Dialect) -> list[str | None]:
    """Return a name for each column, None for one that has neither name nor value."""
    given = [name.strip() for name in scan.header]
    require_distinct(str(path), [name for name in given if name])
    names: list[str | None] = []
    for index, (name, column) in enumerate(zip(given, scan.columns, strict=True)):
        if name:
            names.append(name)
        elif column.empty:
            names.append(None)
        else:
            free = free_name("index" if index == 0 else f"column {index + 1}", given, given)
            names.append(free)
    return names


def _notes(scan: _Scan, names: Sequence[str | None], columns: Columns) -> Iterator[str]:
    """Yield what was assumed of the rows and columns."""
    if scan.wrong:
        line, cells = scan.wrong[0]
        yield (
            f"{scan.wrong_count:,} of {scan.count:,} rows have not the {len(scan.header)} cells of the header; "
            f"the first, line {line}, has {cells}"
        )
    if scan.malformed:
        line, why = scan.malformed
        yield f"{scan.malformed_count:,} of {scan.count:,} rows are malformed; the first, line {line}: {why}"
    if scan.further:
        yield f"{scan.further:,} rows end in more separators than the header, with nothing behind them"
    for given, name, column in zip(scan.header, names, scan.columns, strict=True):
        if name is None:
            yield "a column without a name and without a value is left out"
        elif not given.strip():
            yield f"a column without a name is kept as {name!r}"
        if name is not None and name not in columns.shown:
            yield from column.notes(name)


def _to_record(
    reference: str,
    names: Sequence[str | None],
    cells: list[str] | str,
    parsers: Sequence[Callable[[str], Any] | None],
    columns: Columns,
) -> Record | Skip:
    if isinstance(cells, str):
        return Skip("malformed row", reference, cells)
    exact = cut(cells, len(names))
    if exact is None:
        return Skip("wrong number of cells", reference, f"{len(cells)} where the header has {len(names)}")
    known = zip(names, parsers, exact, strict=True)
    row = {name: parse(cell) for name, parse, cell in known if name is not None and parse is not None}
    return to_record(reference, row, columns)
