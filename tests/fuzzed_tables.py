"""Random tables for the fuzz of the doors, each with what was put into it.

A table is drawn as columns of one kind each, so that a test knows what is text; then it is written by the writer that people use:
``csv``, ``json``, ``pyarrow``. What goes wrong with files in practice is drawn beside it: encodings, delimiters, rows with a cell
too many, files cut short.
"""

import csv
import datetime
import decimal
import gzip
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

WORDS = [
    "the cat",
    "naïve café",
    "東京 タワー",
    "שלום",
    'say "hi"',
    "a, b; c\td",
    "x\ny",
    " padded ",
    "0x1F",
    "a" * 300,
]
ODD_CELLS = [
    "NA",
    "null",
    "None",
    "nan",
    "true",
    "1",
    "007",
    "1e5",
    "-",
    "=1+1",
    "+49 30",
    "2026-11-28",
    "",
    " ",
    "\0",
    "#",
    "'",
]
NAMES = [
    "x",
    "x_",
    "text_",
    "reference",
    "sequence_id",
    "source",
    "label",
    "ü b",
    'q"',
    "",
    "1",
    "num_tokens",
    "num_tokens_",
    "Text",
]


@dataclass
class Table:
    """A table that was written, and what is in it."""

    path: Path
    rows: int  # lines of data, whatever is wrong with them
    texts: list = field(default_factory=list)  # what a model can read, in order; None where it is not known
    names: list = field(default_factory=list)  # of all columns but the text: none may be lost unsaid
    columns: dict = field(
        default_factory=dict
    )  # those of texts and of whole numbers → their cells; all of Arrow → an array
    certain: bool = False  # whether nothing about it is in doubt, so that it must be read


cells = st.sampled_from(WORDS) | st.text(max_size=12).filter(lambda text: text.isprintable() and "\ufffd" not in text)
odd_cells = cells | st.sampled_from(ODD_CELLS)
whole = st.integers(-(2**31), 2**31)


def at_edges(strategy, *edges):
    """Draw the largest and smallest values as often as others: left alone, a draw of 64 bits hardly ever fills them."""
    return strategy | st.sampled_from(edges)


def usable(text):
    """Tell a text that a model can read: not blank, and no half of a character, which JSON can name and UTF-8 cannot."""
    return isinstance(text, str) and bool(text.strip()) and not any("\ud800" <= letter <= "\udfff" for letter in text)


@st.composite
def headers(draw, most=4):
    return ["text", *draw(st.lists(st.sampled_from(NAMES), max_size=most, unique=True))]


digits = at_edges(whole | st.just(""), 10**19, 10**24 + 1, 2**53 + 1, -(2**63))
"""Identifiers and counts, some without a value."""


def _is_words(cell):
    """Tell a cell for which its column can hold nothing but texts."""
    return cell[:1].isalpha() and cell not in ODD_CELLS


@st.composite
def delimited(draw):
    """What ``csv`` writes, and what offices make of it."""
    names = draw(headers())
    extension = draw(st.sampled_from(["csv", "tsv"]))
    fitting = "," if extension == "csv" else "\t"
    others = [odd_cells, digits, st.floats(), st.just("")]
    kinds = [odd_cells, *(draw(st.sampled_from(others)) for _ in names[1:])]
    rows = draw(st.lists(st.tuples(*kinds), max_size=8))
    return {
        "extension": extension,
        "names": names,
        "rows": [list(row) for row in rows],
        "is_text": [kind is odd_cells for kind in kinds],
        "is_whole": [kind is digits for kind in kinds],
        "delimiter": draw(st.sampled_from([fitting] * 6 + [";", ",", "\t", "|"])),
        "encoding": draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])),
        "newline": draw(st.sampled_from(["\n", "\r\n", "\r"])),
        "quoting": draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])),
        "wrong": draw(st.none() | st.tuples(st.integers(0, 8), st.sampled_from(["more", "fewer"]))),
        "twist": draw(st.sampled_from([None] * 8 + ["gzip", "trailing", "sep", "twice", "nameless", "cut", "blank"])),
    }


