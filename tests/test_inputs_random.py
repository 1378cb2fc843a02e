"""Random tables, as ``csv.writer`` and pandas write them and then spoiled: they come back, or one sentence does."""

import csv
import gzip
import io
import random

import pytest

from attnviz.errors import InputError
from attnviz.inputs import read
from tests.sources import options

CELLS = [
    "",
    "a",
    "0",
    "007",
    "1e5",
    "-3",
    "+4",
    "0.5",
    "0,5",
    "1.10",
    "x;y",
    "x,y",
    "x\ty",
    'say "hi"',
    '"',
    " lead",
    "two\nlines",
    "é",
    "NA",
    "true",
]
CELLS += [
    "18446744073709551615",
    "123456789012345678901234",
    "2024-02-29",
    "2024-02-30",
    "¾",
    "\u2028",
    "🦉",
    "1_000",
    "nan",
    "|",
    "'",
]


def random_table(draw):
    """A header and rows; the first column is the text."""
    header = ["text", *draw.sample(["id", "n", "label", "when", "a b", "ü"], draw.randint(0, 4))]
    rows = [
        [f"row {n} {draw.choice(CELLS[1:])}", *(draw.choice(CELLS) for _ in header[1:])]
        for n in range(draw.randint(1, 30))
    ]
    return header, rows


def written(header, rows, draw):
    delimiter = draw.choice([",", ";", "\t", "|"])
    told = io.StringIO()
    writer = csv.writer(
        told, delimiter=delimiter, lineterminator=draw.choice(["\n", "\r\n"]), quoting=draw.choice([0, 1])
    )
    writer.writerows([header, *rows])
    return told.getvalue(), draw.choice([delimiter, "tab" if delimiter == "\t" else delimiter])


@pytest.mark.parametrize("seed", range(60))
def test_a_table_comes_back_cell_by_cell(seed, tmp_path):
    draw = random.Random(seed)
    header, rows = random_table(draw)
    text, delimiter = written(header, rows, draw)
    data = text.encode(draw.choice(["utf-8", "utf-8-sig", "utf-16"]))
    path = tmp_path / ("a.csv.gz" if seed % 3 else "a.csv")
    path.write_bytes(gzip.compress(data) if seed % 3 else data)
    inputs = read(str(path), options=options(delimiter=delimiter), seed=0)
    assert [record.text for record in inputs.records] == [row[0] for row in rows]
    assert inputs.skipped == {}
    for record, row in zip(inputs.records, rows, strict=True):
        for value, cell in zip(record.attributes.values(), row[1:], strict=True):
            same = value is None if cell in ("", "NA", "nan") and not isinstance(value, str) else str(value) == cell
            assert same or float(cell.replace(",", ".")) == value or str(value).lower() == cell, (cell, value)


@pytest.mark.parametrize("seed", range(60))
def test_a_spoiled_table_is_read_or_refused_in_one_sentence_and_no_row_is_lost(seed, tmp_path):
    draw = random.Random(1000 + seed)
    text, _ = written(*random_table(draw), draw)
    data = bytearray(text.encode(draw.choice(["utf-8", "cp1252", "utf-16", "utf-8"]), "replace"))
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(data))
        data[place : place + draw.randint(0, 3)] = draw.choice(
            [b'"', b"\r", b"\n", b"\0", b",", b";", b"\xff", b"", b"\t"]
        )
    path = tmp_path / draw.choice(["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.json"])
    path.write_bytes(bytes(data))
    whole = draw.random() < 0.5
    try:
        inputs = read(str(path), options=options(max_sequences=None if whole else 3), seed=0)
    except InputError as error:  # any other error fails the test
        sentence = str(error)
    else:
        sentence = ""
        assert inputs.records
        assert whole <= (inputs.not_drawn == 0)
    assert len(sentence) < 1500
