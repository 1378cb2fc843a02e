"""Selecting points on a head's map: what an outline encloses, what the selected have in common, what is written of them."""

import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.fakes import write_fake_run, write_fake_streams

pytest.importorskip("panel")

from bokeh.events import PanStart, SelectionGeometry

from attnviz.explorer import Explorer, State, library
from attnviz.explorer.head import OneHead
from attnviz.explorer.selection import SelectionPanel
from attnviz.explorer.state import NOTHING
from attnviz.explorer.wall import AllHeads
from attnviz.export import export
from attnviz.plots.density import draw_density
from attnviz.plots.raster import Window
from attnviz.plots.theme import LIGHT
from attnviz.store import RunDirectory
from attnviz.views import (
    chosen_links,
    inside_box,
    inside_outline,
    read_exchange,
    read_traits,
    selection_table,
)

HERE = Window(-0.6, 0.6, -0.6, 0.6, 300, 300)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection")
    text = write_fake_run(folder / "text", layers=2)
    return [text, write_fake_run(folder / "image", image=True), write_fake_streams(folder / "pair", "pair")]


@pytest.fixture
def run(paths):
    return RunDirectory(paths[0])


@pytest.fixture
def state(paths):
    return State(library.open_runs(paths))


def enclosed_one_by_one(points, xs, ys):
    """The even-odd rule, one point and one edge at a time."""
    found = []
    for x, y in points.astype(float):
        odd = False
        for i in range(len(xs)):
            (x0, y0), (x1, y1) = (xs[i], ys[i]), (xs[i - 1], ys[i - 1])
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                odd = not odd
        found.append(odd)
    return np.array(found)


@pytest.mark.parametrize("corners", [3, 40])
def test_an_outline_encloses_what_the_even_odd_rule_says(corners):
    rng = np.random.default_rng(corners)
    points = rng.uniform(-1, 1, (300, 2)).astype(np.float32)
    xs, ys = rng.uniform(-0.9, 0.9, (2, corners)).astype(np.float32)
    inside = inside_outline(points, xs, ys)
    np.testing.assert_array_equal(inside, enclosed_one_by_one(points, xs, ys))
    assert 0 < inside.sum() < len(points)


def test_the_grid_that_makes_millions_fast_decides_as_without_it():
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (60_000, 2)).astype(np.float32)
    xs, ys = rng.uniform(-0.9, 0.9, (2, 25)).astype(np.float32)
    inside = inside_outline(points, xs, ys)
    parts = [inside_outline(part, xs, ys) for part in np.array_split(points, 12)]  # each is too small for the grid
    np.testing.assert_array_equal(inside, np.concatenate(parts))
    assert 10_000 < inside.sum() < 50_000


def test_places_that_are_no_numbers_and_outlines_without_an_inside_hold_nothing():
    points = np.array([[np.nan, np.nan], [0, 0], [0.5, np.nan]], np.float32)
    square = np.array([-1, 1, 1, -1], np.float32), np.array([-1, -1, 1, 1], np.float32)
    assert inside_outline(points, *square).tolist() == [False, True, False]
    assert inside_box(points, (1, -1), (-1, 1)).tolist() == [False, True, False]
    assert not inside_outline(points, square[0][:2], square[1][:2]).any()


def test_traits_count_the_selected_against_the_others(run):
    every = np.tile(np.arange(run.num_tokens), 2)
    chosen = np.flatnonzero(run.tokens["text"].isin(["the", "cat"]) | (run.tokens["position"] == 0))
    traits = {trait.title: trait.against_rest(chosen, every).set_index("name") for trait in read_traits(run)}
    assert list(traits) == ["Tokens", "Positions", "label"]
    texts = run.tokens["text"].to_numpy()
    expected = pd.Series(texts[chosen]).value_counts()
    assert traits["Tokens"]["count"].to_dict() == expected.to_dict()
    the = (texts[chosen] == "the").mean()
    rest = ((texts == "the").sum() * 2 - (texts[chosen] == "the").sum()) / (len(every) - len(chosen))
    np.testing.assert_allclose(
        traits["Tokens"].loc["the", ["share", "rest_share", "lift"]].astype(float), [the, rest, the / rest]
    )
    assert traits["label"]["count"].sum() == len(chosen)
    alone = read_traits(run)[0].against_rest(chosen, chosen)
    assert np.isinf(alone["lift"]).all()


def test_a_column_of_many_numbers_becomes_ranges_and_gaps_are_named(tmp_path):
    numbers = [None, *(1.5 * number for number in range(1, 20))]
    run = RunDirectory(write_fake_run(tmp_path / "numbers", sequences=20, label=pa.array(numbers)))
    trait = read_traits(run)[2]
    assert trait.names == ("1.5 – 6", "7.5 – 12", "13.5 – 16.5", "18 – 22.5", "24 – 28.5")
    found = trait.against_rest(np.arange(run.bounds[1] + 1), np.arange(run.num_tokens))
    assert found["name"].tolist() == ["no value", "1.5 – 6"]
    assert found["count"].tolist() == [run.bounds[1], 1]


