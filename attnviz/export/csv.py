"""CSV, for spreadsheets and everything else.

Numbers, decimals and booleans are written bare. What CSV has no form for is text: bytes in hexadecimal, nested values as
JSON, dates, times and durations as the explorer shows them.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc

from attnviz.export.stream import write_stream
from attnviz.store.texts import TEXT, texts

__all__ = ["write_csv"]

BARE = (
    *(pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_boolean),
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_decimal),
)
"""What Arrow writes as it is shown."""


def write_csv(tables: Iterable[pa.Table], path: Path) -> int:
    """Write a stream of tables as one CSV file with a header; return the number of rows."""
    return write_stream(map(_plain, tables), path, create=pc.CSVWriter)


def _plain(table: pa.Table) -> pa.Table:
    return pa.table([_cells(column) for column in table.columns], names=table.column_names)


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type)
    if any(fits(kind) for fits in BARE):
        return column
    return pa.chunked_array([texts(chunk) for chunk in column.chunks], TEXT)
