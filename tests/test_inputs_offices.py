"""Files as offices, pandas, R and databases write them: read where certain and said, or refused with place, cause and fix."""

import bz2
import csv
import gzip
import io
import json
import lzma

import pandas as pd
import pytest

from attnviz.errors import InputError
from attnviz.inputs import read
from tests.sources import WORDS, options, texts, write_json_lines

FRAME = pd.DataFrame({"text": WORDS, "score": [0.5, 1.5, 2.25, 3.5, 4.5, 5.5], "label": list("ababab")})


def read_bytes(folder, name, data, **given):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return read(str(path), options=options(**given), seed=0)


def attributes(inputs):
    return [dict(record.attributes) for record in inputs.records]


def excel(delimiter=";", end="\r\n"):
    """What Excel saves where a comma is the decimal point: cells with the delimiter or a quote in quotes."""
    told = io.StringIO()
    writer = csv.writer(told, delimiter=delimiter, lineterminator=end)
    writer.writerows([["text", "score", "label"], ['hello; the "world"', "0,5", "a"], ["bye, you", "12,25", ""]])
    return told.getvalue()


# Delimiters


@pytest.mark.parametrize("before", ["", "sep=;\r\n", '"sep=;"\r\n'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_spreadsheet_with_semicolons_and_decimal_commas(before, encoding, tmp_path):
    inputs = read_bytes(tmp_path, "a.csv", (before + excel()).encode(encoding))
    assert texts(inputs) == ['hello; the "world"', "bye, you"]
    assert attributes(inputs) == [{"score": 0.5, "label": "a"}, {"score": 12.25, "label": None}]
    told = " · ".join(inputs.notes)
    assert "a.csv: column 'score': a comma is read as the decimal point" in told
    assert ("semicolon" in told) == (not before)
    assert ("sep=;" in told) == bool(before)
    assert ("UTF-16" in told) == (encoding == "utf-16")


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", ","), ("a.tsv", ";")])
def test_another_delimiter_than_the_name_promises(name, delimiter, tmp_path):
    inputs = read_bytes(tmp_path, name, FRAME.to_csv(index=False, sep=delimiter))
    assert texts(inputs) == WORDS
    assert attributes(inputs) == FRAME[["score", "label"]].to_dict("records")
    assert any("cells are parted by" in note for note in inputs.notes)


@pytest.mark.parametrize("given", ["~", "tab"])
def test_a_delimiter_that_is_named(given, tmp_path):
    data = FRAME.to_csv(index=False, sep="\t" if given == "tab" else given)
    assert texts(read_bytes(tmp_path, "a.csv", data, delimiter=given)) == WORDS
    with pytest.raises(InputError, match=r"data.delimiter = '::'.*one character"):
        read_bytes(tmp_path, "a.csv", data, delimiter="::")


def test_one_column_of_prose_is_not_cut(tmp_path):
    inputs = read_bytes(
        tmp_path, "a.csv", pd.DataFrame({"text": ["one; two", "three | four, five", "six\tseven"]}).to_csv(index=False)
    )
    assert texts(inputs) == ["one; two", "three | four, five", "six\tseven"]
    assert inputs.notes == ()


def test_a_blank_behind_the_comma(tmp_path):
    inputs = read_bytes(tmp_path, "a.csv", '"text", "label"\n"hello, the world", "a, b"\n"bye", "b"\n')
    assert texts(inputs) == ["hello, the world", "bye"]
    assert attributes(inputs) == [{"label": "a, b"}, {"label": "b"}]
    assert "a.csv: the blank behind a delimiter belongs to no cell" in inputs.notes
    kept = read_bytes(tmp_path, "b.csv", "text,label\nx, a\n")
    assert attributes(kept) == [{"label": " a"}]  # as written, where nothing says otherwise


def test_trailing_separators_and_nameless_columns(tmp_path):
    for data in ("text\tlabel\nhello\ta\t\nbye\tb\t\n", "text\tlabel\t\nhello\ta\t\nbye\tb\t\n"):
        inputs = read_bytes(tmp_path, "a.tsv", data)
        assert texts(inputs) == ["hello", "bye"]
        assert attributes(inputs) == [{"label": "a"}, {"label": "b"}]
        assert len(inputs.notes) == 1
    inputs = read_bytes(tmp_path, "b.csv", FRAME.to_csv())
    assert [row["index"] for row in attributes(inputs)] == list(range(6))
    assert inputs.notes == ("b.csv: a column without a name is kept as 'index'",)


def test_quotes_in_a_tsv_are_characters_where_as_marks_they_would_join_rows(tmp_path):
    rows = ["text\tlabel", '"Hello," he said\t1', 'He said "no\t0', '"Go\t1', "plain\t0"]
    inputs = read_bytes(tmp_path, "a.tsv", "\n".join(rows))
    assert texts(inputs) == ['"Hello," he said', 'He said "no', '"Go', "plain"]
    assert any("quotes are characters" in note for note in inputs.notes)
    quoted = read_bytes(
        tmp_path, "b.tsv", FRAME.assign(text=['a "b"', "c\td", "e\nf", *WORDS[3:]]).to_csv(index=False, sep="\t")
    )
    assert texts(quoted)[:3] == ['a "b"', "c\td", "e\nf"]


# Rows that are none


def test_rows_of_another_number_of_cells_are_counted_and_the_first_is_named(tmp_path):
    inputs = read_bytes(tmp_path, "a.csv", "text,n\none,1\ntwo,2,3\nthree\nfour,4\nfive,5\n")
    assert texts(inputs) == ["one", "four", "five"]
    assert inputs.skipped == {"wrong number of cells": 2}
    assert inputs.notes == ("a.csv: 2 of 5 rows have not the 2 cells of the header; the first, line 3, has 3",)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (
            "text,n\na,b,1\nc,d,2\ne,3\n",
            r"line 2: 3 cells, cut at ',', where the header has 2; so it is with 2 of 3 rows.*write.table",
        ),
        ("text,n\na,b,x,1\nc,d,2\n", r"line 2: 4 cells.*without quotes"),
        ("Report of May\ntext,n,\nx,1,\ny,2,\n", r"line 2: 3 cells.*header has 1.*lines above the table"),
        ("text,n,m\na\nb\nc,1,2\n", r"line 2: 1 cells.*data.delimiter"),
    ],
)
def test_a_file_most_of_whose_rows_are_wrong_is_refused_with_the_cause(data, cause, tmp_path):
    with pytest.raises(InputError, match=cause):
        read_bytes(tmp_path, "a.csv", data)


