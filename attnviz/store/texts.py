"""Values of any type of Arrow as plain text: what is shown, searched, told apart and written into CSV.

Receives a column, gives one string per row, null where there is no value. Nothing goes through a float that is none: identifiers,
decimals and nanoseconds keep every digit. A nested value is one line of JSON, put together from the texts of its parts, so that a
number in it keeps its digits too; what JSON has no word for (bytes, dates, infinity) is a string in it.
"""

import json
from collections.abc import Callable
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["TEXT", "is_nested", "json_texts", "texts"]

Texts = list[str | None]

TEXT = pa.large_string()  # the hex of many pictures is more than 2 GB
UNITS = ("s", "ms", "us", "ns")
PER_SECOND = dict(zip(UNITS, (1, 10**3, 10**6, 10**9), strict=True))


def texts(column: pa.Array) -> pa.Array:
    """Return each value as a text, null where there is none.

    Fractions of a second are shown where the column has any, and a time where any is not midnight. Bytes are hexadecimal, and
    intervals as ISO 8601 writes them.
    """
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), TEXT)
    return next((how for fits, how in _TEXTS if fits(column.type)), _cast)(column)


def json_texts(column: pa.Array) -> Texts:
    """Return each value as JSON, None where there is none."""
    kind = column.type
    if is_nested(kind) and not pa.types.is_union(kind):
        return _nested(column)
    if pa.types.is_union(kind):
        return [
            None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in _items(column)
        ]
    plain: Texts = texts(column).to_pylist()
    if pa.types.is_floating(kind):
        return [_NO_JSON.get(text, text) if text is not None else None for text in plain]
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return plain
    return [None if text is None else json.dumps(text, ensure_ascii=False) for text in plain]


def is_nested(kind: pa.DataType) -> bool:
    """Tell whether values have parts."""
    return bool(pa.types.is_nested(kind))


def _cast(column: pa.Array) -> pa.Array:
    try:
        return pc.cast(column, TEXT)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if value is None else str(value) for value in _items(column)], TEXT)


def _items(column: pa.Array) -> list[object]:
    values: list[object] = column.to_pylist()
    return values


def _of_bytes(column: pa.Array) -> pa.Array:
    return pa.array([None if value is None else f"0x{value.hex()}" for value in column.to_pylist()], TEXT)


def _of_decimals(column: pa.Array) -> pa.Array:
    """Return decimals as they were written, never with an exponent."""
    made = pc.cast(column, TEXT)
    if not pc.any(pc.match_substring(made, "E")).as_py():
        return made
    return pa.array([None if value is None else f"{Decimal(value):f}" for value in column.to_pylist()], TEXT)


def _of_times(column: pa.Array) -> pa.Array:
    return _cast(_coarsest(column, lambda unit: pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)))


def _of_timestamps(column: pa.Array) -> pa.Array:
    zone = column.type.tz
    column = _coarsest(column, lambda unit: pa.timestamp(unit, zone))
    if zone is None:
        days = column.cast(pa.date32(), safe=False)
        return _cast(days if column.equals(days.cast(column.type)) else column)
    try:
        return pc.cast(column, TEXT)
    except pa.ArrowInvalid:  # a zone that this machine does not know
        return pc.cast(column.cast(pa.timestamp(column.type.unit, "UTC")), TEXT)


def _coarsest(column: pa.Array, of_unit: Callable[[str], pa.DataType]) -> pa.Array:
    """Return times in the coarsest unit that holds all of them exactly."""
    for unit in UNITS[: UNITS.index(column.type.unit)]:
        try:
            return column.cast(of_unit(unit))
        except pa.ArrowInvalid:
            continue
    return column


def _of_durations(column: pa.Array) -> pa.Array:
    column = _coarsest(column, pa.duration)
    each = PER_SECOND[column.type.unit]
    counts = column.cast(pa.int64()).to_pylist()
    return pa.array([None if count is None else _duration(count, each) for count in counts], TEXT)


def _duration(count: int, each: int) -> str:
    """Return so many units, ``each`` of which are a second, as ``2 days 03:04:05.6``; a sign stands for the whole."""
    seconds, part = divmod(abs(count), each)
    days, seconds = divmod(seconds, 86_400)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    fraction = f".{part:0{len(str(each)) - 1}}" if each > 1 else ""
    day = f"{days} day{'s' if days > 1 else ''} " if days else ""
    return f"{'-' if count < 0 else ''}{day}{clock}{fraction}"


def _of_intervals(column: pa.Array) -> pa.Array:
    values = column.to_pylist()
    return pa.array([None if value is None else _interval(*value) for value in values], TEXT)


def _interval(months: int, days: int, nanoseconds: int) -> str:
    seconds = f"T{Decimal(nanoseconds).scaleb(-9).normalize():f}S" if nanoseconds else ""
    return f"P{f'{months}M' if months else ''}{f'{days}D' if days or not (months or nanoseconds) else ''}{seconds}"


def _of_nested(column: pa.Array) -> pa.Array:
    return pa.array(json_texts(column), TEXT)


def _nested(column: pa.Array) -> Texts:
    kind, known = column.type, column.is_valid().to_pylist()
    if pa.types.is_struct(kind):
        rows = _objects(column)
    elif pa.types.is_map(kind):
        rows = _maps(column)
    else:
        rows = _lists(column)
    return [row if there else None for row, there in zip(rows, known, strict=True)]


def _objects(column: pa.StructArray) -> list[str]:
    names = [json.dumps(field.name, ensure_ascii=False) for field in column.type]
    parts = [json_texts(column.field(number)) for number in range(len(names))]
    rows = zip(*parts, strict=True) if parts else [()] * len(column)
    return ["{" + ", ".join(f"{n}: {_or_null(v)}" for n, v in zip(names, row, strict=True)) + "}" for row in rows]


def _lists(column: pa.Array) -> list[str]:
    lengths, parts = pc.list_value_length(column).to_pylist(), iter(json_texts(column.flatten()))
    return ["[" + ", ".join(_or_null(next(parts)) for _ in range(length or 0)) + "]" for length in lengths]


def _maps(column: pa.MapArray) -> list[str]:
    """Return maps as objects where their keys are texts, else as lists of pairs."""
    entries = column.cast(pa.list_(pa.struct([("key", column.type.key_type), ("value", column.type.item_type)])))
    flat = entries.flatten()
    keys, values = (iter(json_texts(flat.field(name))) for name in ("key", "value"))
    left, middle, right, opened, closed = (
        ("", ": ", "", "{", "}") if _is_text(column.type.key_type) else ("[", ", ", "]", "[", "]")
    )
    return [
        opened
        + ", ".join(f"{left}{_or_null(next(keys))}{middle}{_or_null(next(values))}{right}" for _ in range(length or 0))
        + closed
        for length in pc.list_value_length(entries).to_pylist()
    ]


def _or_null(text: str | None) -> str:
    return "null" if text is None else text


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


_NO_JSON = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}
_TEXTS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], pa.Array]], ...] = (
    (_is_bytes, _of_bytes),
    (pa.types.is_decimal, _of_decimals),
    (pa.types.is_time, _of_times),
    (pa.types.is_timestamp, _of_timestamps),
    (pa.types.is_duration, _of_durations),
    (pa.types.is_interval, _of_intervals),
    (is_nested, _of_nested),
)
"""Which texts are more than a cast."""
