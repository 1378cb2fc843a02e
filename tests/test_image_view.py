"""The image view: heats, arrows, marks and grids are the run's own attention, and what cannot be shown is said."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from bokeh.events import Tap

from attnviz.errors import DatasetError
from attnviz.plots.image import arrow_data, cell_boxes, columns_for, mark_boxes, mark_data, ring_data, spots
from attnviz.plots.picture import grey_pixels, heat_pixels, small_pixels
from attnviz.plots.theme import LIGHT
from attnviz.store import RunDirectory, layout
from attnviz.views import pair_numbers
from attnviz.views.image_flows import (
    flows_above,
    grid_heats,
    has_images,
    heat_of,
    image_marks,
    image_sequences,
    read_image,
    strongest_flows,
)
from tests.fakes import write_fake_run, write_fake_streams

pytest.importorskip("panel")

from attnviz.explorer import Explorer, State, library
from attnviz.explorer.image_grid import sequences_to_show
from attnviz.explorer.image_view import ImageView
from attnviz.explorer.scene import make_scene
from attnviz.explorer.thumbnails import thumbnails
from attnviz.plots.raster import Window

PLACE = (1, 3)  # layer and head
SEQUENCE = 7  # in the second shard
CLS = 0
WINDOW = Window(-2, 6, -6, 2, 900, 900)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    made = {"picture": write_fake_run(folder / "picture", image=True), "text": write_fake_run(folder / "text")}
    return made | {kind: write_fake_streams(folder / kind, kind, sink=True) for kind in ("stages", "mixed")}


@pytest.fixture(scope="module")
def runs(paths):
    return {name: RunDirectory(path) for name, path in paths.items()}


@pytest.fixture(scope="module")
def run(runs):
    return runs["picture"]


@pytest.fixture
def state(paths):
    return State(library.open_runs(paths.values()))


@pytest.fixture
def view(state):
    """The view of an image run, as if a browser had asked."""
    state.param.update(run="picture", view="image", layer=PLACE[0], head=PLACE[1], sequence=SEQUENCE)
    return ImageView(state)


def weights_of(run, sequence=SEQUENCE, place=PLACE):
    return run.attention(*place, sequence).weights


def figure_of(view):
    return view._canvas._figure


def moved(view, x, y):
    view._canvas.wires.window = WINDOW
    view._canvas._point(x, y)
    return figure_of(view).tip.data["text"]


# arrays


@pytest.mark.parametrize("kind", ["query", "key"])
def test_a_heat_is_a_row_or_a_column_of_the_weights(run, kind):
    weights, image = weights_of(run), read_image(run, *PLACE, SEQUENCE)
    token = run.token_slice(SEQUENCE).start + 6  # patch 1, 1
    heat = heat_of(image, kind, token)
    own = weights[6] if kind == "query" else weights[:, 6]
    np.testing.assert_array_equal(heat.grid, own[1:].reshape(4, 4))
    assert (heat.source, heat.averaged) == (token, 1)
    assert heat.beside == pytest.approx(own[CLS])
    assert heat.own == pytest.approx(weights[6, 6])
    assert heat.on_patches == pytest.approx(own[1:].sum(), abs=1e-6)
    assert heat.sink == pytest.approx(0, abs=1e-6)


def test_without_a_token_the_heat_is_of_the_class_token_or_the_mean(run, runs):
    heat = heat_of(read_image(run, *PLACE, SEQUENCE), "query")
    assert heat.source == run.token_slice(SEQUENCE).start
    np.testing.assert_array_equal(heat.grid, weights_of(run)[CLS, 1:].reshape(4, 4))
    stages = runs["stages"]
    mean = heat_of(read_image(stages, 3, 0, 2), "query")
    weights = stages.attention(3, 0, 2).weights
    assert (mean.source, mean.averaged) == (None, 4)
    np.testing.assert_allclose(mean.grid, weights.mean(axis=0).reshape(2, 2), rtol=1e-6)
    assert mean.sink == pytest.approx(1 - weights.sum(axis=1).mean(), abs=1e-6)
    assert mean.sink > 0.01
    words = heat_of(read_image(runs["mixed"], 1, 0, 2), "query")
    assert words.source is None  # a special token of a text is no class token of the image


@pytest.mark.parametrize("kind", ["query", "key"])
def test_every_patch_has_an_arrow_to_its_strongest_partner(run, kind):
    weights, image = weights_of(run), read_image(run, *PLACE, SEQUENCE)
    flows = strongest_flows(image, kind)
    ends = dict(zip(*((flows.query, flows.key) if kind == "query" else (flows.key, flows.query)), strict=True))
    best = weights.argmax(axis=1) if kind == "query" else weights.argmax(axis=0)
    assert ends == {patch: best[patch] for patch in range(1, 17)}
    np.testing.assert_array_equal(flows.weight, weights[flows.query, flows.key])
    with_class = strongest_flows(image, kind, token=run.token_slice(SEQUENCE).start)
    assert len(with_class.weight) == 17


def test_flows_are_all_weights_from_the_threshold_on_and_the_rest_is_counted(run):
    weights, image = weights_of(run), read_image(run, *PLACE, SEQUENCE)
    for least in (0.0, 0.1, float(weights.max()), 1.0):
        flows = flows_above(image, least)
        kept = weights[weights >= max(least, 1e-9)]
        assert len(flows.weight) == flows.above == len(kept)
        np.testing.assert_allclose(np.sort(flows.weight), np.sort(kept))
        assert flows.left_out == pytest.approx(1 - kept.sum() / weights.sum(), abs=1e-6)
    few = flows_above(image, 0.01, most=5)
    np.testing.assert_allclose(few.weight, np.sort(weights.ravel())[-5:])
    assert few.above > 5
    assert few.left_out == pytest.approx(1 - few.weight.sum() / weights.sum(), abs=1e-6)


def test_arrows_end_at_class_tokens_and_what_attends_to_itself_has_a_ring(run):
    image = read_image(run, *PLACE, SEQUENCE)
    marks, missing = image_marks(image, 14)
    assert (marks.tolist(), missing) == ([run.token_slice(SEQUENCE).start], 0)
    flows = flows_above(image, 0.02)
    placed = spots(image, marks, (4, 4))
    arrows, rings = arrow_data(flows, placed), ring_data(flows, placed)
    assert len(arrows["weight"]) + len(rings["weight"]) == len(flows.weight)
    assert (rings["query"] == rings["key"]).all()
    assert len(rings["x"]) == np.count_nonzero(np.diag(weights_of(run)) >= 0.02) > 0
    box = mark_boxes(1, (4, 4))[0]
    to_class = np.flatnonzero(arrows["key"] == CLS)
    assert len(to_class)
    inside = np.hypot(arrows["x1"][to_class] - box[0], arrows["y1"][to_class] - box[1]) < box[2]
    assert inside.all()
    patch = np.flatnonzero((arrows["query"] != CLS) & (arrows["key"] != CLS))
    row, column = np.divmod(arrows["key"][patch] - 1, 4)  # it ends in the patch it leads to
    assert (np.floor(arrows["x1"][patch]) == column).all()
    assert (np.floor(-arrows["y1"][patch]) == row).all()
    assert (np.argsort(arrows["width"]) == np.argsort(arrows["weight"])).all()


def test_stages_and_words_have_their_places(runs):
    stages = read_image(runs["stages"], 2, 0, 1)
    assert stages.grid("query") == stages.grid("key") == (2, 2)
    placed = spots(stages, np.empty(0, np.int64), (4, 4))  # on a picture in units of a finer grid
    assert placed["query"][3].tolist() == [3, -3, 2, 2]
    run = runs["mixed"]
    mixed = read_image(run, 1, 0, 1)
    beside = np.flatnonzero(run.tokens["patch_row"].isna().to_numpy()[run.points(1).query])
    words = mixed.exchange.tokens("query")[~mixed.patches("query")]
    assert set(words) <= set(run.points(1).query[beside].tolist())
    marks, missing = image_marks(mixed, 2)
    assert (len(marks), missing) == (2, len(words) - 2)
    undrawn = spots(mixed, marks, (2, 2))["query"]
    assert np.isnan(undrawn[:, 0]).sum() == missing
    kept, _ = image_marks(mixed, 1, token=int(words[-1]))
    assert kept.tolist() == [words[-1]]


def test_the_grid_is_each_image_s_own_attention(run, runs):
    chosen = [11, 0, 7, 3]
    for kind in ("query", "key"):
        for place, heat in zip(chosen, grid_heats(run, *PLACE, chosen, kind), strict=True):
            weights = weights_of(run, place)
            own = weights[CLS] if kind == "query" else weights[:, CLS]
            assert (heat.sequence, heat.source) == (place, run.token_slice(place).start)
            np.testing.assert_allclose(heat.grid, own[1:].reshape(4, 4), atol=1e-7)
    like = run.token_slice(2).start + 9
    for place, heat in zip(chosen, grid_heats(run, *PLACE, chosen, "query", like=like), strict=True):
        assert heat.source == run.token_slice(place).start + 9
        np.testing.assert_allclose(heat.grid, weights_of(run, place)[9, 1:].reshape(4, 4), atol=1e-7)
    late = int(
        runs["mixed"]
        .points(1)
        .query[runs["mixed"].tokens["position"].to_numpy()[runs["mixed"].points(1).query].argmax()]
    )
    texts = runs["mixed"].tokens["text"].iloc
    for heat in grid_heats(runs["mixed"], 1, 0, range(12), "query", like=late):
        assert heat.grid is None if heat.source is None else texts[heat.source] == texts[late]


def test_which_runs_and_sequences_have_images(runs):
    assert [has_images(runs[name]) for name in ("picture", "stages", "mixed", "text")] == [True, True, True, False]
    assert image_sequences(runs["picture"]).tolist() == list(range(12))
    assert image_sequences(runs["text"]).tolist() == []


# pictures


def test_a_heat_is_clear_where_no_weight_is_and_covers_where_most_is():
    pixels = heat_pixels(np.array([[0.0, 0.25, 1.0]], np.float32))
    assert pixels[0, 0, 3] == 0
    assert 0 < pixels[0, 1, 3] < pixels[0, 2, 3] < 255
    assert heat_pixels(np.array([[0.25]], np.float32), 1.0)[0, 0].tolist() == pixels[0, 1].tolist()
    grey = grey_pixels(np.array([[[255, 0, 0, 255], [0, 0, 0, 0]]], np.uint8))
    assert len(set(grey[0, 0, :3].tolist())) == 1
    assert grey[0, 1, 3] == 0
    assert small_pixels(np.zeros((40, 80, 4), np.uint8), 20).shape == (10, 20, 4)


@pytest.mark.parametrize("color", ["kind", "data:label"])
def test_patches_on_the_map_have_an_outline_in_their_points_colour(state, run, color):
    state.param.update(run="picture", color=color)
    scene, rows = make_scene(state, (PLACE,), "pca"), np.array([1, 20, 1 + run.num_tokens])
    made = thumbnails(run, rows, np.zeros((2 * run.num_tokens, 2)), WINDOW, LIGHT, scene.colors(rows))
    outlines = [image.view(np.uint8).reshape(*image.shape, 4)[0, 0, :3] / 255 for image in made["image"]]
    np.testing.assert_allclose(outlines, scene.colors(rows), atol=0.005)
    assert len({tuple(outline) for outline in outlines}) == (2 if color == "kind" else 3)


def test_cells_keep_proportions_and_fill_the_canvas():
    boxes = cell_boxes([(4, 4), (2, 4), (4, 4)], 2)
    assert boxes[1, 2] == pytest.approx(2 * boxes[1, 3])
    assert boxes[2, 0] == boxes[0, 0]
    assert boxes[2, 1] < boxes[0, 1]
    assert columns_for(24, 1200, 600) > columns_for(24, 360, 600) > 1


def test_marks_say_their_weight_and_none_where_they_are_no_partner():
    made = mark_data(mark_boxes(2, (4, 4)), ["[CLS]", "word"], np.array([0.25, np.nan]), LIGHT, top=0.5, opacity=1.0)
    assert made["text"] == ["[CLS]\n25.0 %", "word"]
    assert made["color"][0] != made["color"][1] == LIGHT.page


# the view


def test_only_runs_with_images_offer_the_view(state):
    assert state.run == "picture"
    assert "image" in state.param.view.objects
    assert state.restore("?run=text&view=image&layer=1&image_show=flows") == ["view"]
    assert (state.view, state.layer, state.image_show) == ("all", 1, "flows")
    assert "image" not in state.param.view.objects
    assert state.restore("?run=stages&view=image&image_least=0.25&image_count=48&image_page=2") == []
    assert (state.view, state.image_least, state.image_page) == ("image", 0.25, 2)
    assert "image_least=0.25" in state.address()
    state.run = "text"
    assert (state.view, state.image_page) == ("all", 0)


def test_a_heat_and_its_numbers_are_drawn(view, state, run):
    weights = weights_of(run)
    assert f"Query [CLS] gives {weights[CLS, 1:].sum() * 100:.1f} % to patches" in view.summary()
    assert f"{weights[CLS, CLS] * 100:.1f} % to itself" in view.summary()
    assert "No token is chosen" in view.summary()
    assert "sequence 7, label label 1" in view.summary()
    pixels = figure_of(view).heat.data_source.data["image"][0].view(np.uint8).reshape(4, 4, 4)
    np.testing.assert_array_equal(pixels[::-1], heat_pixels(weights[CLS, 1:].reshape(4, 4)))
    first = run.token_slice(SEQUENCE).start
    lines = moved(view, 2.5, -1.5)[0].split("\n")
    assert lines[:2] == ["patch 1, 2 · key", f"weight {weights[CLS, 7] * 100:.2f} %"]
    assert lines[2] == f"q·k {pair_numbers(run, *PLACE, first, first + 7).dot:.4f}"
    assert moved(view, 9, -1.5) == []


@pytest.mark.parametrize("kind", ["query", "key"])
def test_a_click_chooses_a_patch_or_a_mark(view, state, run, kind):
    state.kind = kind
    view._redraw()
    first = run.token_slice(SEQUENCE).start
    figure_of(view).plot._trigger_event(Tap(figure_of(view).plot, x=3.5, y=-0.5))
    assert (state.token, state.kind) == (first + 4, kind)
    view._redraw()
    assert figure_of(view).frame.data == {"x": [3.5], "y": [-0.5], "width": [1.0], "height": [1.0]}
    assert f"{kind.capitalize()} patch 0, 3 {'gives' if kind == 'query' else 'gets'}" in view.summary()
    x, y, _, _ = mark_boxes(1, (4, 4))[0]
    view._canvas._tap(x, y)
    assert (state.token, state.kind) == (first, kind)
    view._canvas._tap(x, y - 3)  # below the mark
    view._canvas._tap(7, -1)
    assert state.token == first


def test_arrows_say_how_many_there_are_and_what_is_left_out(view, state, run):
    weights = weights_of(run)
    state.param.update(image_show="flows", image_least=0.15)
    view._redraw()
    data, rings = figure_of(view).arrows.data, figure_of(view).rings.data
    np.testing.assert_array_equal(data["weight"], weights[data["query"], data["key"]])
    kept = weights[weights >= 0.15]
    assert len(data["weight"]) + len(rings["weight"]) == len(kept)
    assert f"{len(data['weight'])} arrows" in view.summary()
    assert "of at least 15 %" in view.summary()
    assert f"not drawn: {(1 - kept.sum() / weights.sum()) * 100:.1f} %" in view.summary()
    assert figure_of(view).heat.data_source.data["image"] == []
    token = run.token_slice(SEQUENCE).start + 5
    state.param.update(image_show="strongest", token=token)
    view._redraw()
    assert "from each patch to its strongest key" in view.summary()
    data, rings = figure_of(view).arrows.data, figure_of(view).rings.data
    assert len(data["weight"]) + len(rings["weight"]) == 16
    clear = np.concatenate([source["query"][source["alpha"] > 0.3] for source in (data, rings)])
    assert clear.tolist() == [5]
    assert "Of the chosen token: 1; the others are faint." in view.summary()
    said = moved(view, 0.5, -1.5)[0].split("\n")
    assert said == ["patch 1, 0 · query", f"→ {name_of(weights[5].argmax())} {weights[5].max() * 100:.1f} %"]


def name_of(place):
    return "[CLS]" if place == CLS else "patch {}, {}".format(*divmod(int(place) - 1, 4))


def test_a_sink_is_said_and_a_stage_has_its_grid(view, state, runs):
    run = runs["stages"]
    state.run = "stages"
    state.param.update(layer=3, head=0, sequence=1)
    view._redraw()
    weights = run.attention(3, 0, 1).weights
    assert f"{(1 - weights.sum(axis=1).mean()) * 100:.1f} % to no token (sink)" in view.summary()
    assert figure_of(view).heat.data_source.data["dw"] == [2]
    view._canvas._tap(1.5, -0.5)
    assert state.token == run.points(3).within(*span(run, 1)).query[1]
    state.param.update(image_show="flows", image_least=0.0)
    view._redraw()
    assert f"Queries give {(1 - weights.sum() / 4) * 100:.1f} % to no token" in view.summary()
    state.param.update(layer=0, image_show="heat")
    view._redraw()
    assert "has no point here" in view.summary()


def span(run, sequence):
    rows = run.token_slice(sequence)
    return rows.start, rows.stop


def test_words_stand_beside_the_picture(view, state, runs):
    run = runs["mixed"]
    state.run = "mixed"
    state.param.update(layer=1, head=0, sequence=1)
    view._redraw()
    rows = run.tokens.iloc[run.token_slice(1)]
    words = rows[(rows["stream"] == "language") & (rows["modality"] == "text")]
    shown = [text.split("\n")[0] for text in figure_of(view).marks.data["text"]]
    assert shown == words["text"].tolist()
    assert "The mean of" in view.summary()
    view._canvas._tap(*mark_boxes(len(words), (2, 2))[0][:2])
    assert state.token == words.index[0]


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_a_lost_picture_is_said_and_the_numbers_stay(tmp_path, harm):
    path = write_fake_run(tmp_path / "lost", image=True)
    file = path / layout.IMAGES_FILE
    if harm == "missing":
        file.unlink()
    else:
        rows = pq.read_table(file, partitioning=None).to_pylist()
        rows = [row | {"image": {"bytes": b"no picture", "path": None}} for row in rows]
        pq.write_table(pq.read_table(file, partitioning=None).from_pylist(rows), file, row_group_size=5)
    explorer = Explorer([path])
    token = 20
    for view in ("image", "head"):
        assert explorer.state.restore(f"?view={view}&map=pca&token={token}") == []
        shown = explorer._views[view]
        (shown._canvas.wires if view == "image" else shown._wires).window = WINDOW
        if view == "head":
            shown._draw(Window(-9, 9, -9, 9, 900, 900))
            assert len(shown._figure.patches.data_source.data["image"]) > 0
            assert explorer._beside.objects[3].visible
        assert explorer.state.problem == ""
    explorer.state.param.update(view="image")
    assert "picture of this sequence is missing or damaged" in explorer._views["image"].summary()
    explorer.state.image_form = "grid"
    assert "Of 12 the picture is missing or damaged" in explorer._views["image"].summary()


def test_what_cannot_be_rebuilt_is_said_in_its_place(view, state, run, monkeypatch):
    def refuse(*arguments):
        raise DatasetError("keeps vectors from before RoPE")

    monkeypatch.setattr(run.__class__, "attention", refuse)
    for layer in state.directory.layers.values():
        object.__setattr__(layer, "rebuilt", False)
    try:
        for form in ("one", "grid"):
            state.image_form = form
            view._redraw()
            assert view._note.visible
            assert "before RoPE" in view._note.object
            assert view.summary() == ""
    finally:
        for layer in state.directory.layers.values():
            object.__setattr__(layer, "rebuilt", True)
    monkeypatch.undo()
    view._redraw()
    assert not view._note.visible


def test_a_sequence_without_an_image_is_said_and_steps_go_from_image_to_image(view, state, monkeypatch):
    monkeypatch.setattr("attnviz.explorer.image_view.images_of", lambda run: np.array([2, 5, 6]))
    state.sequence = 3
    view._redraw()
    assert "Sequence 3 has no image. The nearest one that has is sequence 2." in view._note.object
    for by, wanted in ((1, 5), (1, 6), (1, 6), (-1, 5), (-1, 2), (-1, 2)):
        view._step(by)
        assert state.sequence == wanted
    state.sequence = 0
    view._redraw()
    assert state.sequence == 2  # the first image


def test_the_grid_shows_pages_of_all_of_a_label_or_of_what_is_found(view, state, run):
    state.param.update(image_form="grid")
    view._redraw()
    assert "Images 1 to 12 of 12: what query [CLS] gives to each patch" in view.summary()
    figure = figure_of(view)
    assert len(figure.pictures.data_source.data["image"]) == len(figure.heats.data_source.data["image"]) == 12
    assert figure.names.data["text"][SEQUENCE] == f"{SEQUENCE} · label 1"
    state.image_of = "label"
    assert sequences_to_show(state).tolist() == [1, 4, 7, 10]
    state.image_of = "found"
    view._redraw()
    assert "search field" in view._note.object
    state.param.update(search="label 2", where="labels")
    assert sequences_to_show(state).tolist() == [2, 5, 8, 11]
    state.param.update(search="(", how="regex")
    view._redraw()
    assert "no regular expression" in view._note.object
    state.param.update(search="no such label", how="contains")
    view._redraw()
    assert "No image is found" in view._note.object


def test_a_click_in_the_grid_opens_an_image_with_the_like_token(view, state, run):
    state.param.update(image_form="grid", token=run.token_slice(2).start + 6)
    view._redraw()
    grid = view._canvas
    grid.wires.window = Window(0, 6, -5, 0, 900, 700)
    grid._arrange(grid.wires.window)
    assert grid._figure.names.data["text"][9] == "9 · label 0"
    grid._seen(Window(0, 30, -20, 5, 900, 700))
    assert set(grid._figure.names.data["text"]) == {""}  # no room for names
    x, y, wide, high = grid._boxes[9]
    grid._point(x + wide * 0.6, y + high * 0.9)
    weights = weights_of(run, 9)
    assert f"patch 0, 2: {weights[6, 3] * 100:.2f} %" in grid._figure.tip.data["text"][0]
    grid._tap(x + wide / 2, y + high / 2)
    assert (state.image_form, state.sequence, state.token) == ("one", 9, run.token_slice(9).start + 6)
    state.param.update(token=None, image_form="grid")
    view._redraw()
    grid._tap(*(grid._boxes[4][:2] + 0.1))
    assert (state.image_form, state.sequence, state.token) == ("one", 4, None)


def test_pages_turn_and_stay_within_the_run(view, state, monkeypatch):
    monkeypatch.setattr("attnviz.explorer.image_grid.images_of", lambda run: np.arange(12).repeat(3))
    state.param.update(image_form="grid", image_page=9)
    view._redraw()
    assert "Images 25 to 36 of 36" in view.summary()
    assert view._page.object == "Page 2 of 2"
    view._turn(1)
    assert state.image_page == 1
    view._turn(-1)
    assert state.image_page == 0


def test_the_heat_uncovers_the_picture(view, state, run):
    before = figure_of(view).picture.data_source.data["image"][0].copy()
    state.image_opacity = 40
    view._cover()
    assert figure_of(view).heat.glyph.global_alpha == 0.4
    state.image_opacity = 0
    view._cover()
    assert (figure_of(view).picture.data_source.data["image"][0] != before).any()  # the picture as it is, not grey


def test_stepping_heads_keeps_the_figure_and_its_window(view, state):
    view._canvas.wires.window = WINDOW
    plot = figure_of(view).plot
    state.param.update(head=1)
    view._redraw()
    assert figure_of(view).plot is plot
    state.theme = "dark"
    view._redraw()
    assert figure_of(view).plot is not plot


def test_arrow_keys_step_through_heads(paths):
    explorer = Explorer([paths["picture"]])
    explorer.state.restore("?view=image")
    assert explorer._heading()[0] == "Layer 0 · Head 0"
    assert explorer._moves.visible
    explorer._press("ArrowRight")
    assert explorer.state.head == 1
