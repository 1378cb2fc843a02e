import json
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from attnviz.errors import InputError
from attnviz.inputs import READERS, DataOptions, Skip, docs, read
from attnviz.inputs import images as images_module
from attnviz.resources import resource
from attnviz.schema import SEQUENCES
from attnviz.types import Record

WORDS = ["one fish", "two fish", "red fish", "blue fish", "old fish", "new fish"]


def options(**given):
    return DataOptions(**given)


def texts(inputs):
    return [record.text for record in inputs.records]


def write_json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_images(folder, names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (number * 20, 0, 0)).save(path)
    return str(folder)


def table():
    return pd.DataFrame({"text": WORDS, "stars": range(len(WORDS)), "price": np.arange(len(WORDS)) / 4})


def example(form, folder):
    """Return the location of a small source of each format."""
    path = folder / f"data.{form}"
    if form == "builtin":
        return "repeated"
    if form == "text":
        path.write_text("\n".join(WORDS), encoding="utf-8")
    elif form == "jsonl":
        write_json_lines(path, table().to_dict("records"))
    elif form in ("csv", "tsv"):
        table().to_csv(path, index=False, sep="\t" if form == "tsv" else ",")
    elif form == "parquet":
        table().to_parquet(path, row_group_size=2)
    elif form == "npz":
        np.savez(path, images=np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4), label=np.arange(6))
    elif form == "images":
        write_images(path, [f"{kind}/{number}.png" for kind in ("cats", "dogs") for number in range(3)])
    elif form == "hub":
        save_data_set(path, {"text": WORDS})
    return str(path)


def save_data_set(path, columns, features=None):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(path))
    return f"hub:{path}"


# What every reader promises


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
        "huge": 123456789012345678901.0,
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
    with pytest.raises(InputError, match="no usable row: 1 × empty text, 1 × not a text"):
        read(path, options=options(), seed=0)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_empty_file_is_an_error(name, tmp_path):
    (tmp_path / name).write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="it is empty"):
        read(str(tmp_path / name), options=options(), seed=0)


def test_json_array_says_how_to_convert_it(tmp_path):
    (tmp_path / "a.json").write_text('[\n{"text": "x"},\n{"text": "y"}\n]', encoding="utf-8")
    with pytest.raises(InputError, match="jq -c"):
        read(str(tmp_path / "a.json"), options=options(), seed=0)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
def test_wrong_encoding_names_file_line_and_byte(name, tmp_path):
    (tmp_path / name).write_bytes(b'text\n"plain"\ncaf\xe9\n')
    with pytest.raises(InputError, match=rf"{name}, line 3: byte 16 is not UTF-8.*iconv"):
        read(str(tmp_path / name), options=options(), seed=0)


def test_utf16_is_recognised(tmp_path):
    (tmp_path / "a.txt").write_text("hello", encoding="utf-16")
    with pytest.raises(InputError, match=r"byte 0 is not UTF-8.*iconv -f utf-16"):
        read(str(tmp_path / "a.txt"), options=options(), seed=0)


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


# Images


def test_folder_names_become_labels(tmp_path):
    inputs = read(write_images(tmp_path, ["b/2.png", "a/1.png", "top.png"]), options=options(), seed=0)
    assert [(record.reference, record.attributes["label"]) for record in inputs.records] == [
        ("a/1.png", "a"),
        ("b/2.png", "b"),
        ("top.png", None),
    ]
    assert inputs.records[0].image().shape == (4, 6, 3)
    assert inputs.records[0].image().dtype == np.uint8


def test_folder_without_sub_folders_has_no_labels(tmp_path):
    assert read(write_images(tmp_path, ["a.png"]), options=options(), seed=0).records[0].attributes == {}
    assert read(str(tmp_path / "a.png"), options=options(), seed=0).records[0].reference == "a.png"