def test_a_malformed_row_is_skipped_and_the_others_stay(tmp_path):
    inputs = read_bytes(tmp_path, "a.csv", 'text,n\n"one" more,1\ntwo,2\n')
    assert texts(inputs) == ["two"]
    assert inputs.skipped == {"malformed row": 1}
    assert "the first, line 2: more follows where a quoted cell ends" in inputs.notes[0]


def test_a_quote_that_never_ends_is_refused_where_it_begins(tmp_path):
    with pytest.raises(InputError, match=r'a.csv, line 3: a cell begins with " and never ends'):
        read_bytes(tmp_path, "a.csv", 'text,n\none,1\n"two,2\nthree,3\nfour,4\n')


# Encodings and packing


def test_a_file_of_windows_is_refused_with_how_it_would_read_and_read_when_told(tmp_path):
    data = "text,score\r\n“Für” die Straße,1\r\n".encode("cp1252")
    with pytest.raises(
        InputError, match=r"a.csv, line 2: byte 12 \(0x93\).*Windows-1252.*'“Für” die Straße,1'.*data.encoding=cp1252"
    ):
        read_bytes(tmp_path, "a.csv", data)
    assert texts(read_bytes(tmp_path, "a.csv", data, encoding="cp1252")) == ["“Für” die Straße"]
    with pytest.raises(InputError, match=r"'utf-9'.*unknown"):
        read_bytes(tmp_path, "a.csv", data, encoding="utf-9")


def test_other_encodings_are_refused_with_the_cause(tmp_path):
    with pytest.raises(InputError, match=r"byte 1 is zero.*data.encoding=utf-16-le"):
        read_bytes(tmp_path, "a.csv", "text,score\nhello,1\n".encode("utf-16-le"))
    assert texts(read_bytes(tmp_path, "a.txt", "hello\nyou".encode("utf-16-be"), encoding="utf-16-be")) == [
        "hello",
        "you",
    ]
    with pytest.raises(InputError, match=r"line 3: byte .*damaged there"):
        read_bytes(tmp_path, "a.txt", "plain\ncafé\n".encode() + b"caf\xe9\n")
    with pytest.raises(InputError, match="nor is it Windows-1252"):
        read_bytes(tmp_path, "a.txt", b"a\x81\x8d\n")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.json"])
@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), ("", gzip.compress)]
)
def test_packed_files_are_read_by_their_first_bytes(name, suffix, pack, tmp_path):
    if name.endswith((".csv", ".tsv")):
        data = FRAME.to_csv(index=False, sep="\t" if name.endswith("tsv") else ",")
    elif name.endswith("jsonl"):
        data = FRAME.to_json(orient="records", lines=True)
    else:
        data = "\n".join(WORDS) if name.endswith("txt") else FRAME.to_json(orient="records")
    inputs = read_bytes(tmp_path, name + suffix, pack(data.encode()))
    assert texts(inputs) == WORDS
    assert any("is packed with gzip" in note for note in inputs.notes) == (not suffix)


