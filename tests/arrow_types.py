"""Every type of Arrow with three values, and how a reader is shown them: what ``test_columns`` sends through a run."""

import datetime as dt
import uuid
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa

BERLIN = "Europe/Berlin"
INF = float("inf")


@dataclass(frozen=True)
class Case:
    """A type, three values in ascending order (of classes: in any), and how each is shown."""

    type: pa.DataType
    values: tuple
    shown: tuple[str, str, str]
    scale: bool = False
    kept: pa.DataType | None = None  # what the run holds, where that is not the type itself


def whole(kind, *values):
    return Case(kind, values, tuple(map(str, values)))


def scale(kind, values, *shown, **more):
    return Case(kind, tuple(values), shown, scale=True, **more)


def moments(unit, zone=None):
    """Times a nanosecond, or whatever the unit is, apart."""
    second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    counts = [1_704_067_200 * second, 1_704_067_200 * second + 1, 1_704_067_205 * second]
    digits = len(str(second)) - 1
    hour, offset = {None: ("00", ""), "UTC": ("00", "Z"), BERLIN: ("01", "+0100")}[zone]
    shown = [
        f"2024-01-01 {hour}:00:{count // second % 60:02}{f'.{count % second:0{digits}}' if digits else ''}{offset}"
        for count in counts
    ]
    return scale(pa.timestamp(unit, zone), counts, *shown, kept=pa.timestamp("ms", zone) if unit == "s" else None)


def spans(unit):
    second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    fraction = {"s": "", "ms": ".001", "us": ".000001", "ns": ".000000001"}[unit]
    tail = fraction.replace("1", "0")
    shown = "-1 day 01:01:01" + tail, ("00:00:01" if unit == "s" else "00:00:00" + fraction), "2 days 00:00:00" + tail
    return scale(pa.duration(unit), (-90_061 * second, 1, 172_800 * second), *shown)


def clocks(kind):
    second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    fraction = {"s": "", "ms": ".000", "us": ".000000", "ns": ".000000001"}[kind.unit]
    extra = 1 if kind.unit == "ns" else 0
    if not extra:  # whole seconds are shown as such, whatever the unit
        fraction = ""
    shown = f"00:00:01{fraction}", f"13:00:01{fraction}", f"23:59:59{fraction}"
    counts = [seconds * second + extra for seconds in (1, 46_801, 86_399)]
    return scale(kind, counts, *shown, kept=pa.time32("ms") if kind == pa.time32("s") else None)


