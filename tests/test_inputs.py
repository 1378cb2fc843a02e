"""Readers: what all of them promise, sampling, columns, and what is said of bad data."""

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnviz.errors import InputError
from attnviz.inputs import READERS, Skip, read
from attnviz.schema import SEQUENCES
from attnviz.types import Record
from tests.sources import WORDS, example, options, texts, write_json_lines


@pytest.mark.parametrize("form", READERS)
def test_reader_yields_one_item_per_index_and_the_same_one_however_it_is_asked(form, tmp_path):
    rows = READERS[form](example(form, tmp_path), options(), 3)
    everything = list(rows.take(np.arange(rows.count)))
    some = list(rows.take(np.array([1, 2, rows.count - 1])))
    assert len(everything) == rows.count >= 6
    assert [item.reference for item in some] == [everything[index].reference for index in (1, 2, rows.count - 1)]
    assert [item.text for item in some] == [everything[index].text for index in (1, 2, rows.count - 1)]
    for item in everything:
        assert isinstance(item, Record | Skip)
        assert (item.text is None) != (item.image is None)
    assert len({item.reference for item in everything}) == rows.count


@pytest.mark.parametrize("form", READERS)
def test_reader_of_a_path_is_found_without_naming_the_format(form, tmp_path):
    location = example(form, tmp_path)
    if form == "text":
        location = str((tmp_path / "data.text").rename(tmp_path / "data.txt"))
    source = f"{form}:{location}" if form in ("builtin", "hub") else location
    assert len(read(source, options=options(max_sequences=4), seed=0).records) == 4


# Sampling