@pytest.mark.parametrize("extension", ["png", "jpg", "jpeg", "webp", "bmp", "gif"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_every_kind_of_file_becomes_rgb(extension, mode, tmp_path):
    if mode == "P" and extension in ("jpg", "jpeg"):
        pytest.skip("JPEG has no palettes")
    Image.new("RGB", (5, 4), (200, 200, 200)).convert(mode).save(tmp_path / f"a.{extension}")
    image = read(str(tmp_path), options=options(), seed=0).records[0].image()
    assert image.shape == (4, 5, 3)
    assert np.abs(image.astype(int) - 200).max() < 8  # palettes and JPEG round


def test_sixteen_bit_images_are_scaled_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((3, 3), 0x4000, dtype=np.uint16)).save(tmp_path / "a.png")
    assert read(str(tmp_path), options=options(), seed=0).records[0].image().max() == 0x40


def test_images_stand_as_the_camera_was_held(tmp_path):
    picture = Image.new("RGB", (6, 4))
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read(str(tmp_path), options=options(), seed=0).records[0].image().shape == (6, 4, 3)


def test_unreadable_images_are_counted(tmp_path):
    write_images(tmp_path, ["good.png", "cut.png"])
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:45])
    (tmp_path / "text.jpg").write_text("no picture", encoding="utf-8")
    inputs = read(str(tmp_path), options=options(), seed=0)
    assert [record.reference for record in inputs.records] == ["good.png"]
    assert inputs.skipped == {"unreadable image": 2}


@pytest.mark.parametrize("limit", [5, 20])
def test_decompression_bombs_are_counted(limit, tmp_path, monkeypatch):
    write_images(tmp_path, ["a.png"])  # 24 pixels: Pillow warns above the limit and raises above twice the limit
    Image.new("RGB", (2, 2)).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    inputs = read(str(tmp_path), options=options(), seed=0)
    assert inputs.skipped == {"image too large": 1}
    assert len(inputs.records) == 1


def test_folder_without_images_says_what_is_accepted(tmp_path):
    with pytest.raises(InputError, match=r"holds no image.*\.png.*hub:"):
        read(str(tmp_path), options=options(), seed=0)


def test_npz_takes_grey_colour_and_fractions(tmp_path):
    np.savez(
        tmp_path / "a.npz", images=np.full((2, 3, 3), 0.5), label=["x", "y"], other=np.zeros((2, 2)), n=np.arange(2)
    )
    first = read(str(tmp_path / "a.npz"), options=options(), seed=0).records[0]
    assert first.image().shape == (3, 3)
    assert first.image().dtype == np.uint8
    assert first.image().max() == 128
    assert first.attributes == {"label": "x", "n": 0}
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 3, 3, 3), dtype=np.uint8))
    assert read(str(tmp_path / "b.npz"), options=options(), seed=0).records[1].image().shape == (3, 3, 3)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 3)), np.zeros((2, 3, 3, 4)), np.full((2, 3, 3), 7.0), np.zeros((2, 3, 3), dtype=np.int64)]
)
def test_npz_of_another_shape_or_type_is_refused(images, tmp_path):
    np.savez(tmp_path / "a.npz", images=images)
    with pytest.raises(InputError, match=r"Accepted: \(n, height, width\)"):
        read(str(tmp_path / "a.npz"), options=options(), seed=0)


def test_npz_without_images_names_what_it_holds(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match="did you mean 'image'"):
        read(str(tmp_path / "a.npz"), options=options(), seed=0)


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 2, 2), dtype=np.uint8), label=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"cannot be read as an \.npz .*without pickled objects"):
        read(str(tmp_path / "a.npz"), options=options(), seed=0)


# Data sets


def test_hub_folder_gives_class_names_and_decoded_pictures(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_images(tmp_path / "files", ["a.png", "b.png"])
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "n": datasets.Value("int64")}
    )
    files = [str(tmp_path / "files" / name) for name in ("a.png", "b.png")]
    source = save_data_set(tmp_path / "set", {"image": files, "label": [1, 0], "n": [5, 6]}, features)
    first, second = read(source, options=options(), seed=0).records
    assert first.attributes == {"label": "dog", "n": 5}
    assert second.attributes["label"] == "cat"
    assert first.image().shape == (4, 6, 3)