def write_delimited(folder, drawn):
    """Write it; return what is in it."""
    names, rows = list(drawn["names"]), [list(row) for row in drawn["rows"]]
    if len(names) == 1:
        drawn = drawn | {"quoting": csv.QUOTE_ALL}  # or a blank cell would be a blank line
    good = [True] * len(rows)
    if drawn["wrong"] and len(names) > 2 and drawn["wrong"][0] < len(rows):
        number, how = drawn["wrong"]
        rows[number] = [*rows[number], "more"] if how == "more" else rows[number][:-1]
        good[number] = False
    if drawn["twist"] == "twice":
        names, rows = [*names, "text"], [[*row, "again"] for row in rows]
    if drawn["twist"] == "nameless":
        names, rows = ["", *names], [[number, *row] for number, row in enumerate(rows)]
    buffer = io.StringIO(newline="")
    if drawn["twist"] == "sep":
        buffer.write(f"sep={drawn['delimiter']}{drawn['newline']}")
    writer = csv.writer(buffer, delimiter=drawn["delimiter"], quoting=drawn["quoting"], lineterminator=drawn["newline"])
    writer.writerows([names, *rows])
    written = buffer.getvalue()
    in_cells = any(drawn["newline"] in str(cell) for row in rows for cell in row)
    if drawn["twist"] == "trailing" and not in_cells:
        written = written.replace(drawn["newline"], drawn["delimiter"] + drawn["newline"])
    if drawn["twist"] == "blank":
        written += drawn["newline"] * 3
    data = written.encode(drawn["encoding"], "replace")
    if drawn["twist"] == "cut":
        data = data[: len(data) * 2 // 3]
    path = folder / f"table.{drawn['extension']}"
    if drawn["twist"] == "gzip":
        path = path.with_name(path.name + ".gz")
        data = gzip.compress(data)
    path.write_bytes(data)
    kept = [row for row, right in zip(drawn["rows"], good, strict=True) if right and usable(row[0])]
    columns = {
        name: [row[place] for row in kept]
        for place, name in enumerate(drawn["names"])
        if place
        and name.strip()
        and (drawn["is_whole"][place] or (drawn["is_text"][place] and any(_is_words(row[place]) for row in kept)))
    }
    fitting = "," if drawn["extension"] == "csv" else "\t"
    lossless = drawn["encoding"] != "cp1252" or written.encode("cp1252", "replace").decode("cp1252") == written
    # With a delimiter at the end of every line, a row of a cell more or fewer is as good as any.
    unclear = drawn["twist"] in ("cut", "twice") or (drawn["twist"] == "trailing" and not all(good))
    known = lossless and not unclear
    certain = known and drawn["twist"] in (None, "blank") and drawn["delimiter"] == fitting
    certain &= "\0" not in written  # as text files have none, one with a zero may be refused
    certain &= drawn["encoding"] in ("utf-8", "utf-8-sig") and drawn["newline"] != "\r" and "" not in drawn["names"]
    texts = [row[0] for row in kept] if known else None
    # In a table of one column a blank cell is a blank line, and that is layout.
    count = sum(len(row) > 1 or not str(row[0]).isspace() for row in rows)
    return Table(path, count if known else -1, texts, drawn["names"][1:], columns, certain)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | odd_cells | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "bytes", "path"]), inner, max_size=3)
    ),
    max_leaves=5,
)


# Columns of one kind, as data mostly are, with what each kind has at its edges; and one where all kinds are mixed.
json_kinds = [
    json_values,
    at_edges(whole, 2**63, -(2**63), 2**64, 10**30),
    at_edges(st.floats(), float("inf"), float("nan"), 1e308),
    at_edges(st.floats(0, 1), 0, 1, 2**53 + 1),
    st.booleans() | st.none(),
    st.lists(at_edges(whole, 2**64), max_size=3),
    st.lists(odd_cells | whole, max_size=3),
    st.just({}),
    st.fixed_dictionaries({"a": at_edges(whole, 2**64)}, optional={"b": odd_cells}),
]


