"""The user's own columns on their way into a run: from the values of many records to one column that Parquet holds.

Values keep the type they were read with. Values of several types, and whole numbers that no type of 64 bits holds, become text: a
string is kept as it is, everything else is written as JSON, and a string that would read as JSON is quoted, so that 1 and "1" stay
two values. Whatever became text is told, for the manifest to name it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from attnviz.inputs import Cell
from attnviz.store.storable import storable
from attnviz.store.texts import texts
from attnviz.types import Record

__all__ = ["attribute_column", "attribute_columns"]

SEVERAL = "values of several types"
LARGE = "whole numbers beyond 64 bits"
BROKEN = "text that is no valid Unicode"
UNFIT = (pa.ArrowException, OverflowError, UnicodeEncodeError, ValueError, TypeError)
DEEPEST = 32  # levels of lists and objects that other readers of Parquet follow
Piece = tuple[pa.Array, list[int]]  # values, and the rows they belong to


def attribute_columns(records: Sequence[Record]) -> tuple[dict[str, pa.Array], dict[str, str]]:
    """Return the columns of some records by name, and why some of them are text now."""
    names = dict.fromkeys(name for record in records for name in record.attributes)
    made = {name: attribute_column([record.attributes.get(name) for record in records]) for name in names}
    return {name: column for name, (column, _) in made.items()}, {name: why for name, (_, why) in made.items() if why}


def attribute_column(values: Sequence[Any]) -> tuple[pa.Array, str]:
    """Return some values as one column, and why it is text now, if it is."""
    rows: dict[int, list[int]] = defaultdict(list)
    columns: dict[int, pa.Array] = {}
    plain: list[int] = []
    for row, value in enumerate(values):
        if isinstance(value, Cell):
            columns[id(value.column)] = value.column
            rows[id(value.column)].append(row)
        else:
            plain.append(row)
    pieces: list[Piece] = []
    reasons: list[str] = []
    for key, column in columns.items():
        stored, why = storable(column)
        pieces.append((stored.take(pa.array([values[row].row for row in rows[key]], pa.int64())), rows[key]))
        reasons.append(why)
    if plain:
        typed, why = _typed([values[row] for row in plain])
        pieces.append((typed, plain))
        reasons.append(why)
    joined, why = _joined(pieces)
    return joined, why or next(filter(None, reasons), "")


def _joined(pieces: list[Piece]) -> tuple[pa.Array, str]:
    """Return the values of some pieces in the order of their rows."""
    if len(pieces) == 1:
        return pieces[0][0], ""
    order = pa.array(np.argsort(np.concatenate([rows for _, rows in pieces])) if pieces else [], pa.int64())
    arrays, why = [array for array, _ in pieces], ""
    kinds = {array.type for array in arrays if not pa.types.is_null(array.type)} or {pa.null()}
    try:
        kind = _common(kinds)
        arrays = [array.cast(kind) for array in arrays]
    except UNFIT:
        arrays, why = [pa.array(_as_texts(array), pa.string()) for array in arrays], SEVERAL
    return pa.concat_arrays(arrays).take(order) if arrays else pa.nulls(0), why


def _common(kinds: set[pa.DataType]) -> pa.DataType:
    """Return the type that holds the values of several; raise where there is none but text."""
    if len(kinds) > 1 and len({_is_text(kind) for kind in kinds}) > 1:
        raise TypeError(SEVERAL)
    schemas = [pa.schema([("x", kind)]) for kind in sorted(kinds, key=str)]
    return pa.unify_schemas(schemas, promote_options="permissive").field("x").type


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _as_texts(array: pa.Array) -> list[str | None]:
    if not _is_text(array.type):
        made: list[str | None] = texts(array).to_pylist()
        return made
    return [None if value is None else _quoted(value) for value in array.to_pylist()]


def _typed(values: list[Any]) -> tuple[pa.Array, str]:
    """Return values of Python as a column of one type, or as text."""
    kinds = {_family(value) for value in values if value is not None}
    if (len(kinds) > 1 and not kinds <= {int, float}) or (kinds & {list, dict, tuple} and _depth(values) > DEEPEST):
        return _written(values), SEVERAL
    try:
        return storable(pa.array(values))
    except UNFIT as error:
        if kinds != {int}:
            return _written(values), BROKEN if isinstance(error, UnicodeEncodeError) else SEVERAL
    try:
        return pa.array(values, pa.uint64()), ""
    except UNFIT:
        return _written(values), LARGE


def _family(value: Any) -> type:
    return next((kind for kind in (bool, datetime) if isinstance(value, kind)), type(value))


def _depth(values: Iterable[Any]) -> int:
    """Return how many levels of lists and objects lie in each other, one more than ``DEEPEST`` where they are more."""
    depth, level = 0, list(values)
    while depth <= DEEPEST and level:
        inner = [value for value in level if isinstance(value, list | tuple | dict)]
        level = [item for value in inner for item in (value.values() if isinstance(value, dict) else value)]
        depth += bool(inner)
        if not inner:
            break
    return depth


def _written(values: list[Any]) -> pa.Array:
    made = [None if value is None else _one(value).encode("utf-8", "backslashreplace").decode() for value in values]
    return pa.array(made, pa.string())


def _one(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return _json(value) if isinstance(value, bool | int | float | list | tuple | dict) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _quoted(text: str) -> str:
    """Return a string as it is, or quoted where it would read as something else."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _json(text)
