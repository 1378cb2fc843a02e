"""The user's columns: every type of Arrow, from the file that pyarrow writes to everything that is made of it.

One run is made of one Parquet file, by the real reader and a tiny model. What is expected comes from the Python values alone.
"""

import csv
import datetime as dt
import json
import uuid
from html import unescape

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import attnviz
from attnviz.export import export
from attnviz.info import describe
from attnviz.inputs import Cell
from attnviz.inputs.cells import rows_of
from attnviz.pipeline.attributes import attribute_column, attribute_columns
from attnviz.store import Column, RunDirectory
from attnviz.store.texts import json_texts, texts
from attnviz.types import Record
from attnviz.views import color_points, colorings, match_tokens, read_traits, sequence_table
from tests import tiny
from tests.arrow_types import CASES, PLACES, D, array, shown

pytest.importorskip("panel")

import panel as pn

from attnviz.explorer import State, markup
from attnviz.explorer.scene import make_scene
from attnviz.explorer.sequences_view import SequenceTable
from attnviz.explorer.swatches import scene_swatches

EVERY = pytest.mark.parametrize("name", CASES)


@pytest.fixture(name="given", scope="module")
def given_table():
    return pa.table(
        {
            "text": [*tiny.SENTENCES, *tiny.SENTENCES][:6],
            "nothing": pa.nulls(6),
            **{name: array(case) for name, case in CASES.items()},
        }
    )


@pytest.fixture(name="model", scope="module")
def tiny_model(tmp_path_factory):
    return tiny.save_text_model(tmp_path_factory.mktemp("model"), "llama")


def make_run(folder, model, source, **data):
    """Make a run of a file; open it anew, as another process would."""
    recipe = {
        "name": "types",
        "model": {"id": str(model)},
        "data": {"source": str(source), **data},
        "maps": {"pca": {}},
    }
    attnviz.run(recipe, out=folder / "run", workers=1)
    return RunDirectory(folder / "run")


@pytest.fixture(name="run", scope="module")
def run_of_all_types(tmp_path_factory, model, given):
    folder = tmp_path_factory.mktemp("types")
    pq.write_table(given, folder / "types.parquet")
    return make_run(folder, model, folder / "types.parquet")


@pytest.fixture(name="page", scope="module")
def sequences_page(run):
    """The table of the page, and what Panel hands to the browser."""
    state = State({run.name: run})
    state.view = "sequences"
    (table,) = SequenceTable(state).__panel__().select(pn.widgets.Tabulator)
    return table, dict(table.get_root().source.data)


@EVERY
def test_values_are_kept_with_their_type(run, given, name):
    case, stored = CASES[name], run.columns[name].values
    assert stored.type == (case.kept or case.type)
    assert stored.is_null().to_pylist() == [place is None for place in PLACES]
    assert texts(stored).to_pylist() == shown(case)
    if case.kept is None:
        assert stored.diff(given[name].combine_chunks()) == "" or name == "float64"  # in which NaN equals nothing
    else:
        assert stored.to_pylist() == [None if place is None else plain(case, case.values[place]) for place in PLACES]


def plain(case, value):
    """A value as Python has it of the type that is kept: times are given as counts, in the tests."""
    if case.scale and isinstance(value, int):
        return pa.array([value], case.type).cast(case.kept)[0].as_py()
    return str(value) if isinstance(value, uuid.UUID) else value


@EVERY
def test_pandas_is_given_the_same_values(run, name):
    found = pa.Array.from_pandas(run.sequences[name])
    stored = run.columns[name].values
    if pa.types.is_floating(stored.type):  # in which numpy has no place for a gap
        assert pc.is_null(found, nan_is_null=True).equals(pc.is_null(stored, nan_is_null=True))
        assert found.drop_null().cast(pa.float64()).to_pylist() == [
            v for v in stored.drop_null().cast(pa.float64()).to_pylist() if v == v
        ]
    else:
        assert texts(found.cast(stored.type)).to_pylist() == shown(CASES[name])


@EVERY
def test_the_page_shows_and_sorts_them(page, name):
    case, (table, cells) = CASES[name], page
    field = next(field for field, title in table.titles.items() if unescape(title) == name)
    expected = ["" if text is None else text or "∅" for text in shown(case)]
    assert ["" if cell is None or cell != cell else cell for cell in cells[field].tolist()] == expected
    known = [place for place in PLACES if place is not None]
    ascending = sorted(known, key=None if orders(case) else case.shown.__getitem__)
    for direction, places in (("asc", ascending), ("desc", ascending[::-1])):
        table.sorters = [{"field": field, "dir": direction}]
        found = [cell for cell in table.current_view[field].tolist() if cell == cell and cell != ""]
        assert sorted(found) == sorted(case.shown[place] or "∅" for place in places)
        assert [cell for cell in found if cell != "∅"] == [case.shown[place] for place in places if case.shown[place]]


