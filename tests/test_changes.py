"""How much heads changed from one run to another: the numbers against plain sums, and the order that the explorer offers."""

import json
import shutil

import numpy as np
import pytest

import attnviz
from attnviz.errors import DatasetError
from attnviz.store import layout
from attnviz.store.terms import write_terms
from attnviz.types import Terms
from attnviz.views import changes, head_changes, what_differs
from attnviz.views.changes import total_variation
from tests.fakes import write_fake_run

pytest.importorskip("panel")

from attnviz.explorer import State, library
from attnviz.explorer.ordering import HeadOrder
from attnviz.explorer.wall import AllHeads


def tuned(path, to, *, name="tuned"):
    """Copy a run and let its last layer weigh otherwise, with a sink."""
    shutil.copytree(path, to)
    manifest = json.loads((to / layout.MANIFEST_FILE).read_text())
    manifest["name"] = name
    manifest["layers"][-1]["scaling"] *= 3
    write_terms(layout.terms_file(to, manifest["layers"][-1]["layer"]), Terms(sinks=np.array([0, 1, 2, 3], np.float32)))
    (to / layout.MANIFEST_FILE).write_text(json.dumps(manifest))
    return to


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changes")
    before = write_fake_run(folder / "before", layers=3, sequences=90)
    other = write_fake_run(folder / "other", layers=3, sequences=90, seed=5)
    return [before, tuned(before, folder / "after"), other, write_fake_run(folder / "bare", maps=())]


@pytest.fixture(scope="module")
def runs(paths):
    return [attnviz.open(path) for path in paths]


def by_hand(run, other, layer, head, sequences):
    rows = []
    for sequence in sequences:
        a, b = (opened.attention(layer, head, sequence).weights for opened in (run, other))
        sink = [1 - made.sum(axis=1, keepdims=True) for made in (a, b)]
        a, b = (np.concatenate([made, left], axis=1) for made, left in zip((a, b), sink, strict=True))
        rows += (np.abs(a - b).sum(axis=1) / 2).tolist()
    return np.mean(rows)


def test_a_head_s_number_is_the_mean_distance_of_its_rows(runs):
    made = runs[0].changes(runs[1])
    assert list(made.index) == [(layer, head) for layer in range(3) for head in range(4)]
    assert (made[:2] == 0).all()
    chosen = changes._sample(90, 0)
    assert len(chosen) == 64
    for head in range(4):
        assert made[2, head] == pytest.approx(by_hand(*runs[:2], 2, head, chosen.tolist()), abs=1e-5)
        assert 0.05 < made[2, head] < 1
    np.testing.assert_array_equal(made, head_changes(*runs[:2]))
    np.testing.assert_allclose(made, head_changes(*runs[1::-1]), atol=1e-6)


def test_distances_run_from_nothing_to_one():
    one = np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0, 0.4]], np.float32)
    other = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    np.testing.assert_allclose(total_variation(one, other), [0, 1, 0.6], atol=1e-7)


def test_of_long_sequences_some_queries_are_read(runs, monkeypatch):
    monkeypatch.setattr(changes, "QUERIES", 2)
    made = head_changes(*runs[:2])
    ends = []
    for sequence in changes._sample(90, 0).tolist():
        a, b = (opened.attention(2, 1, sequence).weights[[0, -1]] for opened in runs[:2])
        ends += total_variation(a, b).tolist()
    assert made[2, 1] == pytest.approx(np.mean(ends), abs=1e-5)


def test_runs_of_other_tokens_heads_or_pictures_are_refused(runs, tmp_path):
    with pytest.raises(DatasetError, match="different tokens"):
        runs[0].changes(runs[2])
    with pytest.raises(DatasetError, match="different layers"):
        runs[0].changes(runs[3])
    images = [attnviz.open(write_fake_run(tmp_path / f"image{seed}", image=True, seed=seed)) for seed in (0, 1)]
    assert "different pictures" in what_differs(*images)
    assert what_differs(images[0], images[0]) == ""


def test_the_order_is_offered_where_there_is_such_a_run_and_works_like_any_other(paths, runs):
    state = State(library.open_runs(paths))
    offered = {label: name for label, name in state.param.order.objects.items() if "hanged" in label}
    assert offered == {"Most changed from tuned": "changed:tuned"}
    assert list(state.param.order.names)[:3] == ["Layer and head", "Most faithful: attention recall", *offered]
    state.param.update(map="pca")
    wall, order = AllHeads(state), HeadOrder(state)
    state.order = "changed:tuned"
    expected = runs[0].changes(runs[1]).sort_values(ascending=False)
    shown = sorted((tile for tile in wall._wall.shown), key=lambda tile: (tile.row, tile.column))
    assert [(tile.layer, tile.head) for tile in shown[:4]] == list(expected.index[:4])
    first = wall._figure.titles.data_source.data["text"][wall._wall.index(*expected.index[0])]
    assert first.endswith(f"{expected.iloc[0]:.2f}")
    assert "highest changed from tuned first" in wall.summary()
    assert order._range.end == pytest.approx(expected.iloc[0])
    state.least = 0.01
    assert len(wall._wall.shown) == 4
    other = State(library.open_runs(paths))
    assert other.restore(state.address()) == []
    assert (other.order, other.least) == ("changed:tuned", 0.01)
    state.run = "other"
    assert (state.order, state.problem) == ("", "")
    assert not [label for label in state.param.order.names if "hanged" in label]
    assert State(library.open_runs(paths[:1])).restore("?order=changed:tuned") == ["order"]


def test_a_run_whose_tokens_are_gone_is_not_offered(paths, tmp_path):
    broken = shutil.copytree(paths[1], tmp_path / "broken")
    (broken / layout.TOKENS_FILE).unlink()
    state = State(library.open_runs([paths[0], broken]))
    assert not [label for label in state.param.order.names if "hanged" in label]
