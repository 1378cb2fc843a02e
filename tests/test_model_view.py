"""The model view: thumbnails against the weights of every head, and what a session shows, names and opens."""

import json

import numpy as np
import pytest

from tests.fakes import write_fake_run, write_fake_streams

pytest.importorskip("panel")

from bokeh.models import LinearAxis

from attnviz.explorer import Explorer
from attnviz.plots.model import SIDE, draw_thumbnails, top_weight, weight_colors
from attnviz.plots.raster import Window
from attnviz.plots.theme import DARK, LIGHT
from attnviz.store import RunDirectory, layout
from attnviz.views import Wall, patch_weights
from attnviz.views import model_of_sequence as model
from attnviz.views.model_of_sequence import average_down, read_thumbnails, weights_of_query
from attnviz.views.wall import lay_tiles, prepare_wall

SEQUENCE = 3


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    made = {"text": write_fake_run(folder / "text"), "image": write_fake_run(folder / "image", image=True)}
    return made | {kind: write_fake_streams(folder / kind, kind, sink=True) for kind in ("pair", "stages", "mixed")}


@pytest.fixture(scope="module")
def runs(paths):
    return {name: RunDirectory(path) for name, path in paths.items()}


@pytest.mark.parametrize("name", ["text", "pair"])
def test_every_head_of_a_text_shows_its_own_matrix(runs, name):
    run = runs[name]
    found = read_thumbnails(run, SEQUENCE)
    assert list(found) == [(layer, head) for layer, info in run.layers.items() for head in range(info.num_heads)]
    for (layer, head), made in found.items():
        weights = run.attention(layer, head, SEQUENCE).weights
        np.testing.assert_allclose(made.values, weights, atol=1e-7)
        last = made.pair_at(0.999, 0.001)
        assert last == (made.points.query[0], made.points.key[-1])
        assert made.value_at(0.999, 0.001) == weights[0, -1]
        np.testing.assert_allclose(weights_of_query(run, layer, head, int(made.points.query[2])), weights[2], atol=1e-7)
        assert made.pair_at(1.0, 0.5) is None
    if name == "pair":
        assert found[5, 0].values.shape != found[2, 0].values.shape


def test_a_picture_shows_what_the_class_token_or_the_chosen_patch_gives(runs):
    run = runs["image"]
    first = run.token_slice(SEQUENCE).start
    places = run.tokens[["patch_row", "patch_col"]].fillna(-1).to_numpy(np.int16)[first : first + 17]
    for token, row in ((None, 0), (first + 6, 6), (0, 0)):
        made = read_thumbnails(run, SEQUENCE, token)[1, 2]
        weights = run.attention(1, 2, SEQUENCE).weights[row]
        np.testing.assert_allclose(made.values, patch_weights(weights, *places.T, grid=(4, 4)), atol=1e-7)
        assert made.query == first + row
        assert made.pair_at(0.3, 0.6) == (first + row, first + 1 + 4 * 2 + 1)


def test_without_a_class_token_a_picture_shows_the_mean_and_words_keep_their_matrix(runs):
    made = read_thumbnails(runs["stages"], SEQUENCE)
    mean = runs["stages"].attention(0, 1, SEQUENCE).weights.mean(axis=0).reshape(4, 4)
    np.testing.assert_allclose(made[0, 1].values, mean, atol=1e-7)
    assert made[0, 1].pair_at(0.0, 0.0)[0] is None
    assert made[2, 0].values.shape == (2, 2)
    mixed = read_thumbnails(runs["mixed"], SEQUENCE)
    assert mixed[0, 0].places is not None
    assert mixed[1, 0].values.shape == runs["mixed"].attention(1, 0, SEQUENCE).weights.shape


def test_long_sequences_are_averaged_down():
    values = np.random.default_rng(0).random((10, 7)).astype(np.float32)
    small = average_down(values, side=5)
    assert small.shape == (5, 5)
    np.testing.assert_allclose(small[0, 0], values[:2, :1].mean(), rtol=1e-6)
    np.testing.assert_allclose(small[4, 4], values[8:, 5:].mean(), rtol=1e-6)
    np.testing.assert_array_equal(average_down(values, side=10), values)
    np.testing.assert_allclose(average_down(values, side=1)[0, 0], values.mean(), rtol=1e-6)