def test_a_packed_file_that_is_cut_off_is_refused(tmp_path):
    whole = gzip.compress("\n".join(f"line {n} {hash(n * 7919) % 10007}" for n in range(40_000)).encode())
    with pytest.raises(InputError, match=r"a.txt.gz cannot be read to its end.*Is it complete"):
        read_bytes(tmp_path, "a.txt.gz", whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("name", "advice"),
    [("a.xlsx", "CSV UTF-8"), ("a.zip", "Unpack"), ("a.pkl", "parquet"), ("a.parquet.gz", "says no format")],
)
def test_what_is_not_read_says_what_to_do(name, advice, tmp_path):
    with pytest.raises(InputError, match=advice):
        read_bytes(tmp_path, name, b"PK\x03\x04 and more")


def test_a_workbook_by_another_name_is_no_text(tmp_path):
    with pytest.raises(InputError, match="Excel workbook"):
        read_bytes(tmp_path, "a.csv", b"PK\x03\x04 and more")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_lone_carriage_returns_end_lines(name, tmp_path):
    rows = ["text", *WORDS] if name == "a.csv" else WORDS
    rows = [json.dumps({"text": row}) for row in rows] if name == "a.jsonl" else rows
    inputs = read_bytes(tmp_path, name, "\r".join(rows) + "\r")
    assert texts(inputs) == WORDS
    assert inputs.notes == (f"{name}: lines end in a lone carriage return (CR)",)


def test_a_carriage_return_within_lines_is_a_character(tmp_path):
    assert texts(read_bytes(tmp_path, "a.txt", "10%\r100%\nnext\n")) == ["10%\r100%", "next"]


# JSON documents


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("orient", ["records", "columns", "split", "table", "list", "index"])
def test_every_document_that_pandas_and_datasets_write(orient, indent, tmp_path):
    frame = FRAME.assign(id=pd.array([2**63 - 1, None, 3, 4, 5, 2**60 + 1], "Int64"))
    data = (
        json.dumps(frame.to_dict("list"), default=lambda _: None, indent=indent)
        if orient == "list"
        else frame.to_json(orient=orient, indent=indent)
    )
    inputs = read_bytes(tmp_path, "a.json", data)
    assert texts(inputs) == WORDS
    assert [row["id"] for row in attributes(inputs)] == [2**63 - 1, None, 3, 4, 5, 2**60 + 1]
    assert [row["score"] for row in attributes(inputs)] == FRAME["score"].tolist()
    assert len(inputs.notes) == 1
    assert "one JSON document" in inputs.notes[0]


def test_other_documents(tmp_path):
    assert texts(read_bytes(tmp_path, "a.json", json.dumps({"version": "1.1", "data": [{"text": "x"}, 5]}))) == ["x"]
    assert texts(read_bytes(tmp_path, "a.json", '["x", "y"]')) == ["x", "y"]
    assert texts(read_bytes(tmp_path, "a.jsonl", '{"text": "x", "tags": ["a"]}')) == ["x"]
    assert texts(read_bytes(tmp_path, "a.jsonl", '{"text": "x", "tags": ["a"]}\n{"text": "y", "tags": []}')) == [
        "x",
        "y",
    ]
    assert texts(read_bytes(tmp_path, "a.jsonl", '[1]\n{"text": \n{"text": "x"}\n{"text": "y"}')) == ["x", "y"]
    for data, words in (
        ('{"text": ["a", "b"], "n": [1]}', "different lengths"),
        ('{"a": [{"text": "x"}], "b": [{"text": "y"}]}', "has rows under 'a', 'b'"),
        ("[[1], [2]]", "no table"),
        ('[{"text": "x"},', "neither JSON lines nor one JSON document"),
        ('{\n"text": "x"}\n{\n"text": "y"}', "jq -c"),
    ):
        with pytest.raises(InputError, match=words):
            read_bytes(tmp_path, "a.json", data)


def test_a_malformed_line_is_told_in_its_own_words(tmp_path):
    with pytest.raises(InputError, match=r"1 × malformed JSON \(the first: a.jsonl:1: Expecting"):
        read_bytes(tmp_path, "a.jsonl", '{"text" "x"}\n{"text": ""}\n')


def test_half_a_character_in_json_is_a_skip(tmp_path):
    path = write_json_lines(
        tmp_path / "a.jsonl", [{"text": "a\ud800"}, {"text": "b", "tag": "\udfff"}, {"text": "fine 👍"}]
    )
    inputs = read(path, options=options(), seed=0)
    assert texts(inputs) == ["fine 👍"]
    assert inputs.skipped == {"half a character (a lone surrogate)": 2}