def test_hub_dictionary_without_the_split_names_the_nearest(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": WORDS})}).save_to_disk(str(tmp_path / "set"))
    assert texts(read(f"hub:{tmp_path / 'set'}", options=options(), seed=0)) == WORDS
    with pytest.raises(InputError, match=r"no split 'trian'.*did you mean 'train'"):
        read(f"hub:{tmp_path / 'set'}", options=options(split="trian"), seed=0)


def test_hub_name_that_cannot_be_loaded_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot be loaded with split 'train'.*data\.split"):
        read(f"hub:{tmp_path}", options=options(), seed=0)


def test_parquet_with_pictures_is_read_like_a_data_set(tmp_path):
    write_images(tmp_path, ["a.png"])
    cell = {"bytes": (tmp_path / "a.png").read_bytes(), "path": "a.png"}
    pd.DataFrame({"image": [cell, {"bytes": b"?", "path": "b.png"}], "label": ["x", "y"]}).to_parquet(
        tmp_path / "a.parquet"
    )
    inputs = read(str(tmp_path / "a.parquet"), options=options(), seed=0)
    assert inputs.records[0].image().shape == (4, 6, 3)
    assert inputs.records[0].attributes == {"label": "x"}
    assert inputs.skipped == {"unreadable image": 1}


# Built-in data


def test_unknown_builtin_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'digits'"):
        read("builtin:digit", options=options(), seed=0)


def test_docs_are_many_different_prose_sentences():
    inputs = read("builtin:docs", options=options(), seed=0)
    found = texts(inputs)
    assert len(found) == len(set(found)) >= 6000
    assert len({record.attributes["package"] for record in inputs.records}) >= 4
    for text in found[::50]:
        assert text[0].isupper()
        assert text[-1] in ".?!"
        assert 6 <= len(text.split()) <= 40
        assert "::" not in text
        assert "`" not in text


def test_docs_keep_prose_and_leave_out_code(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        '''
def f():
    """Return the largest of the ``values`` that are given here.

    Parameters
    ----------
    axis : int
        The axis along which the values are compared. By default the
        values are flattened first, e.g. when no axis is given.

    >>> print("This is a line that belongs to a doctest here.")
    See https://example.org for all of the details about this.
    Too short to keep.
    """
''',
        encoding="utf-8",
    )
    found = [
        sentence
        for text in docs._docstrings(path)
        for part in docs._paragraphs(text)
        for sentence in docs._sentences(part)
    ]
    assert found == [
        "Return the largest of the values that are given here.",
        "The axis along which the values are compared.",
        "By default the values are flattened first, e.g. when no axis is given.",
    ]


def test_sample_sentences_are_varied():
    inputs = read("builtin:sentences", options=options(), seed=0)
    topics = Counter(record.attributes["topic"] for record in inputs.records)
    assert len(inputs.records) >= 300
    assert len(topics) == 15
    assert min(topics.values()) >= 20
    assert inputs.skipped == {}
    pairs = [record for record in inputs.records if record.pair]
    assert len(pairs) >= 100
    labels = Counter(record.attributes["label"] for record in pairs if record.attributes["topic"] == "entailment")
    assert set(labels) == {"entailment", "neutral", "contradiction"}


def test_repeated_probes_say_the_same_words_twice():
    one, other = (read("builtin:repeated", options=options(), seed=seed).records for seed in (1, 2))
    assert one[0].text != other[0].text
    for record in one:
        words = record.text.split()
        half = len(words) // 2
        assert words[:half] == words[half:]
        assert len(set(words)) == half == record.attributes["half_words"]
        assert record.attributes["probe"] == "repeated"


def test_digits_are_bytes_with_labels():
    records = read("builtin:digits", options=options(), seed=0).records
    assert len(records) == 1797
    assert records[0].image().shape == (8, 8)
    assert max(record.image().max() for record in records) == 255
    assert [record.attributes["label"] for record in records[:10]] == list(range(10))


def test_photos_are_rgb():
    records = read("builtin:photos", options=options(), seed=0).records
    assert [(record.image().shape, record.attributes["label"]) for record in records] == [
        ((427, 640, 3), "china"),
        ((427, 640, 3), "flower"),
    ]


def test_resources_that_are_missing_say_where_they_were_sought():
    assert resource("data", "sample", "sentences.jsonl").is_file()
    with pytest.raises(InputError, match=r"data/sample/none\.jsonl should travel with attnviz"):
        resource("data", "sample", "none.jsonl")


def test_decoding_leaves_the_warning_filters_alone(tmp_path):
    write_images(tmp_path, ["a.png"])
    before = list(warnings.filters)
    images_module.decode(tmp_path / "a.png")
    assert list(warnings.filters) == before