def test_of_very_long_sequences_queries_are_sampled_and_that_is_said(runs, paths, monkeypatch):
    monkeypatch.setattr(model, "MOST_QUERIES", 3)
    made = read_thumbnails(runs["text"], SEQUENCE)[0, 1]
    weights = runs["text"].attention(0, 1, SEQUENCE).weights
    step = -(-len(weights) // 3)
    assert made.step == step > 1
    np.testing.assert_allclose(made.values, weights[::step], atol=1e-7)


def test_a_layer_that_cannot_be_rebuilt_has_no_thumbnail_and_says_so(tmp_path):
    path = write_fake_run(tmp_path / "before")
    manifest = json.loads((path / layout.MANIFEST_FILE).read_text())
    manifest["layers"][1]["rebuilt"] = False
    (path / layout.MANIFEST_FILE).write_text(json.dumps(manifest))
    assert {layer for layer, _ in read_thumbnails(RunDirectory(path), 0)} == {0}
    explorer = Explorer([path])
    shown = opened(explorer, view="model")
    shown._point(0.5, -1.5)
    assert "cannot be rebuilt" in shown._figure.tip.data["text"][0]


@pytest.mark.parametrize("name", ["text", "pair", "stages"])
def test_tiles_lie_as_on_the_wall_of_a_map(runs, name):
    assert lay_tiles(runs[name]) == prepare_wall(runs[name], "pca").tiles


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_raster_shows_each_weight_in_its_place(runs, theme):
    found = read_thumbnails(runs["text"], SEQUENCE)
    wall = Wall(lay_tiles(runs["text"]), np.empty((0, 0, 2), np.float32))
    values = {i: found[tile.layer, tile.head].values for i, tile in enumerate(wall.tiles)}
    window = Window(0, 4, -2, 0, 800, 400)
    top = top_weight(values)
    image = draw_thumbnails(values, wall, window=window, theme=theme, top=top)[::-1]  # first row on top
    assert image.shape == (400, 800)
    colors = weight_colors(theme).view(np.uint32)[:, 0]
    own = values[6]  # layer 1, head 2
    count = len(own)
    for row, column in ((0, 0), (count - 1, 0), (count - 1, count - 2)):
        x, y = (2.5 + SIDE * ((column + 0.5) / count - 0.5)) * 200, (1.5 + SIDE * ((row + 0.5) / count - 0.5)) * 200
        assert image[int(y), int(x)] == colors[int(np.sqrt(own[row, column] / top) * 255)]
    assert image[200, 200] == 0  # between tiles
    zoomed = draw_thumbnails(values, wall, window=Window(2.5, 2.6, -1.6, -1.5, 100, 100), theme=theme, top=top)
    assert (zoomed != 0).all()
    assert len(np.unique(zoomed)) <= 9


def opened(explorer, **state):
    words = "&".join(f"{name}={value}" for name, value in state.items())
    assert explorer.state.restore(f"?{words}") == []
    shown = explorer._views["model"]
    shown._wires.window = window = Window(0, 4, -2, 0, 400, 200)
    shown._draw(window)
    assert explorer.state.problem == ""
    return shown


def test_hover_names_head_pair_and_weight_and_a_click_opens_the_head(paths):
    explorer = Explorer(list(paths.values()))
    shown, run = opened(explorer, run="text", view="model", sequence=SEQUENCE), explorer.state.directory
    rows = run.token_slice(SEQUENCE)
    weights = run.attention(1, 2, SEQUENCE).weights
    count = len(weights)
    shown._point(2.5 + SIDE * (1.5 / count - 0.5), -1.5 - SIDE * (3.5 / count - 0.5))
    head, pair, weight = shown._figure.tip.data["text"][0].split("\n")
    query, key = run.tokens["text"].iloc[[rows.start + 3, rows.start + 1]]
    assert (head, pair) == ("Layer 1 · Head 2", f"{query} (3) → {key} (1)")
    assert weight == f"weight {weights[3, 1] * 100:.2f} %"
    assert shown._figure.frame.data == {"x": [2.5], "y": [-1.5]}
    shown._tap(2.5, -1.5)
    assert (explorer.state.view, explorer.state.layer, explorer.state.head) == ("head", 1, 2)


@pytest.mark.parametrize("name", ["text", "image", "pair", "stages", "mixed"])
def test_every_kind_of_run_is_one_image_and_a_sentence(paths, name):
    explorer = Explorer(list(paths.values()))
    shown = opened(explorer, run=name, view="model")
    assert len(shown._figure.image.data_source.data["image"]) == 1
    heads = sum(info.num_heads for info in explorer.state.directory.layers.values())
    assert shown.summary().startswith(f"{heads} heads over sequence 0")
    figure = shown._figure
    explorer.state.theme = "dark"
    assert shown._figure is not figure
    explorer.state.select(explorer.state.directory.token_slice(1).start + 2)
    assert "over sequence 1" in shown.summary()
    shown._wires.window = Window(0, 4, -2, 0, 400, 200)
    for tile in shown._wall.tiles:
        shown._point(*tile.center)
        assert f"Head {tile.head}" in shown._figure.tip.data["text"][0]


def test_some_layers_and_heads_are_shown_without_gaps(paths):
    explorer = Explorer(list(paths.values()))
    shown = opened(explorer, run="text", view="model", only_layers="1", only_heads="0,2-3")
    assert [(tile.layer, tile.head, *tile.center) for tile in shown._wall.shown] == [
        (1, head, column + 0.5, -0.5) for column, head in enumerate((0, 2, 3))
    ]
    assert shown.summary().startswith("3 of 8 heads")
    shown._point(1.5, -0.5)
    assert shown._figure.tip.data["text"][0].startswith("Layer 1 · Head 2")
    shown._tap(2.5, -0.5)
    assert (explorer.state.view, explorer.state.layer, explorer.state.head) == ("head", 1, 3)
    explorer.state.view = "all"
    wall = explorer._views["all"]
    assert [(tile.layer, tile.head) for tile in wall._wall.shown] == [(1, 0), (1, 2), (1, 3)]
    assert wall.summary().startswith("3 of 8 heads")
    labels = [axis.major_label_overrides for axis in wall._figure.plot.select({"type": LinearAxis})]
    assert {-0.5: "1"} in labels
    assert {0.5: "0", 1.5: "2", 2.5: "3"} in labels
    explorer.state.order = "map:attention_recall"
    assert len(wall._wall.shown) == 3
    explorer.state.param.update(only_layers="9")
    assert "name none of this run" in explorer.state.problem
    explorer.state.param.update(only_layers="")
    assert explorer.state.problem == ""
    assert len(wall._wall.shown) == 6


def test_layers_are_numbered_in_their_stack(paths):
    explorer = Explorer(list(paths.values()))
    shown = opened(explorer, run="pair", view="model", only_layers="1")
    assert [tile.layer for tile in shown._wall.shown] == [1, 1, 3, 3, 5, 5]
    assert sorted({tile.row for tile in shown._wall.shown}) == [0, 1, 2]


@pytest.mark.parametrize("view", ["model", "all"])
def test_keys_go_from_tile_to_tile_and_open_one(paths, view):
    explorer = Explorer(list(paths.values()))
    state = explorer.state
    state.restore(f"?run=text&map=pca&view={view}&only_heads=0,2-3")
    shown = explorer._views[view]
    assert not shown.press("ArrowDown")  # the figure is not on the page yet
    shown._wires.window = Window(0, 3, -2, 0, 300, 200)
    shown._draw(shown._wires.window)
    for key, name in (
        ("ArrowRight", "Layer 0 · Head 0"),
        ("ArrowRight", "Layer 0 · Head 2"),
        ("ArrowDown", "Layer 1 · Head 2"),
        ("ArrowDown", "Layer 1 · Head 2"),
        ("ArrowRight", "Layer 1 · Head 3"),
    ):
        explorer._press(key)
        assert name in shown._figure.tip.data["text"][0]
    assert shown._figure.frame.data["x"] == [2.5]
    explorer._press("Enter")
    assert (state.view, state.layer, state.head) == ("head", 1, 3)
    explorer._press("Enter")
    assert (state.view, state.problem) == ("head", "")
