"""Parquet, one row group per head."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from attnviz.export.stream import write_stream

__all__ = ["write_parquet"]


def write_parquet(tables: Iterable[pa.Table], path: Path) -> int:
    """Write a stream of tables as one Parquet file; return the number of rows."""
    return write_stream(tables, path, create=partial(pq.ParquetWriter, compression="zstd"))