@st.composite
def json_lines(draw):
    names = draw(headers())
    values = [odd_cells, *(draw(st.sampled_from([odd_cells, *json_kinds])) for _ in names[1:])]
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {"text": odd_cells | st.sampled_from([None, 3, ["a"], "\ud83d broken", {"bytes": None, "path": "x"}])},
                optional=dict(zip(names[1:], values[1:], strict=True)),
            ),
            max_size=8,
        )
    )
    return {
        "names": names,
        "rows": rows,
        "is_plain": [value is odd_cells or value is json_kinds[1] for value in values],
        "malformed": draw(
            st.lists(st.sampled_from(["{", "[1]", "3", "null", '"a"', '{"text": "x"', "[" * 2000]), max_size=2)
        ),
        "form": draw(st.sampled_from(["lines"] * 8 + ["array", "data", "table", "pretty"])),
        "encoding": draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16"])),
        "extension": draw(st.sampled_from(["jsonl", "json", "ndjson"])),
    }


def _is_whole(row):
    """Tell a row without half a character anywhere."""
    return usable(json.dumps(row, ensure_ascii=False))


def write_json(folder, drawn):
    rows = drawn["rows"]
    whole_file = {
        "array": lambda: json.dumps(rows),
        "data": lambda: json.dumps({"data": rows}),
        "table": lambda: json.dumps({name: [row.get(name) for row in rows] for name in drawn["names"]}),
        "pretty": lambda: json.dumps(rows, indent=1),
    }
    lines = [json.dumps(row) for row in rows]
    for place, bad in enumerate(drawn["malformed"]):
        lines.insert(place * 3, bad)
    text = "".join(line + "\n" for line in lines) if drawn["form"] == "lines" else whole_file[drawn["form"]]()
    path = folder / f"table.{drawn['extension']}"
    path.write_bytes(text.encode(drawn["encoding"]))
    kept = [row for row in rows if usable(row["text"]) and _is_whole(row)]
    texts = [row["text"] for row in kept]
    if len(lines) == 1 and rows and all(isinstance(value, dict | list) for value in rows[0].values()):
        texts = None  # one line of objects may as well be a table of columns
    columns = {
        name: [row.get(name) for row in kept]
        for name, plain in zip(drawn["names"][1:], drawn["is_plain"][1:], strict=True)
        if plain and any(name in row for row in kept)
    }
    certain = drawn["form"] == "lines" and drawn["encoding"] == "utf-8" and bool(kept) and not drawn["malformed"]
    count = len(lines) if drawn["form"] == "lines" else len(rows)
    return Table(
        path,
        count,
        texts,
        list(dict.fromkeys(name for row in kept for name in row if name != "text")),
        columns,
        certain,
    )


moments = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))
short = st.text(max_size=5)
ARROW = {
    pa.string(): odd_cells,
    pa.large_string(): odd_cells,
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(ODD_CELLS),
    pa.int8(): at_edges(whole.map(lambda number: number % 128), -128, 127),
    pa.uint64(): at_edges(st.integers(0, 99), 2**64 - 1, 2**63),
    pa.int64(): at_edges(whole, -(2**63), 2**63 - 1, 2**53 + 1),
    pa.float16(): st.floats(width=16).map(np.float16),
    pa.float64(): at_edges(st.floats(), float("inf"), -float("inf"), float("nan"), 5e-324),
    pa.decimal128(38, 10): st.decimals(-(10**20), 10**20, places=10),
    pa.decimal256(60, 0): at_edges(whole, 10**59, -(10**40)).map(decimal.Decimal),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates() | st.sampled_from([-(2**31), 2**31 - 1]),
    pa.date64(): st.dates(),
    pa.timestamp("ns"): moments,
    pa.timestamp("us", "Europe/Berlin"): moments,
    pa.timestamp("s"): at_edges(whole, -(2**40), 2**40),
    pa.time64("us"): st.times(),
    pa.duration("us"): st.timedeltas(datetime.timedelta(-100000), datetime.timedelta(100000)),
    pa.duration("s"): at_edges(whole, -(2**40), 2**40, 2**62),
    pa.binary(): st.binary(max_size=5),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.null(): st.none(),
    pa.list_(pa.int64()): st.lists(st.integers(0, 9), max_size=3),
    pa.list_(pa.float32(), 2): st.lists(st.floats(width=32), min_size=2, max_size=2),
    pa.large_list(pa.string()): st.lists(short, max_size=3),
    pa.struct([("a", pa.int64()), ("b", pa.string())]): st.fixed_dictionaries({"a": whole, "b": short}),
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]): st.fixed_dictionaries(
        {"bytes": st.none() | st.binary(max_size=3), "path": st.none() | short}
    ),
    pa.map_(pa.string(), pa.int64()): st.dictionaries(short, whole, max_size=2).map(lambda made: list(made.items())),
}
TEXT_TYPES = [kind for kind in ARROW if kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()))]