def orders(case):
    """Whether values are ordered as numbers and dates are."""
    return (
        case.scale
        or pa.types.is_integer(case.type)
        or pa.types.is_floating(case.type)
        or case.type == CASES["dictionary of numbers"].type
    )


@EVERY
def test_a_search_finds_what_is_shown_and_nothing_else(run, name, monkeypatch):
    monkeypatch.setattr(run, "columns", {name: run.columns[name]})  # of all columns one
    for wanted in filter(None, CASES[name].shown):
        having = np.array([text == wanted for text in shown(CASES[name])])
        expected = np.repeat(having, np.diff(run.bounds))
        np.testing.assert_array_equal(match_tokens(run, wanted, where="labels", how="exact", case=True), expected)
        assert set(np.flatnonzero(having)) <= set(sequence_table(run, wanted)["#"])
    assert not match_tokens(run, "None", where="labels", case=True).any()


@EVERY
def test_colours_and_legend_say_the_values(run, name):
    case, run_name = CASES[name], run.name
    state = State({run_name: run})
    state.color = f"data:{name}"
    scene = make_scene(state, ((0, 0),))
    coloring, lengths = scene.coloring, np.diff(run.bounds)
    counts = {text: int(lengths[[t == text for t in shown(case)]].sum()) for text in dict.fromkeys(case.shown)}
    legend, swatches = unescape(markup.legend(scene)), [swatch.label for swatch in scene_swatches(scene)]
    missing = int(lengths[1])
    if case.scale:
        assert not coloring.categories
        assert coloring.tally(np.ones((1, 2 * run.num_tokens), bool))[-1] == missing
        bins = coloring.codes[0, run.bounds[:-1]] // 2
        assert bins[2] == bins[5] == 0  # the least
        assert bins[3] == 99
        assert bins[2] <= bins[0] == bins[4] <= bins[3]
        low, high = coloring.ends
        assert case.shown[0].startswith(low)
        assert case.shown[2].startswith(high)
        assert low != high
        assert f"≤ {low}" in legend
        assert f"from ≤ {low} to ≥ {high}" in swatches[0]
    else:
        found = {category.label: category.tokens for category in coloring.categories if not category.fallback}
        assert found == counts
        assert [c.tokens for c in coloring.categories if c.fallback] == [0, missing]
        if orders(case):
            assert list(found) == list(dict.fromkeys(case.shown))
    assert "no value" in legend
    assert "no value" in swatches
    color_points(run, f"class:{name}", heads=())


@EVERY
def test_a_selection_says_what_it_has_in_common(run, name):
    trait = next(trait for trait in read_traits(run) if trait.title == name)
    every = np.arange(run.num_tokens)
    found = trait.against_rest(every, every).set_index("name")["count"]
    lengths = np.diff(run.bounds)
    for text in dict.fromkeys(shown(CASES[name])):
        assert found["no value" if text is None else text] == lengths[[t == text for t in shown(CASES[name])]].sum()


@pytest.fixture(name="exported", scope="module")
def exported_files(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    files = {to: export(run, to, out=folder / f"map.{to}", layers=[0], heads=[1])[0] for to in ("csv", "parquet")}
    with files["csv"].open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), pq.read_table(files["parquet"])


@EVERY
def test_files_hold_the_values(run, exported, name):
    rows, table = exported
    assert len(rows) == table.num_rows == 2 * run.num_tokens
    free = "map_" if name == "map" else name  # "map" is a column of ours
    expected = [shown(CASES[name])[int(row["sequence_id"])] or "" for row in rows]
    found = [row[free] for row in rows]
    if pa.types.is_decimal(CASES[name].type):  # which may be 1E-10
        assert [D(cell or 0) for cell in found] == [D(text or 0) for text in expected]
    else:
        assert found == expected
    stored = run.columns[name].values.take(table["sequence_id"].combine_chunks())
    assert table[free].type == stored.type
    assert texts(table[free].combine_chunks()).equals(texts(stored))
    assert table[free].null_count == 2 * int(np.diff(run.bounds)[1])


def test_every_column_is_a_colouring_and_is_told(run):
    assert {f"data:{name}" for name in (*CASES, "nothing")} <= set(colorings(run))
    told = describe(run)
    assert told["types"]["decimal256"] == "decimal256(60, 1)"
    assert told["as_text"] == {}
    state = State({run.name: run})
    state.color = "data:nothing"
    assert "no value" in markup.legend(make_scene(state, ((0, 0),)))


