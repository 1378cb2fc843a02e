"""Columns of any type of Arrow as a run can keep them: what Parquet holds, in types that every reader of Parquet knows.

Encodings are undone (dictionaries, runs, views), extension types become what they are made of, and what Parquet cannot hold, such
as a union or a struct without fields, becomes JSON text. Nothing is left out; what became text is told, for the manifest.
"""

import io
import uuid
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attnviz.store.texts import TEXT, texts

__all__ = ["storable"]

REFUSED = (pa.ArrowException, ValueError, TypeError)


def storable(column: pa.Array) -> tuple[pa.Array, str]:
    """Return a column as it can be kept, and why it is text now, if it is."""
    try:
        plain = _plain(column)
    except REFUSED:
        plain = column
    if _holds(plain.type):
        return plain, ""
    return texts(plain).cast(pa.string() if plain.nbytes < 2**28 else TEXT), f"Parquet holds no {column.type}"


def _plain(column: pa.Array) -> pa.Array:
    """Return the same values in the plainest type that holds them."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(column))
    if kind == pa.uuid():
        return pa.array(
            [None if value is None else str(uuid.UUID(bytes=value)) for value in column.storage.to_pylist()],
            pa.string(),
        )
    if kind == pa.bool8():
        return column.cast(pa.bool_())
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(column.storage)
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return _plain(pa.array(column.to_pylist(), pa.large_list(kind.value_type)))
    wanted = _plain_type(kind)
    return column if wanted == kind else column.cast(wanted)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a cast makes plain, inside as well."""
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary()
    if pa.types.is_decimal(kind) and kind.scale < 0:
        return pa.decimal256(min(kind.precision - kind.scale, 76), 0)
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    return _plain_parts(kind)


def _plain_parts(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return made(kind.value_field.with_type(_plain_type(kind.value_type)))
    return kind


@lru_cache(maxsize=256)
def _holds(kind: pa.DataType) -> bool:
    """Ask Parquet itself whether it holds a type and gives it back."""
    file = io.BytesIO()
    try:
        pq.write_table(pa.table({"x": pa.array([], kind)}), file)
        pq.read_table(file)
    except (*REFUSED, OSError):
        return False
    return True