def test_sample_is_seeded_in_order_and_not_the_first_rows(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(f"line {n:04d}" for n in range(1000)), encoding="utf-8")
    first, again, other = (texts(read(str(path), options=options(max_sequences=50), seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert first == sorted(first)
    numbers = np.array([int(text.split()[1]) for text in first])
    assert 350 < numbers.mean() < 650
    assert numbers.max() > 900


def test_sample_replaces_skipped_rows(tmp_path):
    rows = [{"text": "" if n % 2 else f"text {n}"} for n in range(100)]
    inputs = read(write_json_lines(tmp_path / "a.jsonl", rows), options=options(max_sequences=40), seed=0)
    assert len(inputs.records) == 40
    assert inputs.skipped["empty text"] > 0
    assert [int(text.split()[1]) for text in texts(inputs)] == sorted(int(text.split()[1]) for text in texts(inputs))


def test_sample_larger_than_the_data_is_the_data(tmp_path):
    inputs = read(example("csv", tmp_path), options=options(max_sequences=99), seed=0)
    assert texts(inputs) == WORDS


def test_sample_is_drawn_over_all_sources(tmp_path):
    small = tmp_path / "small.txt"
    small.write_text("\n".join(f"small {n}" for n in range(10)), encoding="utf-8")
    large = tmp_path / "large.txt"
    large.write_text("\n".join(f"large {n}" for n in range(190)), encoding="utf-8")
    inputs = read([str(small), str(large)], options=options(max_sequences=100), seed=0)
    counts = Counter(record.attributes["source"] for record in inputs.records)
    assert 1 <= counts[str(small)] <= 9
    assert counts.total() == 100


# Columns


def test_user_columns_ride_along_with_their_types(tmp_path):
    frame = pd.DataFrame(
        {
            "text": ["a b", "c d", "e f"],
            "stars": [1, 2, 3],
            "price": ["0.5", "1e3", "-2."],
            "zip": ["01234", "99999", "00001"],
            "sold": ["true", "False", "TRUE"],
            "note": ["x", "", "7"],
            "rest": ["4", "", "5"],
            "huge": ["123456789012345678901", "1", "2"],
            "void": ["", "", ""],
        }
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    first, second, _ = read(str(tmp_path / "a.csv"), options=options(), seed=0).records
    assert first.attributes == {
        "stars": 1,
        "price": 0.5,
        "zip": "01234",
        "sold": True,
        "note": "x",
        "rest": 4,
        "huge": "123456789012345678901",
        "void": None,
    }
    assert isinstance(first.attributes["stars"], int)
    assert isinstance(first.attributes["sold"], bool)
    assert second.attributes["note"] is None
    assert second.attributes["rest"] is None
    assert second.attributes["price"] == 1000.0


@pytest.mark.parametrize("cell", ["1_0", "inf", "0x1", ".", "1e", "-", "١"])
def test_csv_cells_that_only_python_takes_for_numbers_stay_text(cell, tmp_path):
    (tmp_path / "a.csv").write_text(f"text,code\nhello,{cell}\n", encoding="utf-8")
    assert read(str(tmp_path / "a.csv"), options=options(), seed=0).records[0].attributes == {"code": cell}


def test_reserved_names_get_a_trailing_underscore(tmp_path):
    row = {"review": "good", "text": "other", "text_": "third", "num_tokens": 3, "label": "pos"}
    inputs = read(write_json_lines(tmp_path / "a.jsonl", [row]), options=options(column="review"), seed=0)
    attributes = inputs.records[0].attributes
    assert attributes == {"text__": "other", "text_": "third", "num_tokens_": 3, "label": "pos"}
    assert not set(SEQUENCES.names) & set(attributes)


def test_two_columns_never_become_one_where_rows_lack_some(tmp_path):
    rows = [{"num_tokens": 1}, {"num_tokens": 2, "num_tokens_": 3}, {"num_tokens_": 4}]
    path = write_json_lines(tmp_path / "a.jsonl", [{"text": "x", **row} for row in rows])
    inputs = read(path, options=options(), seed=0)
    assert [record.attributes for record in inputs.records] == [
        {"num_tokens__": 1},
        {"num_tokens__": 2, "num_tokens_": 3},
        {"num_tokens_": 4},
    ]
    assert inputs.notes == ("column 'num_tokens' is called 'num_tokens__': the run needs its name for itself",)


def test_columns_of_several_sources_never_become_one(tmp_path):
    one = write_json_lines(tmp_path / "a.jsonl", [{"text": "x", "source": "mine"}, {"text": "y", "source_": "other"}])
    two = write_json_lines(tmp_path / "b.jsonl", [{"text": "z", "source": "yours", "source_": "others"}])
    assert [record.attributes for record in read([one, two], options=options(), seed=0).records] == [
        {"source__": "mine", "source": one},
        {"source_": "other", "source": one},
        {"source__": "yours", "source_": "others", "source": two},
    ]


def test_two_columns_make_a_pair(tmp_path):
    rows = [{"a": "a cat", "b": "an animal"}, {"a": "a dog", "b": " "}, {"a": "a fish"}, {"a": 5, "b": "x"}]
    inputs = read(write_json_lines(tmp_path / "a.jsonl", rows), options=options(column="a", pair_column="b"), seed=0)
    assert [record.pair for record in inputs.records] == ["an animal", None, None]
    assert inputs.skipped == {"not a text": 1}


def test_several_sources_are_named_and_a_user_column_of_that_name_steps_aside(tmp_path):
    one = write_json_lines(tmp_path / "a.jsonl", [{"text": "hello", "source": "web"}])
    inputs = read([one, "builtin:photos"], options=options(), seed=0)
    assert inputs.records[0].attributes == {"source_": "web", "source": one}
    assert [record.attributes["source"] for record in inputs.records[1:]] == ["builtin:photos"] * 2
    assert "source" not in read("builtin:photos", options=options(), seed=0).records[0].attributes


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "hub"])
def test_absent_column_names_the_nearest(form, tmp_path):
    prefix = "hub:" if form == "hub" else ""
    with pytest.raises(InputError, match=r"no column 'texts'.*did you mean 'text'"):
        read(prefix + example(form, tmp_path), options=options(column="texts"), seed=0)
    with pytest.raises(InputError, match="no column 'pair'"):
        read(prefix + example(form, tmp_path), options=options(pair_column="pair"), seed=0)


def test_quoted_cells_may_hold_delimiters_and_line_breaks(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbftext,n\r\n"one, two\nthree",1\r\n\r\nplain,2\r\nshort\r\n')
    inputs = read(str(path), options=options(), seed=0)
    assert texts(inputs) == ["one, two\nthree", "plain"]
    assert inputs.skipped == {"wrong number of cells": 1}
    assert [record.attributes["n"] for record in inputs.records] == [1, 2]


# Skips and errors


def test_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "a.txt").write_text("\ufefffirst\n\n  \nsecond\r\n", encoding="utf-8")
    inputs = read(str(tmp_path / "a.txt"), options=options(), seed=0)
    assert texts(inputs) == ["first", "second"]
    assert inputs.skipped == {}
    assert [record.reference for record in inputs.records] == ["a.txt:1", "a.txt:4"]


def test_bad_json_lines_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n{"text": \n[1]\n\n{"text": " "}\n{"n": 1}\n', encoding="utf-8")
    inputs = read(str(path), options=options(), seed=0)
    assert texts(inputs) == ["fine"]
    assert inputs.skipped == {"malformed JSON": 1, "not a JSON object": 1, "empty text": 2}


def test_nothing_usable_lists_the_reasons(tmp_path):
    path = write_json_lines(tmp_path / "a.jsonl", [{"text": ""}, {"text": 5}])
    with pytest.raises(
        InputError,
        match=r"no usable row: 1 × empty text \(the first: a.jsonl:1\), 1 × not a text \(the first: a.jsonl:2: text is 5\)",
    ):
        read(path, options=options(), seed=0)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_empty_file_is_an_error(name, tmp_path):
    (tmp_path / name).write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="it has no row"):
        read(str(tmp_path / name), options=options(), seed=0)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
def test_wrong_encoding_names_file_line_and_byte(name, tmp_path):
    (tmp_path / name).write_bytes(b'text\n"plain"\ncaf\xe9\n')
    with pytest.raises(
        InputError, match=rf"{name}, line 3: byte 16 \(0xe9\) is not UTF-8.*reads 'café'.*data.encoding=cp1252"
    ):
        read(str(tmp_path / name), options=options(), seed=0)


def test_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,n,n\nx,1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="several columns of the name n"):
        read(str(tmp_path / "a.csv"), options=options(), seed=0)


def test_missing_path_says_what_a_source_can_be():
    with pytest.raises(InputError, match=r"imdb is no file or folder.*hub:imdb.*builtin:NAME"):
        read("imdb", options=options(), seed=0)
    with pytest.raises(InputError, match="is no file or folder"):
        read("", options=options(), seed=0)


def test_unknown_extension_lists_the_formats(tmp_path):
    (tmp_path / "a.docx").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match=r"'\.docx' says no format.*\.csv.*data\.format"):
        read(str(tmp_path / "a.docx"), options=options(), seed=0)
    assert texts(read(str(tmp_path / "a.docx"), options=options(format="text"), seed=0)) == ["x"]


