"""Values of any type of Arrow as plain text: what is shown, searched, told apart and written into CSV.

Receives a column, gives one string per row, null where there is no value. Nothing goes through a float that is none: identifiers,
decimals and nanoseconds keep every digit. A nested value is one line of JSON, put together from the texts of its parts, so that a
number in it keeps its digits too; what JSON has no word for (bytes, dates, infinity) is a string in it.
"""

import json
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["TEXT", "is_nested", "json_texts", "texts"]

Texts = list[str | None]

TEXT = pa.large_string()  # the hex of many pictures is more than 2 GB
UNITS = ("s", "ms", "us", "ns")
LATEST = 8_000 * 31_556_952  # seconds from 1970: beyond year 9,970, Arrow and Python have limits of their own
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


def _of_dates(column: pa.Array) -> pa.Array:
    if pa.types.is_date64(column.type):
        column = column.cast(pa.timestamp("ms"))
        return _date_of(_of_timestamps(column))
    days = column.cast(pa.int32()).cast(pa.int64())
    far = _beyond(days, LATEST // 86_400)
    return pc.if_else(far, _far(days, "D"), _cast(pc.if_else(far, pa.scalar(None, column.type), column)))


def _date_of(moments: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(moments, " .*", "")


def _of_timestamps(column: pa.Array) -> pa.Array:
    zone = column.type.tz
    column = _coarsest(column, lambda unit: pa.timestamp(unit, zone))
    counts = column.cast(pa.int64())
    far = _beyond(counts, LATEST * PER_SECOND[column.type.unit])
    if not pc.any(far).as_py():
        return _near(column)
    near = _near(pc.if_else(far, pa.scalar(None, column.type), column))
    written = _far(counts, column.type.unit)
    return pc.if_else(
        far,
        written if zone is None else pc.binary_join_element_wise(written, pa.scalar("Z", TEXT), pa.scalar("", TEXT)),
        near,
    )


def _beyond(counts: pa.Array, most: int) -> pa.Array:
    """Tell which points in time lie in years that Arrow cannot write, or writes wrong."""
    limit = pa.scalar(min(most, 2**63 - 1), pa.int64())
    return pc.or_(pc.greater(counts, limit), pc.less(counts, pc.negate(limit)))


def _far(counts: pa.Array, unit: str) -> pa.Array:
    """Return points in time as numpy writes them, in UTC."""
    moments = counts.fill_null(0).to_numpy(zero_copy_only=False).view(f"datetime64[{unit}]")
    made = zip(np.datetime_as_string(moments).tolist(), counts.to_pylist(), strict=True)
    return pa.array([str(count) if text == "NaT" else text.replace("T", " ") for text, count in made], TEXT)


def _near(column: pa.Array) -> pa.Array:
    if column.type.tz is None:
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
    """Return durations as ``2 days 03:04:05.6``; a sign stands for the whole."""
    column = _coarsest(column, pa.duration)
    each = PER_SECOND[column.type.unit]
    counts = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    below = counts < 0
    size = np.where(below, np.negative(counts), counts).view(np.uint64)  # of the least number of all, too
    seconds, part = np.divmod(size, np.uint64(each))
    days, seconds = np.divmod(seconds, np.uint64(86_400))
    clock = [_digits(seconds // np.uint64(3600), 2), _digits(seconds // np.uint64(60) % np.uint64(60), 2)]
    clock += [_digits(seconds % np.uint64(60), 2)]
    fraction = [pc.binary_join_element_wise(".", _digits(part, len(str(each)) - 1), "")] if each > 1 else []
    unit = pc.if_else(pa.array(days == 1), " day ", " days ")
    day = pc.if_else(pa.array(days > 0), pc.binary_join_element_wise(_digits(days, 1), unit, ""), "")
    made = pc.binary_join_element_wise(
        pc.if_else(pa.array(below), "-", ""), day, pc.binary_join_element_wise(*clock, ":"), *fraction, ""
    )
    return pc.if_else(column.is_valid(), made, pa.scalar(None, pa.string())).cast(TEXT)


def _digits(numbers: NDArray[np.uint64], width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


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
    (pa.types.is_date, _of_dates),
    (pa.types.is_time, _of_times),
    (pa.types.is_timestamp, _of_timestamps),
    (pa.types.is_duration, _of_durations),
    (pa.types.is_interval, _of_intervals),
    (is_nested, _of_nested),
)
"""Which texts are more than a cast."""