def test_the_table_says_what_the_run_says(run):
    placed = run.coordinates("umap_3d", 1, 2)
    norms = run.norms(1, 2)
    rows = np.array([3, run.num_tokens + 7])
    table = selection_table(run, rows, placed=placed, norms=norms)
    assert list(table) == ["token", "kind", "sequence", "position", "norm", "x", "y", "z"]
    assert table["kind"].tolist() == ["query", "key"]
    assert table["token"].tolist() == run.tokens["text"].iloc[[3, 7]].tolist()
    np.testing.assert_array_equal(table[["x", "y", "z"]], placed[rows])
    np.testing.assert_array_equal(table["norm"], norms[rows])


@pytest.mark.parametrize("number", [0, 2])
def test_lines_of_a_selection_are_the_strongest_weights_of_each_point(paths, number):
    run = RunDirectory(paths[number])
    layer = next(reversed(run.layers))  # of several streams: cross attention
    rows = np.sort(np.concatenate([run.points(layer).query[:30:5], run.points(layer).key[:30:5] + run.num_tokens]))
    frame, looked = chosen_links(run, layer, 1, rows, top_k=3, threshold=0.1)
    assert looked == len(rows)
    for row in rows.tolist():
        kind, token = ("query", row) if row < run.num_tokens else ("key", row - run.num_tokens)
        exchange = read_exchange(run, layer, 1, int(run.tokens["sequence_id"].iloc[token]))
        weights = np.sort(exchange.weights(exchange.place(token, kind), kind))[::-1][:3]
        own = frame[frame["row"] == row]
        np.testing.assert_array_equal(own["weight"], weights[weights >= 0.1])
        assert ((own["partner"] >= run.num_tokens) == (kind == "query")).all()


def test_the_state_counts_changes_adds_and_forgets(state):
    state.choose(np.array([5, 3, 3]))
    assert (state.selected.tolist(), state.selection) == ([3, 5], 1)
    state.choose(np.array([4]), add=True)
    assert state.selected.tolist() == [3, 4, 5]
    state.choose(NOTHING)
    state.choose(NOTHING)
    assert (len(state.selected), state.selection) == (0, 3)
    state.choose(np.array([1]))
    state.run = "image"
    assert len(state.selected) == 0
    assert "selection" not in state.address()


def test_the_address_carries_lines_and_marks(state, paths):
    state.param.update(top_k=7, threshold=0.25, size_by_norm=True, density=True, compare="pca")
    other = State(library.open_runs(paths))
    assert other.restore(state.address()) == []
    assert (other.top_k, other.threshold, other.size_by_norm, other.density, other.compare) == (
        7,
        0.25,
        True,
        True,
        "pca",
    )
    assert other.restore("?top_k=0&threshold=nan2&threshold=2&compare=nosuch") == ["compare", "top_k", "threshold"]


def opened(paths, address):
    """A state and its head view, with a window."""
    state = State(library.open_runs(paths))
    state.restore(address)
    shown = OneHead(state)
    shown._wires.window = HERE
    shown._draw(HERE)
    return state, shown


def drawn(shown, geometry, *, shift=False):
    shown._begin(PanStart(None, modifiers={"shift": shift, "ctrl": False, "alt": False}))
    shown._outline(SelectionGeometry(None, geometry=geometry, final=False))
    shown._outline(SelectionGeometry(None, geometry=geometry, final=True))


