"""The image view: its figure shows the run's own attention, and what cannot be shown is said."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from bokeh.events import Tap

from attnviz.errors import DatasetError
from attnviz.plots.image import mark_boxes
from attnviz.plots.picture import heat_pixels
from attnviz.plots.theme import LIGHT
from attnviz.store import layout
from attnviz.views import pair_numbers
from tests.fakes import write_fake_run
from tests.image_runs import CLS, PLACE, SEQUENCE, image_paths, image_run, image_runs, weights_of  # noqa: F401  # fixtures

pytest.importorskip("panel")

from attnviz.explorer import Explorer, State, library
from attnviz.explorer.image_grid import sequences_to_show
from attnviz.explorer.image_view import ImageView
from attnviz.explorer.scene import make_scene
from attnviz.explorer.thumbnails import thumbnails
from attnviz.plots.raster import Window

WINDOW = Window(-2, 6, -6, 2, 900, 900)


@pytest.fixture
def state(paths):
    return State(library.open_runs(paths.values()))


@pytest.fixture
def view(state):
    """The view of an image run, as if a browser had asked."""
    state.param.update(run="picture", view="image", layer=PLACE[0], head=PLACE[1], sequence=SEQUENCE)
    return ImageView(state)


def figure_of(view):
    return view._canvas._figure


def moved(view, x, y):
    view._canvas.wires.window = WINDOW
    view._canvas._point(x, y)
    return figure_of(view).tip.data["text"]


@pytest.mark.parametrize("color", ["kind", "data:label"])
def test_patches_on_the_map_have_an_outline_in_their_points_colour(state, run, color):
    state.param.update(run="picture", color=color)
    scene, rows = make_scene(state, (PLACE,), "pca"), np.array([1, 20, 1 + run.num_tokens])
    made = thumbnails(run, rows, np.zeros((2 * run.num_tokens, 2)), WINDOW, LIGHT, scene.colors(rows))
    outlines = [image.view(np.uint8).reshape(*image.shape, 4)[0, 0, :3] / 255 for image in made["image"]]
    np.testing.assert_allclose(outlines, scene.colors(rows), atol=0.005)
    assert len({tuple(outline) for outline in outlines}) == (2 if color == "kind" else 3)


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