UNION = [pa.array([1, 2]), pa.array(["x"])]
NOT_IN_PARQUET = {
    "interval": (
        pa.array([(1, 2, 3), None, (0, 0, 0), (0, -1, 1_500_000_000)], pa.month_day_nano_interval()),
        ["P1M2DT0.000000003S", None, "P0D", "P-1DT1.5S"],
    ),
    "dense union": (
        pa.UnionArray.from_dense(pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), UNION),
        ["1", '"x"', "2"],
    ),
    "sparse union": (
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["x", "y"])]),
        ["1", '"y"'],
    ),
    "run ends": (pc.run_end_encode(pa.array(["a", "a", None, "b"])), ["a", "a", None, "b"]),
    "list view": (pa.array([[1, 2], None, []], pa.list_view(pa.int64())), ["[1, 2]", None, "[]"]),
    "empty struct": (pa.array([{}, None], pa.struct([])), ["{}", None]),
    "empty inside": (
        pa.array([[{"a": {}}], None, []], pa.list_(pa.struct([("a", pa.struct([]))]))),
        ['[{"a": {}}]', None, "[]"],
    ),
    "thousands": (pa.array([D("1.1E+5"), None], pa.decimal128(5, -3)), ["110000", None]),
}


@pytest.mark.parametrize("name", NOT_IN_PARQUET)
def test_what_parquet_cannot_hold_is_kept_as_text_and_named(tmp_path, name):
    column, expected = NOT_IN_PARQUET[name]
    records = [
        Record(str(i), "x", attributes=row)
        for i, row in enumerate(rows_of(pa.table({name: column}), np.arange(len(column)), ()))
    ]
    made, as_text = attribute_columns(records)
    pq.write_table(pa.table(made), tmp_path / "x.parquet")
    back = Column(name, pq.read_table(tmp_path / "x.parquet")[name])
    assert back.texts.to_pylist() == expected
    assert (name in as_text) == pa.types.is_string(made[name].type) if name != "run ends" else name not in as_text


@pytest.mark.parametrize(
    ("values", "kind", "shown", "why"),
    [
        ([2**53 + 1, None], pa.int64(), [str(2**53 + 1), None], False),
        ([2**64 - 1, 3], pa.uint64(), [str(2**64 - 1), "3"], False),
        ([2**64, -1, None], pa.string(), [str(2**64), "-1", None], True),
        (
            [1, "1", None, [1], {"k": "ä"}, True, 0.5, "cat", '"x"'],
            pa.string(),
            ["1", '"1"', None, "[1]", '{"k": "ä"}', "true", "0.5", "cat", '"\\"x\\""'],
            True,
        ),
        ([2**53 + 1, 0.5], pa.string(), [str(2**53 + 1), "0.5"], True),
        ([1, 0.5], pa.float64(), ["1", "0.5"], False),
        ([True, 1.0], pa.string(), ["true", "1.0"], True),
        ([1.0, float("nan"), None], pa.float64(), ["1", "nan", None], False),
        (["a\ud800", "b"], pa.string(), ["a\\ud800", "b"], True),
        ([[2**64], [1]], pa.string(), ["[18446744073709551616]", "[1]"], True),
        ([{}, {}], pa.string(), ["{}", "{}"], True),
        ([dt.date(2024, 1, 2), "x"], pa.string(), ["2024-01-02", "x"], True),
        ([], pa.null(), [], False),
    ],
)
def test_values_of_python_keep_every_digit(values, kind, shown, why):
    column, reason = attribute_column(values)
    assert column.type == kind
    assert texts(column).to_pylist() == shown
    assert bool(reason) is why


def test_columns_of_several_sources_become_one():
    narrow, wide = pa.array([1, None, 3], pa.int32()), pa.array([2**40, 5])
    cells = [*[Cell(narrow, row) for row in (2, 0)], None, Cell(wide, 0), 7]
    assert attribute_column(cells) == (pa.array([3, 1, None, 2**40, 7]), "")
    mixed, why = attribute_column([Cell(narrow, 0), "1", Cell(pa.array([[1]]), 0)])
    assert (mixed.to_pylist(), bool(why)) == (["1", '"1"', "[1]"], True)
    large, why = attribute_column(
        [Cell(wide, 0), Cell(pa.array([2**64 - 1], pa.uint64()), 0), Cell(pa.array([0.5]), 0)]
    )
    assert large.to_pylist() == ["1099511627776", str(2**64 - 1), "0.5"]


def test_what_is_nested_too_deep_is_text():
    deep = []
    for _ in range(400):
        deep = [deep]
    column, why = attribute_column([deep, [1]])
    assert column.type == pa.string()
    assert json.loads(column[0].as_py()) == deep
    assert why


def test_json_of_parts_is_json():
    column = pa.array([{"a": 1e22, "b": b"\x01", "c": [float("nan")]}])
    assert json.loads(json_texts(column)[0]) == {"a": 1e22, "b": "0x01", "c": ["NaN"]}
