"""The engine for GPUs, on tensors of the CPU: the same arithmetic."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch  # noqa: F401  # whose modules are patched
from scipy.sparse import csr_array

from attnviz.errors import DatasetError, MapError
from attnviz.maps import map_head, map_heads
from attnviz.maps import neighbors as nearest
from attnviz.maps.graph import fuzzy
from attnviz.maps.kernel import CAUCHY, Curve
from attnviz.maps.kernel import layout as kernel
from attnviz.maps.layers import map_layer, map_layers
from attnviz.maps.pca import initial
from attnviz.maps.torch import _groups, choose_device, idle_gpu, layout, neighbors
from attnviz.metrics import METRICS
from attnviz.types import MapSpec
from tests.contracts import clusters
from tests.map_work import Loader, work

CURVES = [CAUCHY, Curve(1.577, 0.895), Curve(0.6, 0.4)]


def laid_out(heads, curve=CAUCHY, *, dims=2, epochs=100):
    """Lay out clusters of these seeds."""
    vectors = [clusters(seed=head) for head in heads]
    starts = np.stack([initial(of.points, dims, spread=20, seed=0) for of in vectors])
    graphs = [fuzzy(nearest(of.points, 14)) for of in vectors]
    placed = layout(starts, graphs, curve, epochs=epochs, negatives=8, seeds=heads, device="cpu")
    return vectors, starts, graphs, placed


@pytest.mark.parametrize("k", [0, 1, 15, 300])
@pytest.mark.parametrize("case", ["plain", "far", "rounded", "few places", "one place", "two", "one", "huge", "tiny"])
def test_neighbours_are_those_of_the_cpu(case, k):
    rng = np.random.default_rng(0)
    points = {
        "plain": rng.normal(size=(3, 200, 8)),
        "far": rng.normal(size=(3, 200, 8)) + 3_000,
        "rounded": rng.normal(size=(3, 200, 2)).round(1),  # many equal distances
        "few places": np.repeat(rng.normal(size=(3, 5, 8)), 40, axis=1),
        "one place": np.ones((2, 60, 4)),
        "two": rng.normal(size=(1, 2, 3)),
        "one": rng.normal(size=(1, 1, 3)),
        "huge": rng.normal(size=(1, 60, 4)) * 1e30,
        "tiny": rng.normal(size=(1, 60, 4)) * 1e-30,
    }[case].astype(np.float32)
    for of_head, found in zip(points, neighbors(points, k, "cpu"), strict=True):
        wanted = nearest(of_head, k)
        assert found.indices.dtype == np.int32
        assert found.distances.dtype == np.float32
        assert found.distances.shape == wanted.distances.shape
        np.testing.assert_array_equal(found.distances, wanted.distances)
        if case != "rounded":  # where equal distances may differ in their last bit
            np.testing.assert_array_equal(found.indices, wanted.indices)


def test_neighbours_do_not_depend_on_how_rows_are_cut(monkeypatch):
    points = np.random.default_rng(0).normal(size=(2, 150, 6)).astype(np.float32)
    points[:, :60] = points[:, :1]
    plain = neighbors(points, 20, "cpu")
    monkeypatch.setattr("attnviz.maps.torch._BUDGET", 16 * 12 * 150 * 7)
    for found, wanted in zip(neighbors(points, 20, "cpu"), plain, strict=True):
        np.testing.assert_array_equal(found.indices, wanted.indices)


def test_neighbours_are_exact_where_products_round(monkeypatch):
    """Two far clusters, tight: |x|² + |y|² - 2xy loses what tells their points apart."""
    rng = np.random.default_rng(0)
    points = np.repeat([[30.0] * 8, [-30.0] * 8], 100, axis=0) + rng.normal(size=(200, 8)) * 1e-3
    found = neighbors(points[None].astype(np.float32), 15, "cpu")[0]
    np.testing.assert_allclose(found.distances, nearest(points, 15).distances, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("curve", CURVES)
def test_a_layout_keeps_clusters_together(curve, dims):
    vectors, _, _, placed = laid_out([0, 1], curve, dims=dims)
    assert placed.shape == (2, 120, dims)
    assert placed.dtype == np.float32
    for of_head, found in zip(vectors, placed, strict=True):
        assert METRICS["trustworthiness"](of_head, found) > 0.9


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("curve", CURVES[:2])
def test_a_layout_is_as_good_as_the_kernels(curve, dims):
    vectors, starts, graphs, placed = laid_out([0, 1, 2], curve, dims=dims)
    of_kernel = [
        kernel(start, graph, curve, epochs=100, negatives=8, seed=0)
        for start, graph in zip(starts, graphs, strict=True)
    ]
    for name, slack in (("trustworthiness", 0.02), ("attention_recall", 0.04)):
        score = METRICS[name]
        values = [[score(of, map_) for of, map_ in zip(vectors, maps, strict=True)] for maps in (placed, of_kernel)]
        assert np.mean(values[0]) > np.mean(values[1]) - slack, name


@pytest.mark.parametrize("curve", CURVES[:2])
def test_a_head_alone_has_the_bytes_that_it_has_among_others(curve, monkeypatch):
    *_, together = laid_out([3, 4, 5], curve, epochs=40)
    for number, head in enumerate([3, 4, 5]):
        assert laid_out([head], curve, epochs=40)[-1][0].tobytes() == together[number].tobytes()
    monkeypatch.setattr("attnviz.maps.torch._BUDGET", 1)
    assert laid_out([3, 4, 5], curve, epochs=40)[-1].tobytes() == together.tobytes()


def test_a_layout_leaves_its_arguments_alone_and_follows_its_seeds():
    _, starts, graphs, placed = laid_out([0, 1], epochs=30)
    before = starts.tobytes(), graphs[0].data.tobytes()
    other = layout(starts, graphs, CAUCHY, epochs=30, negatives=8, seeds=[0, 7], device="cpu")
    assert other[0].tobytes() == placed[0].tobytes()
    assert other[1].tobytes() != placed[1].tobytes()
    assert before == (starts.tobytes(), graphs[0].data.tobytes())


def test_a_hub_and_points_without_edges_are_placed():
    star = np.zeros((300, 300), np.float32)
    star[0, 1:250] = star[1:250, 0] = 1
    start = np.random.default_rng(0).normal(size=(1, 300, 2)).astype(np.float32) * 10
    placed = layout(start, [csr_array(star)], CAUCHY, epochs=60, negatives=8, seeds=[0], device="cpu")[0]
    assert np.abs(placed).max() < 200
    hub = np.linalg.norm(placed[0] - placed[1:250].mean(axis=0))
    assert hub < np.linalg.norm(placed[1:250] - placed[1:250].mean(axis=0), axis=1).mean()
    assert placed[250:].tobytes() == start[0, 250:].tobytes()


@pytest.mark.parametrize("points", [1, 2, 4, 40])
def test_coincident_points_and_tiny_graphs_are_placed(points):
    start = np.zeros((2, points, 2), np.float32)
    full, none = np.ones((points, points), np.float32) - np.eye(points, dtype=np.float32), np.zeros((points, points))
    graphs = [csr_array(full), csr_array(none)]
    placed = layout(start, graphs, Curve(1.5, 0.4), epochs=20, negatives=8, seeds=[0, 1], device="cpu")
    assert np.isfinite(placed).all()
    assert not placed[1].any()


def test_heads_are_grouped_within_the_budget():
    assert list(_groups([3, 3, 3, 9, 1, 1], 6)) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6)]
    assert list(_groups([], 6)) == []


def test_a_layer_is_mapped_as_its_heads_are():
    plan = work("pca", "umap", "neg_tsne", "attention", "tsne", least_neighbors=30)
    together = list(map_layer(1, [0, 2], plan, device="cpu", workers=2))
    assert [(result.layer, result.head) for result in together] == [(1, 0), (1, 2)]
    for result in together:
        alone = map_head(1, result.head, work=plan)
        assert result.seed == alone.seed
        assert list(result.coordinates) == list(alone.coordinates)
        for name in ("pca", "tsne"):
            assert result.coordinates[name].tobytes() == alone.coordinates[name].tobytes()
        for name in ("umap", "neg_tsne", "attention"):
            assert result.coordinates[name].shape == alone.coordinates[name].shape
            for score in ("trustworthiness", "attention_recall"):
                assert result.scores[name][score] > alone.scores[name][score] - 0.05, (name, score)
            assert result.faithfulness[name].shape == alone.faithfulness[name].shape
        assert set(result.seconds) == set(alone.seconds)
        assert all(value > 0 for value in result.seconds.values())


def test_a_head_does_not_depend_on_the_others_of_its_layer():
    plan = work("umap", "attention")
    first, *_ = map_layer(0, [1, 0, 2], plan, device="cpu")
    (alone,) = map_layer(0, [1], plan, device="cpu")
    assert all(first.coordinates[name].tobytes() == alone.coordinates[name].tobytes() for name in ("umap", "attention"))
    assert first.scores == alone.scores


@pytest.mark.slow  # a second process imports umap-learn
def test_umap_learn_is_asked_where_it_is_wanted():
    reference = MapSpec("u", "umap", 2, {"engine": "umap-learn", "n_epochs": 11})
    plan = replace(work("pca"), specs=(reference,))
    (result,) = map_layer(0, [0], plan, device="cpu", workers=2)
    assert result.coordinates["u"].tobytes() == map_head(0, 0, work=plan).coordinates["u"].tobytes()


def test_whole_models_are_mapped_layer_by_layer(monkeypatch):
    seen = []
    monkeypatch.setattr("attnviz.maps.heads.choose_device", lambda wanted: seen.append(wanted) or "cuda")
    monkeypatch.setattr(
        "attnviz.maps.layers.map_layers", lambda pairs, work, workers, device: map_layers(pairs, work, device="cpu")
    )
    results = list(map_heads([(0, 1), (0, 0), (1, 0)], work("pca"), device="cuda"))
    assert seen == ["cuda"]
    assert [(result.layer, result.head) for result in results] == [(0, 1), (0, 0), (1, 0)]


@pytest.mark.parametrize(("how", "kind"), [("own", DatasetError), ("foreign", MapError)])
def test_errors_say_which_head(how, kind):
    plan = work("pca", load=Loader(wrong=(0, 1), how=how))
    with pytest.raises(kind) as caught:
        list(map_layer(0, [0, 1], plan, device="cpu"))
    assert caught.value.__notes__ == ["while mapping layer 0, head 1"]


def test_heads_of_different_lengths_are_refused():
    def load(layer, head):
        return Loader(tokens=20 + 20 * head)(layer, head)

    with pytest.raises(MapError, match="must have the same") as caught:
        list(map_layer(0, [0, 1], replace(work("pca"), load=load), device="cpu"))
    assert caught.value.__notes__ == ["while mapping layer 0"]


def test_choosing_a_device(monkeypatch):
    """Auto is the CPU, GPU or not, until the engine has been measured on one."""
    monkeypatch.setattr("attnviz.maps.torch._has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device() == choose_device("auto") == choose_device("cpu") == "cpu"
    assert choose_device("cuda") == "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MapError, match=r"sees no GPU\. Use device = 'auto' or 'cpu'"):
        choose_device("cuda")
    monkeypatch.setattr("attnviz.maps.torch.find_spec", lambda name: None)
    with pytest.raises(MapError, match=r"torch is not installed"):
        choose_device("cuda")
    with pytest.raises(MapError, match="'auto', 'cpu' or 'cuda'"):
        choose_device("tpu")


def test_a_gpu_that_is_left_idle_is_told(monkeypatch):
    assert "torch" in sys.modules
    monkeypatch.setattr("attnviz.maps.torch._has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert idle_gpu("auto")
    assert not idle_gpu("cpu")
    assert not idle_gpu("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert not idle_gpu("auto")


def test_without_a_driver_torch_is_not_even_asked(monkeypatch):
    monkeypatch.setattr("attnviz.maps.torch._has_driver", lambda: False)
    monkeypatch.setattr("attnviz.maps.torch._torch", lambda: pytest.fail("torch was loaded"))
    assert choose_device("auto") == "cpu"
    assert not idle_gpu("auto")
    with pytest.raises(MapError, match=r"sees no GPU\. Use device = 'auto' or 'cpu'"):
        choose_device("cuda")


def test_maps_load_no_torch_before_it_is_asked_for():
    script = "import attnviz.maps, attnviz.maps.layers, attnviz.maps.torch, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
