"""Parquet, one row group per head."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from attnviz.store import write

__all__ = ["write_parquet"]


def write_parquet(tables: Iterable[pa.Table], path: Path) -> int:
    """Write a stream of tables as one Parquet file; return the number of rows."""
    rows, writer = 0, None
    with write.atomic(path) as partial:
        try:
            for table in tables:
                writer = writer or pq.ParquetWriter(partial, table.schema, compression="zstd")
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    return rows
