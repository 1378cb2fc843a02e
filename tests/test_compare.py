"""Two maps of one head side by side: they light and mark the same points."""

import numpy as np
import pytest

from tests.fakes import write_fake_run

pytest.importorskip("panel")

from attnviz.explorer import State, library
from attnviz.explorer.head import OneHead
from attnviz.plots.raster import Window

HERE = Window(-0.6, 0.6, -0.6, 0.6, 400, 400)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_fake_run(tmp_path_factory.mktemp("compare") / "text", layers=2, maps=("umap", "pca", "umap_3d"))


@pytest.fixture
def opened(path):
    """A state and its head view, with two maps that have a window."""
    state = State(library.open_runs([path]))
    state.restore("?run=text&map=umap&compare=umap_3d&view=head&layer=1&head=2")
    shown = OneHead(state)
    for one in (shown, shown._second):
        one._wires.window = HERE
        one._draw(HERE)
    return state, shown


def test_the_second_map_appears_when_it_is_chosen_and_goes_again(opened):
    state, shown = opened
    assert shown._maps[1].visible
    assert shown._pair.css_classes == ["pair", "two"]
    assert "umap_3d" in shown._names[1].object
    assert "Beside it: map umap_3d." in shown.summary()
    state.compare = ""
    assert not shown._maps[1].visible
    assert "Beside" not in shown.summary()
    assert "compare" not in state.address()


def test_both_maps_hold_the_same_head_each_where_its_map_puts_it(opened):
    state, shown = opened
    first, second = (library.wall(state.directory, name).points[6] for name in ("umap", "umap_3d"))
    np.testing.assert_array_equal(shown._placed, first)
    assert second.shape[1] == 3
    assert shown._second._placed.shape == first.shape
    state.compare = "pca"
    np.testing.assert_array_equal(shown._second._placed, library.wall(state.directory, "pca").points[6])
    state.head = 1
    np.testing.assert_array_equal(shown._second._placed, library.wall(state.directory, "pca").points[5])


def test_what_the_pointer_is_on_lights_up_in_both(opened):
    state, shown = opened
    state.compare = "pca"
    second = shown._second
    row = shown._nearest(*shown._placed[7])
    shown._point(*shown._placed[7])
    for one in (shown, second):
        np.testing.assert_allclose([one._figure.lit.data[axis][0] for axis in "xy"], one._placed[row])
    assert len(shown._figure.tip.data["text"]) == 1
    assert len(second._figure.tip.data["text"]) == 0
    shown._leave()
    assert [len(one._figure.lit.data["x"]) for one in (shown, second)] == [0, 0]
    second._point(*second._placed[3])
    other = second._nearest(*second._placed[3])
    np.testing.assert_allclose([shown._figure.lit.data[axis][0] for axis in "xy"], shown._placed[other])


def test_a_selection_and_a_chosen_token_are_marked_in_both(opened):
    state, shown = opened
    state.choose(np.array([3, 4]))
    state.select(9, "key")
    for one in (shown, shown._second):
        assert one._scene.chosen.nonzero()[0].tolist() == [3, 4]
        assert len(one._figure.sequence.data_source.data["x"]) > 0
        assert len(one._figure.lines.data["x0"]) > 0
    assert shown._figure.lines.data["x0"][0] != shown._second._figure.lines.data["x0"][0]
    shown._second._outline(
        type("Drawn", (), {"final": True, "geometry": {"type": "rect", "x0": -1, "x1": 1, "y0": -1, "y1": 1}})
    )
    assert len(state.selected) == 2 * state.directory.num_tokens