def test_unknown_format_names_the_nearest(tmp_path):
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="did you mean 'jsonl'"):
        read(str(tmp_path / "a.txt"), options=options(format="json"), seed=0)


@pytest.mark.parametrize(("source", "limit"), [([], None), ("builtin:photos", 0)])
def test_asking_for_nothing_is_an_error(source, limit):
    with pytest.raises(InputError, match="At least one"):
        read(source, options=options(max_sequences=limit), seed=0)


@pytest.mark.parametrize("name", ["a.parquet", "a.npz"])
def test_foreign_file_is_an_input_error(name, tmp_path):
    (tmp_path / name).write_bytes(b"not what the name says")
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        read(str(tmp_path / name), options=options(), seed=0)


def test_overlong_csv_cell_says_where_it_would_fit(tmp_path):
    (tmp_path / "a.csv").write_text("text\nfine\n" + "x" * 200_000 + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 3.*131072 characters.*\.parquet"):
        read(str(tmp_path / "a.csv"), options=options(), seed=0)


def test_two_columns_of_one_name_are_refused_rather_than_one_lost(tmp_path):
    pq.write_table(pa.Table.from_arrays([["a"], ["x"], ["y"]], ["text", "n", "n"]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"several columns of the name n\. Give each column a name of its own"):
        read(str(tmp_path / "a.parquet"), options=options(), seed=0)
