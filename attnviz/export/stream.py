"""Writing a stream of tables to one file, whatever the format: what csv and parquet have in common."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from attnviz.store import write

__all__ = ["write_stream"]


def write_stream(tables: Iterable[pa.Table], path: Path, *, create: Callable[[Path, pa.Schema], Any]) -> int:
    """Write tables of one schema one after the other and return the number of rows.

    Parameters
    ----------
    create
        Opens the format's writer for a file and a schema; it is closed before the file takes its name.
    """
    rows, writer = 0, None
    with write.atomic(path, in_run=False) as partial, ExitStack() as closing:
        for table in tables:
            writer = writer or closing.enter_context(create(partial, table.schema))
            writer.write_table(table)
            rows += table.num_rows
    return rows
