"""CSV and TSV files, with a header line.

Opening walks through the file once: it counts the rows and finds, per column, the narrowest type that every value has.
Guessing from the first block, as streaming readers do, fails at row 100,000 when an identifier turns out to have letters.
Numbers with leading zeros are codes and stay strings; an empty cell is None.
"""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attnviz.errors import InputError
from attnviz.inputs.columns import Columns, choose, to_record
from attnviz.inputs.lines import lines
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip, pick
from attnviz.types import Record

__all__ = ["read_csv", "read_tsv"]

_Parser = tuple[re.Pattern[str], Callable[[str], Any]]
_PARSERS: tuple[_Parser, ...] = (
    (re.compile(r"[+-]?(0|[1-9][0-9]{0,17})"), int),  # 18 digits always fit into 64 bits
    (re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|nan|NaN"), float),
    (re.compile(r"true|false", re.IGNORECASE), lambda value: value.lower() == "true"),
)


def read_csv(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a comma-separated file."""
    return _open(Path(location), ",", options)


def read_tsv(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a tab-separated file."""
    return _open(Path(location), "\t", options)


def _open(path: Path, delimiter: str, options: DataOptions) -> Rows:
    header = next((cells for _, cells in _cells(path, delimiter)), None)
    if header is None:
        return Rows(0, lambda indexes: iter(()))
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(
            f"{path} has several columns of the name {', '.join(twice)}. Give each column a name of its own."
        )
    columns = choose(str(path), header, options)
    count, parsers = _scan(path, delimiter, header, columns)

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for number, cells in pick(_cells(path, delimiter), indexes + 1):  # row 0 lies below the header
            yield _to_record(f"{path.name}:{number}", header, cells, parsers, columns)

    return Rows(count, take)


def _cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of every row that is not blank, the header included."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter)
            yield from ((rows.line_num, cells) for cells in rows if cells)
    except UnicodeDecodeError:
        for _ in lines(path):  # raises at the line, whose number a decoder of blocks does not know
            pass
        raise
    except csv.Error as error:
        raise InputError(
            f"{path}, line {rows.line_num}: {error}. Accepted are cells of at most {csv.field_size_limit()} characters, "
            'quoted with " where they hold the delimiter; longer texts fit into .jsonl or .parquet.'
        ) from error


def _scan(path: Path, delimiter: str, header: list[str], columns: Columns) -> tuple[int, list[Callable[[str], Any]]]:
    """Return the number of rows and one parser per column, the first that understands all of its values."""
    fitting = [list(_PARSERS) if name not in columns.shown else [] for name in header]
    seen = [False] * len(header)
    count = -1  # the header is no row
    for count, (_, cells) in enumerate(_cells(path, delimiter)):
        if count and len(cells) == len(header):
            for column, value in enumerate(cells):
                if value:
                    seen[column] = True
                    fitting[column] = [parser for parser in fitting[column] if parser[0].fullmatch(value)]
    parsers = [kinds[0][1] if kinds and any_value else str for kinds, any_value in zip(fitting, seen, strict=True)]
    return count, parsers


def _to_record(
    reference: str, header: list[str], cells: list[str], parsers: list[Callable[[str], Any]], columns: Columns
) -> Record | Skip:
    if len(cells) != len(header):
        return Skip("wrong number of cells")
    values = (parse(cell) if cell else None for parse, cell in zip(parsers, cells, strict=True))
    return to_record(reference, dict(zip(header, values, strict=True)), columns)
