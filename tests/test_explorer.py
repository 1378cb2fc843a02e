"""The explorer without a browser: state, address, what is shared, what is said when something is missing."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fakes import write_fake_run

pytest.importorskip("panel")

from attnviz.errors import DatasetError
from attnviz.explorer import Explorer, State, library, markup
from attnviz.explorer.scene import make_scene
from attnviz.plots.raster import Window
from attnviz.store import RunDirectory, layout

OF_A_MAP = ("all", "head")  # the views that show a map


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer")
    text = write_fake_run(folder / "text", layers=2)
    image = write_fake_run(folder / "image", image=True, layers=3)
    return [text, image, write_fake_run(folder / "bare", maps=())]


@pytest.fixture
def state(paths):
    return State(library.open_runs(paths))


def test_the_dashboard_needs_no_torch_and_no_model():
    code = "import sys, attnviz.explorer; print([m for m in ('torch', 'transformers', 'timm', 'umap') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_address_brings_the_same_state_back(state, paths):
    state.run = "image"
    state.param.update(map="umap_3d", color="patch_row", search="<&?=ü", kinds="key", azimuth=-70, theme="dark")
    state.open_head(2, 3)
    state.select(20, "key")
    other = State(library.open_runs(paths))
    assert other.restore(state.address()) == []
    for name in State.ADDRESS:
        assert getattr(other, name) == getattr(state, name), name


def test_an_address_of_before_brings_its_state_back_and_nothing_of_after(state):
    before = state.address()
    state.param.update(map="umap_3d", color="position", search="cat", azimuth=-70, theme="dark", view="neuron")
    state.select(20, "key")
    state.return_to(before)
    assert state.address() == before
    assert (state.token, state.color, state.search, state.view) == (None, "kind", "", "all")


def test_an_address_says_only_what_is_not_usual(state):
    assert state.address() == "?run=text&map=umap"


@pytest.mark.parametrize(
    "query",
    (
        "run=/etc/passwd run=../text map=nosuch layer=2 head=-1 head=1.5 token=999999 token=-1 kind=value view=admin "
        "case=maybe azimuth=4000 color=data:nosuch theme="
    ).split(),
)
def test_what_does_not_fit_is_left_out_and_the_rest_applied(state, query):
    assert state.restore(f"?{query}&search=cat") == [query.split("=")[0]]
    assert state.search == "cat"
    assert state.run == "text"


def test_a_value_too_long_for_an_address_is_refused_not_cut(state):
    assert state.restore("?search=" + "x" * 201) == ["search"]
    assert state.search == ""
    assert state.restore("?search=" + "x" * 200) == []


def test_a_run_without_maps_takes_no_map_from_the_address(state):
    assert state.restore("?run=bare&map=umap") == ["map"]
    assert state.map is None


def test_another_run_keeps_what_it_shares_and_drops_the_token(state):
    state.param.update(map="pca", color="position", token=3, layer=1, head=3)
    state.run = "image"
    assert (state.map, state.color, state.token, state.layer, state.head) == ("pca", "kind", None, 1, 3)


def test_stepping_stops_at_the_edge_and_keeps_the_token(state):
    state.param.update(layer=1, head=0, token=4)
    state.step(0, -1)
    state.step(1, 0)
    assert (state.layer, state.head, state.token) == (1, 0, 4)
    state.step(-1, 1)
    assert (state.layer, state.head) == (0, 1)


def test_runs_of_one_name_are_told_apart_and_none_is_an_error(paths):
    assert list(library.open_runs([paths[0], RunDirectory(paths[0])])) == ["text", "text (2)"]
    with pytest.raises(DatasetError, match="no run"):
        library.open_runs([])
    with pytest.raises(DatasetError):
        library.open_runs([paths[0] / "nowhere"])


def test_sessions_share_what_is_prepared(paths):
    first, second = (library.open_runs(paths)["text"] for _ in range(2))
    assert first is second
    assert library.wall(first, "pca") is library.wall(second, "pca")
    assert not library.wall(first, "pca").points.flags.writeable


@pytest.mark.parametrize("view", OF_A_MAP)
def test_another_map_changes_the_colours_of_what_it_keeps(paths, view):
    explorer = Explorer(paths)
    explorer.state.restore(f"?run=text&view={view}&map=umap&color=neighbors_kept")
    shown = explorer._views[view]
    before = shown._scene.coloring
    explorer.state.map = "pca"
    after = shown._scene.coloring
    assert after.title == "Neighbours kept"
    assert (before.codes != after.codes).any()
    explorer.state.map = "umap"
    assert shown._scene.coloring is before  # read once, shared by all sessions


@pytest.mark.parametrize("view", OF_A_MAP)
@pytest.mark.parametrize("run", ["text", "image"])
def test_every_view_draws_every_kind_of_run(paths, run, view):
    explorer = Explorer(paths)
    explorer.state.restore(f"?run={run}&view={view}&token=3")
    shown = explorer._views[view]
    window = Window(-0.6, 0.6, -0.6, 0.6, 300, 300)
    shown._wires.window = window
    shown._draw(window)
    assert "queries and" in shown.summary()
    explorer.state.search = "the"
    assert "matching the search" in shown.summary()
    assert explorer.state.problem == ""


@pytest.mark.parametrize("view", OF_A_MAP)
def test_tiles_turned_alike_are_what_every_view_points_at(paths, view):
    explorer = Explorer(paths)
    explorer.state.restore(f"?run=text&map=pca&view={view}&layer=1&head=2")
    shown, state = explorer._views[view], explorer.state
    plain, alike = (library.wall(state.directory, "pca", alike=alike) for alike in (False, True))
    number = alike.index(1, 2)
    shown._wires.window = Window(-1, 5, -3, 1, 300, 300)
    assert not state.alike
    for switch, wall in ((True, alike), (False, plain), (True, alike)):
        state.alike = switch
        placed = shown._placed[number] if view == "all" else shown._placed
        np.testing.assert_array_equal(placed, wall.points[number])
        assert ("alike=true" in state.address()) == switch
    centre = shown._centers[number] if view == "all" else np.zeros(2, np.float32)
    window = shown._wires.window = Window(-0.1, 0.1, -0.1, 0.1, 900, 900)  # 14 pixels are less than points lie apart
    shown._draw(window)
    place = alike.points[number, 7] + centre
    assert shown._nearest(*([number] if view == "all" else []), *place) == 7
    assert not np.allclose(alike.points[number], plain.points[number])


def test_a_session_follows_state_changes_from_view_to_view(paths):
    explorer = Explorer(paths)
    explorer._press("ArrowRight")  # in the wall, arrows do nothing
    assert (explorer.state.view, explorer.state.head) == ("all", 0)
    explorer.state.open_head(0, 1)
    explorer._press("ArrowRight")
    assert explorer.state.head == 2
    explorer.state.select(2)
    explorer._press("Escape")
    assert (explorer.state.token, explorer.state.view) == (None, "head")
    explorer._press("Escape")
    assert explorer.state.view == "all"


def test_a_run_without_maps_and_a_run_with_a_lost_file_say_so(paths, tmp_path):
    bare = Explorer([paths[2]])
    assert "no complete map yet" in bare._banner.object
    broken = write_fake_run(tmp_path / "broken")
    (broken / "maps/pca/layer=1/part-0.parquet").unlink()
    explorer = Explorer([broken])
    assert explorer.state.problem == ""
    explorer.state.map = "pca"
    assert "is missing from the run" in explorer._banner.object
    explorer.state.map = "umap"
    assert explorer.state.problem == ""


def test_a_damaged_map_file_is_a_sentence(tmp_path):
    path = write_fake_run(tmp_path / "damaged")
    (layout.map_dir(path, "pca") / layout.MAP_FILE).write_text("{")
    assert "cannot be read" in Explorer([path])._banner.object


def test_everything_from_a_run_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>"
    assert "<script" not in markup.heading(evil, evil) + markup.note(evil) + markup.chips([evil]) + markup.line(evil)
    path = write_fake_run(tmp_path / "evil")
    for name, column in ((layout.TOKENS_FILE, "text"), (layout.SEQUENCES_FILE, "label")):
        table = pq.read_table(path / name)
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, pa.array([evil] * len(table))), path / name)
    state = State(library.open_runs([path]))
    assert "<script" not in markup.facts(state.directory, 1, "query", 1.0)
    state.color = "data:label"
    legend = markup.legend(make_scene(state, ((0, 0),)))
    assert "&lt;script&gt;" in legend
    assert "<script" not in legend


def test_a_legend_counts_what_is_shown(state):
    run = state.directory
    state.param.update(hide_special=True, kinds="query")
    legend = markup.legend(make_scene(state, ((0, 0),)))
    words = run.num_tokens - 2 * run.num_sequences
    assert f"<em>{words:,}</em>" in legend
    assert "<em>0</em>" in legend