D = Decimal
ROWS = {"k": 2**60 + 1, "s": "ä"}, {"k": None, "s": '"'}, {"k": 3, "s": None}
ROWS_SHOWN = '{"k": 1152921504606846977, "s": "ä"}', '{"k": null, "s": "\\""}', '{"k": 3, "s": null}'
LISTS, LISTS_SHOWN = ([2, 1], [], [None, 3]), ("[2, 1]", "[]", "[null, 3]")
MAPS = [("a", 1)], [], [("b", None), ("c", 2)]
BYTES, HEX = (b"\x00\xff", b"", b"ab"), ("0x00ff", "0x", "0x6162")
WORDS = "cat", "", "<b>"
UUIDS = tuple(uuid.UUID(int=number) for number in (7, 2**100, 9))
CASES = {
    "bool": Case(pa.bool_(), (True, False, True), ("true", "false", "true")),
    **{
        f"int{bits}": whole(getattr(pa, f"int{bits}")(), -(2 ** (bits - 1)), 3, 2 ** (bits - 1) - 1)
        for bits in (8, 16, 32, 64)
    },
    **{f"uint{bits}": whole(getattr(pa, f"uint{bits}")(), 0, 2**bits - 2, 2**bits - 1) for bits in (8, 16, 32, 64)},
    "float16": Case(pa.float16(), (-1.5, 0.25, INF), ("-1.5", "0.25", "inf")),
    "float32": Case(pa.float32(), (-INF, np.float32(0.1), 3.0), ("-inf", "0.1", "3")),
    "float64": Case(pa.float64(), (0.1 + 0.2, 1e22, float("nan")), ("0.30000000000000004", "1e+22", "nan")),
    "decimal32": scale(
        pa.decimal32(5, 2), (D("-2.00"), D("1.10"), D("9.00")), "-2.00", "1.10", "9.00", kept=pa.decimal128(5, 2)
    ),
    "decimal64": scale(
        pa.decimal64(15, 2), (D("-2.00"), D("1.10"), D("9.00")), "-2.00", "1.10", "9.00", kept=pa.decimal128(15, 2)
    ),
    "decimal128": scale(
        pa.decimal128(38, 10), (D("1E-10"), D("2"), D("10")), "0.0000000001", "2.0000000000", "10.0000000000"
    ),
    "decimal256": scale(
        pa.decimal256(60, 1), (D("2.5"), D(f"{10**50}.1"), D(f"{10**50}.2")), "2.5", f"{10**50}.1", f"{10**50}.2"
    ),
    "string": Case(pa.string(), WORDS, WORDS),
    "large_string": Case(pa.large_string(), WORDS, WORDS, kept=pa.string()),
    "string_view": Case(pa.string_view(), WORDS, WORDS, kept=pa.string()),
    "binary": Case(pa.binary(), BYTES, HEX),
    "large_binary": Case(pa.large_binary(), BYTES, HEX),
    "binary_view": Case(pa.binary_view(), BYTES, HEX, kept=pa.large_binary()),
    "fixed_size_binary": Case(pa.binary(2), (b"\x00\xff", b"\x00\x00", b"ab"), ("0x00ff", "0x0000", "0x6162")),
    "date32": scale(
        pa.date32(),
        [dt.date(1, 2, 3), dt.date(2024, 2, 29), dt.date(2024, 3, 1)],
        "0001-02-03",
        "2024-02-29",
        "2024-03-01",
    ),
    "date64": scale(
        pa.date64(),
        [dt.date(1, 2, 3), dt.date(2024, 2, 29), dt.date(2024, 3, 1)],
        "0001-02-03",
        "2024-02-29",
        "2024-03-01",
        kept=pa.date32(),
    ),
    **{f"{kind}": clocks(kind) for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))},
    **{
        f"timestamp {unit} {zone}": moments(unit, zone)
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", BERLIN)
    },
    "midnights": scale(
        pa.timestamp("us"), [dt.datetime(2024, 1, day) for day in (1, 2, 9)], "2024-01-01", "2024-01-02", "2024-01-09"
    ),
    **{f"duration {unit}": spans(unit) for unit in ("s", "ms", "us", "ns")},
    "list": Case(pa.list_(pa.int64()), LISTS, LISTS_SHOWN),
    "large_list": Case(pa.large_list(pa.int8()), LISTS, LISTS_SHOWN),
    "fixed_size_list": Case(
        pa.list_(pa.float32(), 2), ([0.1, 2.0], [3.0, None], [INF, 0.0]), ("[0.1, 2]", "[3, null]", '["Infinity", 0]')
    ),
    "list of nulls": Case(pa.list_(pa.null()), ([], [None], []), ("[]", "[null]", "[]")),
    "list of days": Case(
        pa.list_(pa.date32()), ([dt.date(2024, 1, 2)], [], [None]), ('["2024-01-02"]', "[]", "[null]")
    ),
    "struct": Case(pa.struct([("k", pa.int64()), ("s", pa.string())]), ROWS, ROWS_SHOWN),
    "deep": Case(
        pa.list_(pa.struct([("z", pa.list_(pa.decimal128(5, 2)))])),
        ([{"z": [D("1.10")]}], [], [{"z": None}]),
        ('[{"z": [1.10]}]', "[]", '[{"z": null}]'),
    ),
    "map": Case(pa.map_(pa.string(), pa.int32()), MAPS, ('{"a": 1}', "{}", '{"b": null, "c": 2}')),
    "map of numbers": Case(
        pa.map_(pa.int8(), pa.string()), ([(5, "x")], [], [(6, None)]), ('[[5, "x"]]', "[]", "[[6, null]]")
    ),
    "dictionary": Case(pa.dictionary(pa.int8(), pa.string()), WORDS, WORDS, kept=pa.string()),
    "dictionary of numbers": Case(
        pa.dictionary(pa.int8(), pa.int64()), (5, 6, 2**53 + 1), ("5", "6", str(2**53 + 1)), kept=pa.int64()
    ),
    "uuid": Case(pa.uuid(), UUIDS, tuple(map(str, UUIDS)), kept=pa.string()),
    "json": Case(pa.json_(), ('{"a": 1}', "2", "[]"), ('{"a": 1}', "2", "[]"), kept=pa.string()),
    "bool8": Case(pa.bool8(), (True, False, True), ("true", "false", "true"), kept=pa.bool_()),
    "opaque": Case(pa.opaque(pa.binary(), "geo", "us"), BYTES, HEX, kept=pa.binary()),
    "tensor": Case(
        pa.fixed_shape_tensor(pa.int32(), [2]),
        ([1, 2], [3, 4], [5, 6]),
        ("[1, 2]", "[3, 4]", "[5, 6]"),
        kept=pa.list_(pa.int32(), 2),
    ),
}
PLACES = (1, None, 0, 2, 1, 0)  # which of its values each sequence has


def array(case):
    """The column of a case."""
    values = [None if place is None else case.values[place] for place in PLACES]
    if isinstance(case.type, pa.BaseExtensionType):
        plain = [value.bytes if isinstance(value, uuid.UUID) else value for value in values]
        plain = [int(value) if isinstance(value, bool) else value for value in plain]
        return pa.ExtensionArray.from_storage(case.type, pa.array(plain, case.type.storage_type))
    if pa.types.is_dictionary(case.type):
        return pa.array(values, case.type.value_type).dictionary_encode().cast(case.type)
    return pa.array(values, case.type)


def shown(case):
    """What each sequence shows."""
    return [None if place is None else case.shown[place] for place in PLACES]
