"""CSV, for spreadsheets and everything else."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc

from attnviz.export.stream import write_stream

__all__ = ["write_csv"]


def write_csv(tables: Iterable[pa.Table], path: Path) -> int:
    """Write a stream of tables as one CSV file with a header; return the number of rows."""
    return write_stream(map(_without_dictionaries, tables), path, create=pc.CSVWriter)


def _without_dictionaries(table: pa.Table) -> pa.Table:
    """Arrow writes no dictionary columns to CSV."""
    schema = pa.schema(
        [
            field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
            for field in table.schema
        ]
    )
    return table.cast(schema)
