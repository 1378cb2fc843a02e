"""Rows of a table of Arrow whose values keep the types they have there.

Python has one whole number, one float and no nanoseconds. Where a value would not come back the same, a row holds a ``Cell``: the
column and the number of the row, for the stage that stores it to take together again.
"""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Cell", "rows_of"]

FAITHFUL = (pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.large_string(), pa.string_view())
"""Types whose values Python holds, and gives back."""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One value of a column; never one that is missing, which is None."""

    column: pa.Array
    row: int


def rows_of(table: pa.Table, rows: NDArray[np.int64], shown: Collection[str | None]) -> list[dict[str, Any]]:
    """Return some rows of a table as mappings.

    Parameters
    ----------
    rows
        Their numbers.
    shown
        The columns for the model, whose values are those of Python.
    """
    names = table.column_names
    columns = [
        _values(column, rows) if name in shown or _is_faithful(column.type) else _cells(column, rows)
        for name, column in zip(names, table.columns, strict=True)
    ]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _is_faithful(kind: pa.DataType) -> bool:
    return kind in FAITHFUL or (pa.types.is_dictionary(kind) and kind.value_type in FAITHFUL)


def _values(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> list[Any]:
    try:
        values: list[Any] = column.take(rows).to_pylist()
    except pa.ArrowNotImplementedError:  # Arrow takes nothing from views yet
        values = [column[row].as_py() for row in rows.tolist()]
    return values


def _cells(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> list[Cell | None]:
    with suppress(pa.ArrowNotImplementedError):  # what is taken lets go of the rest
        column, rows = column.take(rows), np.arange(len(rows))
    whole = column.combine_chunks()
    chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    known = whole.is_valid().to_pylist()
    first = np.cumsum([0, *(len(chunk) for chunk in chunks)])
    places = np.searchsorted(first, rows, side="right") - 1
    return [
        Cell(chunks[place], row - int(first[place])) if known[row] else None
        for place, row in zip(places.tolist(), rows.tolist(), strict=True)
    ]