def box(x0, x1, y0, y1):
    return {"type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1}


def test_a_drawn_box_selects_the_shown_points_and_shift_adds(paths):
    state, shown = opened(paths, "?run=text&map=pca&view=head&layer=1&head=2&hide_special=true")
    placed = library.wall(state.directory, "pca").points[6]
    special = np.tile(state.directory.tokens["is_special"].to_numpy(), 2)
    left, right = ((placed[:, 0] < 0) & ~special, (placed[:, 0] >= 0) & ~special)
    drawn(shown, box(-1, -1e-9, -1, 1))
    np.testing.assert_array_equal(state.selected, np.flatnonzero(left))
    assert state.selection == 1
    drawn(shown, {"type": "poly", "x": [0, 1, 1, 0], "y": [-1, -1, 1, 1]}, shift=True)
    np.testing.assert_array_equal(state.selected, np.flatnonzero(left | right))
    drawn(shown, box(0, 1, -1, 1))
    np.testing.assert_array_equal(state.selected, np.flatnonzero(right))
    assert "selected." in shown.summary()


def test_escape_clears_the_selection_before_it_leaves_the_head(paths):
    explorer = Explorer(paths)
    explorer.state.param.update(view="head")
    explorer.state.choose(np.array([3]))
    assert not explorer._clear.idle
    explorer._press("Escape")
    assert explorer._clear.idle
    assert (len(explorer.state.selected), explorer.state.view) == (0, "head")
    explorer._press("Escape")
    assert explorer.state.view == "all"


def test_the_selected_stand_out_in_the_head_and_on_the_wall(paths):
    state, shown = opened(paths, "?run=text&map=pca&view=head&layer=1&head=2")
    state.choose(np.array([3, 4]))
    colors = np.array(shown._figure.dots.data_source.data["color"])
    assert (colors == "#9e9e9e").sum() == len(colors) - 2
    state.view = "all"
    wall = AllHeads(state)
    assert len(wall._scene.layers(1.0)) == 2
    state.clear()
    assert len(wall._scene.layers(1.0)) == 1


def test_lines_follow_their_number_and_their_least_weight(paths):
    state, shown = opened(paths, "?run=text&map=pca&view=head&layer=1&head=2&threshold=0")
    state.choose(np.array([3, 4]))
    run = state.directory
    length = len(run.attention(1, 2, 0).weights)
    assert len(shown._figure.lines.data["x0"]) == 2 * min(length, 20)
    state.top_k = 2
    assert len(shown._figure.lines.data["x0"]) == 4
    assert set(shown._figure.lines.data["x0"]) == set(shown._placed[[3, 4], 0])
    state.threshold = 0.99
    strong = (np.stack([run.attention(1, 2, 0).weights[i] for i in (3, 4)]) >= 0.99).sum()
    assert len(shown._figure.lines.data["x0"]) == strong


def test_size_says_norm_and_density_takes_the_place_of_marks(paths):
    state, shown = opened(paths, "?run=text&map=pca&view=head&layer=1&head=2")
    dots = shown._figure.dots.data_source
    usual = np.unique(dots.data["size"])
    assert len(usual) == 2  # circles and diamonds
    state.size_by_norm = True
    run = state.directory
    queries = np.array(dots.data["marker"]) == "circle"
    assert np.corrcoef(np.array(dots.data["size"])[queries], np.sqrt(run.norms(1, 2)[: run.num_tokens]))[0, 1] > 0.95
    state.density = True
    assert len(dots.data["x"]) == 0
    assert len(shown._figure.image.data_source.data["image"]) == 1
    assert "drawn as density" in shown.summary()


def test_density_is_highest_where_points_are_and_clear_where_none_are():
    places = np.concatenate([np.tile([[0.3, 0.3]], (50, 1)), [[-0.3, -0.3]], [[np.nan, np.nan]]]).astype(np.float32)
    image = draw_density(places, HERE, LIGHT).view(np.uint8).reshape(300, 300, 4)
    assert image[10, 290, 3] == 0
    assert image[75, 75, 3] > 0
    assert image[225, 225, 3] == 255
    assert image[225, 225, 0] > image[75, 75, 0]  # Viridis ends in yellow
    assert not draw_density(places[-1:], HERE, LIGHT).any()


@pytest.mark.parametrize("number", [0, 2])
def test_files_hold_the_rows_that_attnviz_export_writes(paths, tmp_path, number):
    state = State(library.open_runs([paths[number]]))
    run = state.directory
    layer = next(reversed(run.layers))
    state.param.update(map="pca", view="head", layer=layer, head=1)
    chosen = np.sort(np.concatenate([run.points(layer).query[4:7], run.points(layer).key[2:9:3] + run.num_tokens]))
    panel = SelectionPanel(state)
    state.choose(chosen)
    path, _ = export(run, "parquet", out=tmp_path / "all.parquet", map_name="pca", layers=[layer], heads=[1])
    whole = pd.read_parquet(path)
    number_of = whole["token"] + (whole["kind"] == "key") * run.num_tokens
    expected = whole[number_of.isin(chosen)].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(panel._write("parquet")), expected)
    text = pd.read_csv(panel._write("csv"), keep_default_na=False)
    assert (list(text), len(text)) == (list(expected), len(chosen))
    assert panel._files[0].filename.endswith(f"-pca-{layer}-1.csv")


def test_the_panel_says_counts_values_and_points_of_the_table(state):
    run = state.directory
    panel = SelectionPanel(state)
    assert not panel._box.visible
    state.param.update(map="pca", view="head", layer=1, head=2)
    state.choose(np.array([3, 4, run.num_tokens + 3]))
    assert panel._box.visible
    assert "3 points selected" in panel._counts.object
    assert "2 queries · 1 keys" in panel._counts.object
    assert panel._table.value["c1"].tolist() == ["query", "query", "key"]
    first = panel._traits["Positions"].items[0]
    assert (first["name"], first["number"]) == ("3", "66.7 %")
    panel._pick(SimpleNamespace(row=2))
    assert (state.token, state.kind) == (3, "key")


def test_a_head_without_some_of_the_selected_says_so(paths):
    state = State(library.open_runs([paths[2]]))
    run = state.directory
    panel = SelectionPanel(state)
    state.param.update(map="pca", view="head", layer=0)
    state.choose(np.concatenate([run.points(0).query[:3], run.points(2).query[:2]]).astype(np.int64))
    assert "3 points selected" in panel._counts.object
    assert "2 more are not in this head" in panel._counts.object
    assert isinstance(panel._write("csv"), io.BytesIO)
