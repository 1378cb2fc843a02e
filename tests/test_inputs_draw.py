"""The draw: no more is read than is used, every row has one fate, and sources get their part."""

import io
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from attnviz.errors import InputError, RecipeError
from attnviz.inputs import Source, docs, pictures, read
from attnviz.models import load
from attnviz.pipeline.prepare import prepare
from attnviz.recipe import load_recipe, make_recipe, parse_overrides, to_toml
from tests import tiny
from tests.sources import options, texts, write_images, write_json_lines


@pytest.fixture(scope="module")
def reader():
    return tiny.text_model("llama")


@pytest.fixture(scope="module")
def viewer():
    return tiny.timm_vit()


def recipe(source, seed=0, **data):
    return make_recipe({"name": "x", "seed": seed, "model": {"id": "m"}, "data": {"source": source, **data}})


def prepared(source, model, seed=0, **data):
    return prepare(recipe(source, seed, **data), model, lambda *_: None)


def lines(path, count, word):
    path.write_text("".join(f"{word} {n}\n" for n in range(count)), encoding="utf-8")
    return str(path)


def sources_of(records):
    return Counter(record.attributes["source"].rsplit("/")[-1] for record in records)


# Sample before decoding


def parquet_of_pictures(folder, count):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 8, 7)).save(buffer, "PNG")
    rows = [{"bytes": buffer.getvalue(), "path": f"{number}.png"} for number in range(count)]
    pq.write_table(pa.table({"image": rows}), folder / "a.parquet", row_group_size=100)
    return str(folder / "a.parquet")


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_a_limit_on_tokens_decodes_little_more_than_it_takes(form, viewer, tmp_path, monkeypatch):
    count, decoded = 400, []
    whole = pictures.see
    monkeypatch.setattr(pictures, "see", lambda file: decoded.append(file) or whole(file))
    if form == "folder":
        source = write_images(tmp_path / "pictures", [f"{number}.png" for number in range(count)])
    else:
        source = parquet_of_pictures(tmp_path, count)
    made = prepared(source, viewer, max_tokens=340)
    assert sum(map(len, made.sequences)) == 20 * 17
    assert 20 <= len(decoded) <= 40  # 400 before
    assert made.rows == count


def test_a_seed_gives_one_sample_whatever_the_batches_and_it_is_the_one_that_older_runs_drew(reader, tmp_path):
    source = lines(tmp_path / "a.txt", 300, "line")
    drawn = [sequence.record.text for sequence in prepared(source, reader, max_tokens=400).sequences]
    assert drawn == [sequence.record.text for sequence in prepared(source, reader, max_tokens=400).sequences]
    assert drawn != [sequence.record.text for sequence in prepared(source, reader, 1, max_tokens=400).sequences]
    numbers = [int(text.split()[1]) for text in drawn]
    assert numbers == sorted(np.random.default_rng(0).permutation(300)[: len(numbers)].tolist())


# Every row has one fate


BAD = ['{"text": ""}', '{"text": 5}', "[1]", '{"text": ', '{"n": 1}']


@pytest.mark.parametrize("seed", range(12))
def test_rows_in_are_rows_kept_skipped_and_not_drawn(seed, reader, tmp_path):
    draw = random.Random(seed)
    sources = []
    for number in range(draw.choice([1, 2, 3])):
        rows = [
            draw.choice(BAD) if draw.random() < 0.3 else f'{{"text": "row {n}"}}' for n in range(draw.randint(5, 80))
        ]
        (tmp_path / f"{number}.jsonl").write_text("\n".join([*rows, '{"text": "x"}']), encoding="utf-8")
        part = {"weight": draw.choice([0.5, 3])} if draw.random() < 0.5 else {}
        sources.append({"name": str(tmp_path / f"{number}.jsonl"), "at_least": draw.choice([0, 4]), **part})
    limits = {name: draw.randint(1, 300) for name in ("max_tokens", "max_sequences") if draw.random() < 0.5}
    made = prepared(sources, reader, seed, **limits)
    total = sum(len((tmp_path / f"{number}.jsonl").read_text().splitlines()) for number in range(len(sources)))
    assert made.rows == total
    left = total - len(made.sequences) - sum(made.skipped.values())
    assert left == 0 if not limits else left >= 0
    assert len(
        {sequence.record.attributes.get("source", "") + sequence.record.reference for sequence in made.sequences}
    ) == len(made.sequences)
    assert set(made.examples) == set(made.skipped)


@pytest.mark.parametrize("bad", [0, 1])
def test_a_bad_row_is_skipped_wherever_it_stands(bad, viewer, tmp_path):
    rows = [{"image": str(tmp_path / "0.png")}, {"image": str(tmp_path / "1.png")}]
    write_images(tmp_path, ["0.png", "1.png"])
    (tmp_path / f"{bad}.png").write_bytes(b"none")
    made = prepared(write_json_lines(tmp_path / "a.jsonl", rows), viewer, image_column="image")
    assert len(made.sequences) == 1
    assert made.skipped == {"unreadable image": 1}


