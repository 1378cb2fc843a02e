"""The user's columns where they once went wrong: gaps, classes, far dates, names of ours, and what the page offers of them."""

import csv
import datetime as dt
from html import unescape

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import attnviz
from attnviz.errors import InputError
from attnviz.export import export
from attnviz.info import describe
from attnviz.store import Column, RunDirectory
from attnviz.views import as_classes, color_points, colorings, match_tokens, read_traits, sequence_table
from tests import tiny
from tests.fakes import write_fake_run

pytest.importorskip("panel")

from attnviz.explorer import State, markup
from attnviz.explorer.scene import make_scene
from attnviz.explorer.sidebar import Sidebar
from attnviz.explorer.swatches import scene_swatches

COUNT = 40
TEXTS = [f"{sentence} {word}" for word in tiny.WORDS[:10] for sentence in tiny.SENTENCES]
DAYS = [dt.date(2024, 1, 31) + dt.timedelta(days=day) for day in range(COUNT)]
COLUMNS = {
    "topic": [number % 30 for number in range(COUNT)],
    "size": [number % 30 for number in range(COUNT)],
    "gap": [2**53 + 1, 2**53, None, 3] * (COUNT // 4),
    "day": DAYS,
    "x": list(range(COUNT)),
    "x_": ["mine"] * COUNT,
    "head": ["also"] * COUNT,
    "Text": ["words"] * COUNT,
    "Text (yours)": ["more"] * COUNT,
}


@pytest.fixture(name="model", scope="module")
def tiny_model(tmp_path_factory):
    return tiny.save_text_model(tmp_path_factory.mktemp("model"), "llama")


def recipe(model, source, **data):
    return {"name": "cases", "model": {"id": str(model)}, "data": {"source": str(source), **data}, "maps": {"pca": {}}}


@pytest.fixture(name="run", scope="module")
def run_of_classes(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("cases")
    pq.write_table(pa.table({"text": TEXTS, **COLUMNS}), folder / "cases.parquet")
    attnviz.run(recipe(model, folder / "cases.parquet", classes=["topic"]), out=folder / "run", workers=1)
    return RunDirectory(folder / "run")


@pytest.fixture(name="state")
def state_of_run(run):
    return State({run.name: run})


def of(run, sequences):
    return np.isin(run.tokens["sequence_id"], sequences)


def test_a_column_with_a_gap_stays_whole(run):
    assert run.sequences["gap"].dtype == pd.Int64Dtype()
    assert run.sequences["gap"].iloc[:2].tolist() == [2**53 + 1, 2**53]
    np.testing.assert_array_equal(
        match_tokens(run, "3", where="labels", how="exact"), of(run, [3 + 4 * i for i in range(10)]) | of(run, [3, 33])
    )
    labels = [category.label for category in color_points(run, "data:gap", heads=()).categories]
    assert labels[:3] == ["3", str(2**53), str(2**53 + 1)]
    cells = sequence_table(run)["gap"].iloc[:3]
    assert (cells[:2].astype(str).tolist(), pd.isna(cells[2])) == ([str(2**53 + 1), str(2**53)], True)


def test_whole_numbers_are_classes_where_the_recipe_says_so(run):
    assert run.manifest.classes == ("topic",)
    assert describe(run)["classes"] == ["topic"]
    topic = color_points(run, "data:topic", heads=())
    assert [category.label for category in topic.categories[:30]] == [str(number) for number in range(30)]
    assert topic.categories[30].tokens == 0
    assert as_classes(run, "data:topic") is None
    assert not color_points(run, "data:size", heads=()).categories
    traits = {trait.title: trait for trait in read_traits(run)}
    assert len(traits["topic"].names) == 30
    assert traits["size"].names == ("0 – 3", "4 – 7", "8 – 13", "14 – 21", "22 – 29")  # eight sequences each


def test_a_recipe_that_names_no_column_of_the_data_is_refused(model, tmp_path):
    pq.write_table(pa.table({"text": TEXTS, "topic": COLUMNS["topic"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"data.classes names the column 'topics'.*did you mean 'topic'"):
        attnviz.run(recipe(model, tmp_path / "a.parquet", classes=["topics"]), out=tmp_path / "run", workers=1)


def test_a_switch_makes_classes_of_whole_numbers(state):
    side = Sidebar(state)
    (tick,) = [item for item in side.__panel__().select() if getattr(item, "label", "") == "Numbers are classes"]
    assert not tick.visible
    state.color = "data:day"
    assert not tick.visible
    state.color = "data:size"
    assert tick.visible
    assert not make_scene(state, ((0, 0),)).coloring.categories
    tick.value = True
    scene = make_scene(state, ((0, 0),))
    assert [category.label for category in scene.coloring.categories[:30]] == [str(number) for number in range(30)]
    assert len({tuple(color) for color in scene.table[:60:2].tolist()}) == 30
    assert "as_classes=true" in state.address().lower()
    state.show_entry(7, False)
    assert make_scene(state, ((0, 0),)).shown.sum() == 2 * (
        state.directory.num_tokens - of(state.directory, [7, 37]).sum()
    )
    state.as_classes = False
    assert state.hidden == ""


def test_dates_are_a_scale_whose_ends_are_dates(state):
    state.color = "data:day"
    scene = make_scene(state, ((0, 0),))
    assert scene.coloring.ends == (DAYS[0].isoformat(), DAYS[-1].isoformat())
    bins = scene.coloring.codes[0, state.directory.bounds[:-1]] // 2
    np.testing.assert_array_equal(bins, np.minimum(np.arange(COUNT) / (COUNT - 1) * 100, 99).astype(int))
    assert "≤ 2024-01-31" in unescape(markup.legend(scene))
    assert scene_swatches(scene)[0].label == "day, from ≤ 2024-01-31 to ≥ 2024-03-10"
    names = next(trait.names for trait in read_traits(state.directory) if trait.title == "day")
    assert (names[0], names[-1]) == ("2024-01-31 – 2024-02-07", "2024-03-03 – 2024-03-10")


def test_columns_that_have_the_names_of_ours_are_all_exported(run, tmp_path):
    path, _ = export(run, "parquet", out=tmp_path / "a.parquet", layers=[0], heads=[0])
    table = pq.read_table(path).to_pandas()
    sequence = table["sequence_id"].to_numpy()
    assert table["x__"].tolist() == sequence.tolist()
    assert set(table["x_"]) == {"mine"}
    assert set(table["head_"]) == {"also"}
    assert pd.api.types.is_float_dtype(table["x"])
    path, rows = export(run, "csv", out=tmp_path / "a.csv", layers=[0], heads=[0])
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == rows
    assert [int(row["x__"]) for row in read] == sequence.tolist()


def test_the_table_of_sequences_has_every_column(run):
    table = sequence_table(run)
    assert table.attrs["attributes"] == len(COLUMNS)
    assert set(table["Text (yours)"]) == {"words"}
    assert set(table["Text (yours) (yours)"]) == {"more"}


def test_other_and_no_value_look_and_read_different(tmp_path):
    names = pa.array([None, None, *(f"n{i:03d}" for i in range(98))])
    run = RunDirectory(write_fake_run(tmp_path / "many", sequences=100, label=names))
    state = State({run.name: run})
    state.color = "data:label"
    scene = make_scene(state, ((0, 0),))
    swatches = {swatch.label: swatch for swatch in scene_swatches(scene)}
    other, missing = swatches["other (34 values)"], swatches["no value"]
    assert missing.count == run.bounds[2]
    assert not set(other.colors) & set(missing.colors)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (pa.array([2**40, None, 0], pa.timestamp("s")), ["36812-02-20 00:36:16", None, "1970-01-01"]),
        (
            pa.array([2**40, 0], pa.timestamp("s", "Europe/Berlin")),
            ["36812-02-20 00:36:16Z", "1970-01-01 01:00:00+0100"],
        ),
        (pa.array([0, -(2**62)], pa.timestamp("us")), ["1970-01-01", "-144169-06-28 09:59:32.612096"]),
        (pa.array([-(2**63), 2**63 - 1], pa.timestamp("ns")), [str(-(2**63)), "2262-04-11 23:47:16.854775807"]),
        (
            pa.array([2**31 - 1, None, 0, -(2**31)], pa.date32()),
            ["5881580-07-11", None, "1970-01-01", "-5877641-06-23"],
        ),
        (
            pa.array([-(2**63), 2**63 - 1], pa.duration("s")),
            ["-106751991167300 days 15:30:08", "106751991167300 days 15:30:07"],
        ),
        (pa.array([[2**40]], pa.list_(pa.timestamp("s"))), ['["36812-02-20 00:36:16"]']),
        (pa.array([0], pa.timestamp("s", "Mars/Phobos")), ["1970-01-01 00:00:00Z"]),
    ],
    ids=str,
)
def test_times_beyond_what_arrow_writes_are_written_right(values, shown):
    column = Column("when", values)
    assert column.texts.to_pylist() == shown
    known = [text for text in shown if text is not None]
    assert sorted(column.names.to_pylist()) == sorted(known)
    if column.is_ordered:
        column.short(range(len(values)))
        assert np.isnan(column.numbers).sum() == shown.count(None)


@pytest.mark.parametrize(
    "values", [[float("inf"), float("-inf"), None], [float("nan")] * 3, [None] * 3, [float("inf"), 1.0, 2.0]], ids=str
)
def test_numbers_that_are_no_places_have_a_colour_and_a_legend(tmp_path, values):
    column = pa.array([*values, *np.arange(17.0)] if None not in values else (values * 7)[:20], pa.float64())
    run = RunDirectory(write_fake_run(tmp_path / "odd", sequences=20, label=column))
    state = State({run.name: run})
    state.color = "data:label"
    scene = make_scene(state, ((0, 0),))
    assert markup.legend(scene)
    assert scene_swatches(scene)
    read_traits(run)
    if values[0] == float("inf") and None not in values:
        assert scene.coloring.codes[0, 0] // 2 == 99  # the high end


def test_every_case_that_failed_opens_and_is_exported(model, tmp_path):
    """As those who reported them wrote them: a gap, 19 and 20 digits, nothing but empty objects, values of several types."""
    (tmp_path / "gap.csv").write_text("text,class\nthe cat,1\nthe dog,2\nthe sun,3\nthe mat,\n")
    (tmp_path / "ids.csv").write_text("id,text\n1294030472427835393,the cat\n1294030472427835394,the dog\n")
    (tmp_path / "ids20.jsonl").write_text(
        '{"id": 18446744073709551615, "text": "the cat"}\n{"id": 3, "text": "the sun"}\n'
    )
    (tmp_path / "empty.jsonl").write_text(
        '{"text": "the cat", "e": {}, "l": []}\n{"text": "the dog", "e": {}, "l": []}\n'
    )
    (tmp_path / "mixed.jsonl").write_text(
        "".join(f'{{"text": "the cat", "label": {label}}}\n' for label in ("1", '"1"', "null", "[1]", "1.5", "true"))
    )
    expected = {
        "gap.csv": {"class": ["1", "2", "3", None]},
        "ids.csv": {"id": ["1294030472427835393", "1294030472427835394"]},
        "ids20.jsonl": {"id": ["18446744073709551615", "3"]},
        "empty.jsonl": {"e": ["{}", "{}"], "l": ["[]", "[]"]},
        "mixed.jsonl": {"label": ["1", '"1"', None, "[1]", "1.5", "true"]},
    }
    for name, columns in expected.items():
        attnviz.run(recipe(model, tmp_path / name), out=tmp_path / f"{name}.run", workers=1)
        run = RunDirectory(tmp_path / f"{name}.run")
        assert {own: column.texts.to_pylist() for own, column in run.columns.items()} == columns
        for coloring in colorings(run):
            color_points(run, coloring, heads=((0, 0),), map_name="pca")
        sequence_table(run, "1")
        export(run, "csv", out=tmp_path / f"{name}.csv")
    assert describe(run)["as_text"] == {"label": "values of several types"}
