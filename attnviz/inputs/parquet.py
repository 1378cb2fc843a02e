"""Parquet files, the user's own or those that ``datasets`` writes.

Receives a path, gives Rows with every other column as it came. Only the row groups that hold a chosen row are read, so a
sample of a large file costs what it holds; a column of pictures is read like one of texts.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attnviz.errors import InputError
from attnviz.inputs.cells import rows_of
from attnviz.inputs.columns import choose, to_record
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip
from attnviz.types import Record

__all__ = ["read_parquet"]


def read_parquet(location: str, options: DataOptions, seed: int) -> Rows:
    """Open a Parquet file; a column of pictures, as ``datasets`` writes them, is read like one of texts.

    Raises
    ------
    InputError
        If the file is no Parquet, or the column is missing.
    """
    path = Path(location)
    try:
        with pq.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} cannot be read as Parquet ({error}). Is it complete? Write or download it again."
        ) from error
    images = [field.name for field in schema if _is_picture(field.type)]
    columns = choose(str(path), schema.names, options, images=images)

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for index, row in _chosen(path, indexes, columns.shown):
            yield to_record(f"{path.name}:{index}", row, columns)

    return Rows(count, take)


def _is_picture(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}


def _chosen(path: Path, indexes: Indexes, shown: tuple[str | None, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and columns of each chosen row, those not shown with the types that the file gives them."""
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        for group, (first, end) in enumerate(pairwise(bounds.tolist())):
            here = indexes[np.searchsorted(indexes, first) : np.searchsorted(indexes, end)]
            if len(here):
                rows = rows_of(file.read_row_group(group), here - first, shown)
                yield from zip(here.tolist(), rows, strict=True)