def test_a_row_that_the_model_cannot_read_is_skipped_and_counted_even_if_it_is_the_first(reader, tmp_path):
    table = write_json_lines(tmp_path / "a.jsonl", [{"text": "one"}])
    made = prepared(["builtin:photos", table], reader)
    assert [sequence.record.text for sequence in made.sequences] == ["one"]
    assert made.skipped == {"nothing for the model to read": 2}
    assert "photos:0 is an image, but" in made.examples["nothing for the model to read"]


def test_nothing_for_the_model_is_refused_with_count_place_and_words(reader):
    with pytest.raises(
        InputError,
        match=r"2 × nothing for the model to read \(the first: photos:0: photos:0 is an image, but .* reads text",
    ):
        prepared("builtin:photos", reader)


def test_data_of_the_wrong_kind_is_refused_before_all_of_it_is_read(reader, monkeypatch):
    tried = []
    encode = reader.encode
    monkeypatch.setattr(
        type(reader), "encode", lambda self, record, limit=None: tried.append(record) or encode(record, limit)
    )
    with pytest.raises(InputError, match="is an image, but"):
        prepared("builtin:digits", reader)
    assert len(tried) == 1001  # of 1,797


def test_shortened_sequences_are_in_the_run_and_counted_apart(reader, tmp_path):
    rows = [{"text": "a word " * count} for count in (1, 20, 30)] + [{"text": ""}]
    made = prepared(write_json_lines(tmp_path / "a.jsonl", rows), reader, max_length=8)
    assert (len(made.sequences), made.shortened, made.rows) == (3, 2, 4)
    assert made.skipped == {"empty text": 1}


# Parts of sources


def test_a_small_source_gets_at_least_what_it_is_promised(tmp_path):
    large, small = lines(tmp_path / "large.txt", 5000, "large"), lines(tmp_path / "small.txt", 40, "small")
    alone = sources_of(read([large, small], options=options(max_sequences=100), seed=0).records)
    assert alone["small.txt"] <= 5
    with_part = read([large, Source(small, at_least=30)], options=options(max_sequences=100), seed=0)
    assert sources_of(with_part.records) >= Counter({"small.txt": 30})
    assert len(with_part.records) == 100
    assert with_part.notes == ()


def test_skipped_rows_do_not_count_towards_a_promise(tmp_path):
    rows = [{"text": f"probe {n}" if n % 2 else ""} for n in range(60)]
    small, large = write_json_lines(tmp_path / "small.jsonl", rows), lines(tmp_path / "large.txt", 900, "large")
    inputs = read([large, Source(small, at_least=25)], options=options(max_sequences=40), seed=3)
    assert sources_of(inputs.records)["small.jsonl"] >= 25
    assert len(inputs.records) + sum(inputs.skipped.values()) + inputs.not_drawn == 960


@pytest.mark.parametrize("limit", [10, 400])
def test_a_promise_that_cannot_be_kept_is_told(limit, tmp_path):
    large, small = lines(tmp_path / "large.txt", 900, "large"), lines(tmp_path / "small.txt", 20, "small")
    inputs = read(
        [Source(large, at_least=30), Source(small, at_least=30)], options=options(max_sequences=limit), seed=0
    )
    counts = sources_of(inputs.records)
    if limit == 10:  # in turn
        assert counts == {"large.txt": 5, "small.txt": 5}
        assert "5 of at least 30 sequences were drawn: the limit is reached" in inputs.notes[0]
    else:
        assert counts == {"large.txt": 380, "small.txt": 20}
        assert inputs.notes == (f"{small}: 20 of at least 30 sequences were drawn: it holds no more that can be used",)


@pytest.mark.parametrize(
    ("weights", "limit", "counts"),
    [
        ((2.0, 1.0), 300, (200, 100)),
        ((None, 3.0), 400, (100, 300)),
        ((1, 1), 1000, (500, 500)),
        ((0.001, 1000.0), 1200, (600, 600)),  # the second ends, the first has the rest
    ],
)
def test_weights_share_the_draw(weights, limit, counts, tmp_path):
    names = [lines(tmp_path / "a.txt", 2000, "a"), lines(tmp_path / "b.txt", 600, "b")]
    inputs = read(
        [Source(*pair) for pair in zip(names, weights, strict=True)], options=options(max_sequences=limit), seed=1
    )
    assert tuple(sources_of(inputs.records)[name] for name in ("a.txt", "b.txt")) == counts
    drawn = [int(text.split()[1]) for text in texts(inputs) if text.startswith("a")]
    assert max(drawn) > 600  # of all its rows, not the first


def test_an_empty_source_among_others_is_told(tmp_path):
    (tmp_path / "none.txt").write_text("", encoding="utf-8")
    inputs = read(
        [str(tmp_path / "none.txt"), lines(tmp_path / "a.txt", 5, "a")], options=options(max_sequences=5), seed=0
    )
    assert len(inputs.records) == 5
    assert inputs.notes == (f"{tmp_path / 'none.txt'} holds no rows",)