@st.composite
def arrow(draw):
    names = draw(headers(6))
    kinds = [draw(st.sampled_from(TEXT_TYPES)), *(draw(st.sampled_from(list(ARROW))) for _ in names[1:])]
    count = draw(st.sampled_from([0, 1, 2, 3, 4, 6, 8]))
    columns = [draw(st.lists(st.none() | ARROW[kind], min_size=count, max_size=count)) for kind in kinds]
    twist = draw(st.sampled_from([None] * 6 + ["twice", "cut", "no text", "named twice"]))
    return {"names": names, "kinds": kinds, "columns": columns, "group": draw(st.integers(1, 8)), "twist": twist}


def write_arrow(folder, drawn):
    names, kinds = list(drawn["names"]), list(drawn["kinds"])
    arrays = [_array(values, kind) for values, kind in zip(drawn["columns"], kinds, strict=True)]
    if drawn["twist"] == "twice":
        names, arrays = [*names, "text"], [*arrays, arrays[0]]
    if drawn["twist"] == "named twice" and len(names) > 1:
        names, arrays = [*names, names[1]], [*arrays, arrays[1]]
    if drawn["twist"] == "no text":
        names[0] = "no text"
    path = folder / "table.parquet"
    pq.write_table(pa.Table.from_arrays(arrays, names), path, row_group_size=drawn["group"])
    if drawn["twist"] == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    texts = drawn["columns"][0]
    kept = [number for number, text in enumerate(texts) if usable(text)]
    columns = {
        name: _array([values[number] for number in kept], kind)
        for name, kind, values in zip(drawn["names"][1:], kinds[1:], drawn["columns"][1:], strict=True)
        if not (drawn["twist"] == "named twice" and name == drawn["names"][1])
    }
    certain = drawn["twist"] is None and bool(kept)
    return Table(path, len(texts), [texts[number] for number in kept], names[1:], columns, certain)


def _array(values, kind):
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode().cast(kind)
    return pa.array(values, kind)


@st.composite
def lines(draw):
    return {
        "texts": draw(st.lists(odd_cells.filter(lambda text: not {"\n", "\r"} & set(text)), max_size=8)),
        "newline": draw(st.sampled_from(["\n", "\r\n", "\r"])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"])),
    }


def write_lines(folder, drawn):
    path = folder / "table.txt"
    text = drawn["newline"].join(drawn["texts"])
    path.write_bytes(text.encode(drawn["encoding"], "replace"))
    kept = [text for text in drawn["texts"] if usable(text)]
    known = drawn["encoding"] != "cp1252" or all(text.isascii() for text in kept)
    certain = (
        known and bool(kept) and "\0" not in text and drawn["encoding"].startswith("utf-8") and drawn["newline"] != "\r"
    )
    return Table(path, len(kept) if known else -1, kept if known else None, certain=certain)


TABLES = {
    "delimited": (delimited(), write_delimited),
    "json": (json_lines(), write_json),
    "arrow": (arrow(), write_arrow),
    "lines": (lines(), write_lines),
}
"""What draws a table, and what writes it."""