def test_weights_without_a_draw_are_told(tmp_path):
    name = lines(tmp_path / "a.txt", 5, "a")
    assert "all rows are read" in read(Source(name, weight=2.0), options=options(), seed=0).notes[0]


PART = {"name": "b.jsonl", "weight": 2.0, "at_least": 64}


def test_parts_go_through_recipe_toml_and_command_line(tmp_path):
    given = recipe(["a.txt", PART, {"name": "c ü.txt", "weight": 1}], max_tokens=10)
    assert given.data.source == ("a.txt", Source("b.jsonl", 2.0, 64), Source("c ü.txt", 1.0))
    (tmp_path / "r.toml").write_text(to_toml(given), "utf-8")
    assert load_recipe(tmp_path / "r.toml") == given
    words = ['data.source=["a.txt", {name = "b.jsonl", weight = 2.0, at_least = 64}]']
    assert make_recipe({"name": "x", "model": {"id": "m"}}, parse_overrides(words)).data.source[1] == Source(
        "b.jsonl", 2.0, 64
    )
    assert recipe(PART).data.source == Source("b.jsonl", 2.0, 64)
    assert recipe([Source("b.jsonl", 2.0, 64)]) == recipe([PART])


def test_plain_names_keep_their_fingerprint_and_parts_change_it():
    # What this recipe had on 2026-11-27; runs of then resume.
    given = {"name": "x", "model": {"id": "some/model"}, "data": {"source": ["a.txt", "b.txt"], "max_tokens": 9}}
    before = "b1afda14"
    assert make_recipe(given).fingerprint().startswith(before)
    assert (
        make_recipe(given | {"data": {"source": [{"name": "a.txt"}, "b.txt"], "max_tokens": 9}})
        .fingerprint()
        .startswith(before)
    )
    for change in ({"data.source": [{"name": "a.txt", "at_least": 1}, "b.txt"]}, {"data.encoding": "cp1252"}):
        assert not make_recipe(given, change).fingerprint().startswith(before)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"name": "a", "weigth": 1.0}, r"data.source has the key 'weigth', which is unknown: did you mean 'weight'"),
        (["b", {"name": "a", "atleast": 1}], r"data.source\[1\] has the key 'atleast'.*did you mean 'at_least'"),
        ([{"weight": 1.0}], r"data.source\[0\] needs 'name'"),
        ([{"name": "a", "weight": 0}], r"data.source\[0\]: The weight of a is 0.0; it must be a number above 0"),
        ([{"name": "a", "weight": float("inf")}], "weight of a is inf"),
        ([{"name": "a", "weight": float("nan")}], "weight of a is nan"),
        ([{"name": "a", "weight": True}], r"data.source\[0\].weight is True; accepted: a number"),
        ([{"name": "a", "at_least": -1}], "at_least of a is -1"),
        ([{"name": "a", "at_least": 1.5}], r"at_least is 1.5; accepted: a whole number"),
        (
            [["a"]],
            r"data.source is .*accepted: a string or a table with name, weight, at_least or a list of strings and such tables",
        ),
    ],
)
def test_what_is_no_part_is_refused(source, sentence):
    with pytest.raises(RecipeError, match=sentence):
        recipe(source)


@pytest.mark.parametrize("name", ["data.max_tokens", "data.max_length", "data.max_sequences", "capture.shard_tokens"])
@pytest.mark.parametrize("value", [0, -1, True, float("inf"), float("nan"), 1e4, "5"])
def test_limits_that_mean_nothing_are_refused_at_the_door(name, value):
    with pytest.raises(RecipeError, match=f"{name} is .*; (it must be at least 1|accepted: a whole number)"):
        make_recipe({"name": "x", "model": {"id": "m"}, "data": {"source": "a"}}, {name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("seed", -1), ("capture.layers", 0), ("capture.layers", []), ("capture.generate", -1)]
)
def test_their_kind_is_refused_too(name, value):
    with pytest.raises(RecipeError, match=f"{name} is "):
        make_recipe({"name": "x", "model": {"id": "m"}, "data": {"source": "a"}}, {name: value})


def test_docs_llama_really_has_its_probes_and_our_sentences(monkeypatch):
    many = tuple(
        ("numpy", f"Return the number {n} of the array as it was given to the function.") for n in range(40_000)
    )
    monkeypatch.setattr(docs, "harvest", lambda: many)
    shipped = load_recipe("docs_llama")
    made = prepare(shipped, load(shipped.model), lambda *_: None)
    counts = Counter(sequence.record.attributes["source"] for sequence in made.sequences)
    assert counts["builtin:repeated"] >= 32
    assert counts["builtin:sentences"] >= 64
    assert counts["builtin:docs"] > 100
    assert 10_000 <= sum(map(len, made.sequences)) < 10_200
