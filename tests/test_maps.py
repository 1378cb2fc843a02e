import contextlib
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_info

from attnviz.errors import DatasetError, MapError
from attnviz.maps import MAPS, head_seed, map_head, map_heads, neighbors, num_neighbors, parse, place
from attnviz.maps.pca import components, initial
from attnviz.maps.umap import fit
from attnviz.maps.umap_learn import _library
from attnviz.metrics import METRICS
from attnviz.normalize import Normalize, joint
from attnviz.types import MapSpec
from tests.contracts import MapContract, clusters, make
from tests.map_work import QUICK, Loader, work


class TestPca(MapContract):
    method = "pca"
    quick = QUICK["pca"]

    def test_keeps_every_distance_of_points_in_a_plane(self):
        rng = np.random.default_rng(0)
        flat = rng.normal(size=(40, 2)) * [10, 1]
        vectors = joint(flat, flat, options=Normalize(translate=False, scale="none"))
        placed = make(MapSpec("p", "pca"), vectors)
        between = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (placed, vectors.points)]
        np.testing.assert_allclose(*between, atol=1e-4)

    def test_is_the_projection_of_largest_variance(self):
        points = clusters().points.astype(np.float64)
        singular = np.linalg.svd(points - points.mean(axis=0))[1][:3]
        np.testing.assert_allclose(np.linalg.norm(components(points, 3), axis=0), singular, rtol=1e-5)

    def test_the_sign_does_not_depend_on_the_sign_of_the_eigenvectors(self, monkeypatch):
        points, eigh = clusters().points, np.linalg.eigh
        placed = components(points, 3)
        monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (eigh(matrix)[0], -eigh(matrix)[1]))
        assert components(points, 3).tobytes() == placed.tobytes()


class TestUmap(MapContract):
    method = "umap"
    quick = QUICK["umap"]

    def test_is_held_to_the_neighbours_that_it_is_given(self):
        vectors, spec = clusters(), MapSpec("u", "umap")
        near = neighbors(vectors.points, 14)
        shuffled = np.random.default_rng(0).permutation(120).astype(np.int32)
        other = replace(near, indices=shuffled[near.indices])
        assert place(spec, vectors, neighbors=near).tobytes() != place(spec, vectors, neighbors=other).tobytes()
        assert METRICS["trustworthiness"](vectors, place(spec, vectors, neighbors=other)) < 0.75

    def test_parameters_change_the_map(self):
        vectors = clusters()
        plain = make(MapSpec("u", "umap"), vectors)
        for changed in (
            {"min_dist": 0.9},
            {"spread": 2},
            {"n_neighbors": 5},
            {"n_epochs": 20},
            {"negative_sample_rate": 1},
            {"curve": "umap"},
        ):
            assert make(MapSpec("u", "umap", 2, changed), vectors).tobytes() != plain.tobytes(), changed
        for same in ({"n_epochs": "auto"}, {"curve": "cauchy"}, {"curve": "auto"}, {"engine": "attnviz"}):
            assert make(MapSpec("u", "umap", 2, same), vectors).tobytes() == plain.tobytes(), same

    def test_what_cannot_go_together_is_refused(self):
        with pytest.raises(MapError, match=r"spread = 0\.2 is less than min_dist = 0\.5"):
            parse(MapSpec("u", "umap", 2, {"min_dist": 0.5, "spread": 0.2}))
        for other in ({"min_dist": 0.5}, {"engine": "umap-learn"}):
            with pytest.raises(MapError, match="has no min_dist"):
                parse(MapSpec("u", "umap", 2, {"curve": "cauchy"} | other))

    def test_its_curve_is_umap_learns(self):
        find_ab_params = _library().umap_.find_ab_params
        for spread, min_dist in ((1.0, 0.1), (1.0, 0.5), (2.0, 0.0)):
            np.testing.assert_allclose(fit(min_dist, spread), find_ab_params(spread, min_dist), rtol=1e-4)


class TestUmapLearn:
    def test_is_held_to_the_neighbours_that_it_is_given(self):
        # Under 4,096 points umap-learn would compute all distances by itself.
        vectors, spec = clusters(), MapSpec("u", "umap", 2, {"engine": "umap-learn"})
        near = neighbors(vectors.points, 14)
        shuffled = np.random.default_rng(0).permutation(120).astype(np.int32)
        other = replace(near, indices=shuffled[near.indices])
        assert place(spec, vectors, neighbors=near).tobytes() == place(spec, vectors, neighbors=near).tobytes()
        assert METRICS["trustworthiness"](vectors, place(spec, vectors, neighbors=near)) > 0.9
        assert METRICS["trustworthiness"](vectors, place(spec, vectors, neighbors=other)) < 0.75

    def test_parameters_reach_the_library(self):
        vectors, engine = clusters(), {"engine": "umap-learn"}
        plain = make(MapSpec("u", "umap", 2, engine), vectors)
        for changed in (
            {"min_dist": 0.9},
            {"spread": 2},
            {"n_neighbors": 5},
            {"n_epochs": 20},
            {"negative_sample_rate": 1},
        ):
            assert make(MapSpec("u", "umap", 2, engine | changed), vectors).tobytes() != plain.tobytes(), changed

    @pytest.mark.parametrize("dims", [2, 3])
    def test_few_points(self, dims):
        for tokens in (2, 3, 9):
            assert np.isfinite(make(MapSpec("u", "umap", dims, {"engine": "umap-learn"}), clusters(tokens))).all()


class TestNegTsne(MapContract):
    method = "neg_tsne"
    quick = QUICK["neg_tsne"]

    def test_parameters_change_the_map(self):
        vectors = clusters()
        plain = make(MapSpec("n", "neg_tsne"), vectors)
        for changed in ({"perplexity": 5}, {"n_epochs": 20}, {"negative_sample_rate": 1}):
            assert make(MapSpec("n", "neg_tsne", 2, changed), vectors).tobytes() != plain.tobytes(), changed


class TestAttention(MapContract):
    method = "attention"
    quick = QUICK["attention"]

    def test_queries_come_first(self, spec):
        # Each of four directions has queries and keys of its own; far keys, which the contract has, change no q·k.
        near = np.repeat(np.eye(4), 15, axis=0) * 5 + np.random.default_rng(0).normal(size=(60, 4)) / 2
        placed = make(spec, joint(near, near[::-1]))
        ends = placed[60:][::-1]
        assert (
            np.linalg.norm(placed[:60] - ends, axis=1) < np.linalg.norm(placed[:60] - placed[60:], axis=1)
        ).mean() > 0.9


class TestTsne(MapContract):
    method = "tsne"
    quick = QUICK["tsne"]

    def test_is_held_to_the_neighbours_that_it_is_given(self):
        vectors, spec = clusters(), MapSpec("t", "tsne", 2, {"perplexity": 10})
        near = neighbors(vectors.points, 30)
        shuffled = np.random.default_rng(0).permutation(120).astype(np.int32)
        other = replace(near, indices=shuffled[near.indices])
        assert METRICS["trustworthiness"](vectors, place(spec, vectors, neighbors=near)) > 0.9
        assert METRICS["trustworthiness"](vectors, place(spec, vectors, neighbors=other)) < 0.75

    def test_parameters_reach_the_library(self):
        vectors = clusters()
        plain = make(MapSpec("t", "tsne", 2, QUICK["tsne"]), vectors)
        for changed in (
            {"perplexity": 5},
            {"n_iter": 20},
            {"early_exaggeration_iter": 20},
            {"early_exaggeration": 4.0},
            {"exaggeration": 2},
        ):
            assert make(MapSpec("t", "tsne", 2, QUICK["tsne"] | changed), vectors).tobytes() != plain.tobytes(), changed


def test_every_method_has_a_contract():
    assert {contract.method for contract in MapContract.__subclasses__()} == set(MAPS)


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_the_seed_matters_where_chance_does(method):
    first, again, second = (make(MapSpec("m", method, 2, QUICK[method]), clusters(), seed=seed) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != second.tobytes()


def test_the_start_is_scaled_alike_on_all_axes():
    points = clusters().points
    ratios = initial(points, 3, spread=1e-2, seed=0).std(axis=0) / components(points, 3).std(axis=0)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)
    assert initial(points, 2, spread=1e-2, seed=0).std(axis=0).max() == pytest.approx(1e-2, rel=1e-3)
    assert len(np.unique(initial(np.zeros((50, 4), np.float32), 2, spread=1, seed=0), axis=0)) == 50


def test_numbers_of_neighbours():
    assert [num_neighbors(MapSpec(name, name)) for name in ("pca", "umap", "tsne")] == [0, 14, 90]
    assert num_neighbors(MapSpec("t", "tsne", 2, {"perplexity": 30.5})) == 92


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (MapSpec("a", "umpa"), "Map 'a' has the method 'umpa': did you mean 'umap'"),
        (MapSpec("a", "umap", 2, {"n_neighbours": 5}), "did you mean 'n_neighbors'"),
        (MapSpec("a", "umap", 2, {"n_neighbors": 1}), "n_neighbors = 1; umap takes a whole number from 2 to 500"),
        (MapSpec("a", "umap", 2, {"n_neighbors": 2.5}), "n_neighbors = 2.5; umap takes a whole number"),
        (
            MapSpec("a", "umap", 2, {"n_epochs": 5}),
            'n_epochs = 5; umap takes a whole number from 11 to 10000, or "auto"',
        ),
        (MapSpec("a", "pca", 2, {"n_neighbors": 5}), "pca takes none"),
    ],
)
def test_specs_that_cannot_be_are_refused_by_name(spec, message):
    with pytest.raises(MapError, match=message):
        parse(spec)


def test_reading_specs_loads_none_of_the_heavy_libraries():
    code = """
        import sys
        from attnviz.maps import MAPS, parse
        from attnviz.types import MapSpec
        for name in MAPS: parse(MapSpec(name, name))
        print({"umap", "openTSNE", "numba", "sklearn", "scipy", "torch"} & set(sys.modules))
    """
    assert run_script(code).stdout.strip() == "set()"


class TestNeighbors:
    def test_equal_brute_force(self):
        points = clusters(300).points
        near = neighbors(points, 20)
        distances, indices = (
            NearestNeighbors(n_neighbors=21, algorithm="brute").fit(points.astype(np.float64)).kneighbors()
        )
        assert (near.indices == indices[:, :20]).mean() > 0.999
        np.testing.assert_allclose(near.distances, distances[:, :20], rtol=1e-5)
        assert (near.indices.dtype, near.distances.dtype) == (np.int32, np.float32)

    def test_are_exact_far_from_the_origin(self):
        points = clusters(300).points + np.float32(2**16)
        expected = np.sort(np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=-1), axis=1)[:, 1:6]
        np.testing.assert_allclose(neighbors(points, 5).distances, expected, rtol=1e-5)

    @pytest.mark.parametrize("repeats", [2, 40, 150])
    def test_a_point_is_never_its_own_even_among_coincident_ones(self, repeats):
        points = np.repeat(np.random.default_rng(0).normal(size=(4, 8)) + 5, repeats, axis=0).astype(np.float32)
        near = neighbors(points, 30)
        assert (near.indices != np.arange(len(points))[:, None]).all()
        assert all(len(set(row)) == near.indices.shape[1] for row in near.indices.tolist())
        same = min(repeats - 1, near.indices.shape[1])
        assert (near.distances[:, :same] == 0).all()
        assert (np.diff(near.distances, axis=1) >= 0).all()
        by_index = np.lexsort((near.indices, near.distances), axis=1)
        assert (by_index == np.arange(near.indices.shape[1])).all()

    @pytest.mark.parametrize("repeats", [1, 60])
    def test_fewer_are_the_beginning_of_more(self, repeats):
        points = np.repeat(clusters(300 // repeats).points, repeats, axis=0)
        few, many = neighbors(points, 14), neighbors(points, 90)
        assert (few.indices == many.indices[:, :14]).all()
        assert few.distances.tobytes() == np.ascontiguousarray(many.distances[:, :14]).tobytes()

    @pytest.mark.parametrize(("points", "k", "columns"), [(5, 14, 4), (5, 4, 4), (1, 3, 0), (0, 3, 0), (5, 0, 0)])
    def test_no_more_than_there_are(self, points, k, columns):
        assert neighbors(np.random.default_rng(0).normal(size=(points, 3)), k).indices.shape == (points, columns)

    @pytest.mark.parametrize(("points", "k"), [(np.zeros((5, 3)), -1), (np.zeros(5), 2), (np.full((5, 3), np.nan), 2)])
    def test_what_cannot_be_searched_is_refused(self, points, k):
        with pytest.raises(MapError, match="Neighbours were asked for"):
            neighbors(points, k)


HEADS = [(0, 0), (0, 1), (1, 0), (1, 1), (7, 3)]


def fingerprint(result):
    coordinates = {name: placed.tobytes() for name, placed in result.coordinates.items()}
    faithfulness = {name: kept.tobytes() for name, kept in result.faithfulness.items()}
    return result.layer, result.head, coordinates, result.scores, faithfulness


def test_a_head_holds_all_that_a_run_records():
    result = map_head(1, 2, work=work("pca", "umap", normalize=functools.partial(joint, options=Normalize())))
    assert (result.layer, result.head, result.seed) == (1, 2, head_seed(0, 1, 2))
    assert {name: placed.shape for name, placed in result.coordinates.items()} == {"pca": (120, 2), "umap": (120, 2)}
    assert set(result.scores["umap"]) == set(METRICS)
    assert {name: kept.shape for name, kept in result.faithfulness.items()} == {"pca": (120, 2), "umap": (120, 2)}
    assert set(result.seconds) == {"neighbors", "pca", "umap", "scores"}


def test_the_result_depends_on_neither_the_workers_nor_the_other_heads():
    methods = "pca", "umap", "neg_tsne", "attention"
    here = [fingerprint(r) for r in map_heads(HEADS, work(*methods))]
    for workers in (2, 3):
        assert [fingerprint(r) for r in map_heads(HEADS, work(*methods), workers=workers)] == here
    assert fingerprint(map_head(7, 3, work=work(*methods))) == here[-1]
    alone = [fingerprint(map_head(7, 3, work=work(method))) for method in methods]
    assert all(one[2][method] == here[-1][2][method] for one, method in zip(alone, methods, strict=True))


def test_processes_give_the_same_bytes_as_one_after_the_other():
    here = [fingerprint(r) for r in map_heads(HEADS, work("umap", "tsne"))]
    assert [fingerprint(r) for r in map_heads(HEADS, work("umap", "tsne"), workers=2)] == here
    other = fingerprint(map_head(7, 3, work=work("pca", "umap")))
    assert all(other[part]["umap"] == here[-1][part]["umap"] for part in (2, 3, 4))
    assert multiprocessing.active_children() == []


def test_seeds_are_stable_and_each_heads_own():
    assert head_seed(0, 0, 0) == 2968811710
    seeds = {head_seed(seed, layer, head) for seed in range(3) for layer in range(12) for head in range(12)}
    assert len(seeds) == 3 * 144
    assert max(seeds) < 2**32
    assert map_head(0, 0, work=work("pca", seed=5)).seed == head_seed(5, 0, 0)


@pytest.mark.parametrize(
    ("method", "workers", "how", "kind", "message"),
    [
        ("pca", 1, "foreign", MapError, "KeyError: 'query'"),
        ("pca", 1, "own", DatasetError, "missing"),
        ("pca", 2, "own", DatasetError, "missing"),
        ("tsne", 2, "foreign", MapError, "KeyError: 'query'"),
    ],
)
def test_an_error_names_layer_and_head(method, workers, how, kind, message):
    results = map_heads(HEADS, work(method, load=Loader(wrong=(1, 0), how=how)), workers=workers)
    done = []
    with pytest.raises(kind, match=message) as caught:
        done.extend(result.head for result in results)
    assert "while mapping layer 1, head 0" in caught.value.__notes__
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_an_error_that_says_what_to_do():
    with pytest.raises(MapError, match=r"A worker process died .* use fewer workers"):
        list(map_heads(HEADS, work("tsne", load=Loader(wrong=(0, 1), how="dies")), workers=2))
    assert multiprocessing.active_children() == []


def test_leaving_early_ends_the_workers():
    with contextlib.closing(map_heads(HEADS * 20, work("tsne"), workers=2)) as results:
        next(results)
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_program(kind, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import multiprocessing, signal, sys, threading, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
        sys.path.insert(0, sys.argv[1])
        from attnviz.maps import map_heads
        from tests.map_work import Loader, work

        def tell():
            while len(children := multiprocessing.active_children()) < 2:
                time.sleep(0.05)
            print(*(child.pid for child in children), flush=True)

        if __name__ == "__main__":
            threading.Thread(target=tell, daemon=True).start()
            list(map_heads([(0, 0), (0, 1)], work("tsne", load=Loader(marks=sys.argv[2])), workers=2))
        """)
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    command = [sys.executable, str(script), os.path.dirname(os.path.dirname(__file__)), str(marks)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        workers = [int(pid) for pid in program.stdout.readline().split()]
        wait_until(lambda: len(list(marks.iterdir())) == 2)
        program.send_signal(kind)
        assert program.wait(20) != 0
    assert len(workers) == 2
    wait_until(lambda: not any(alive(pid) for pid in workers))


def wait_until(done, *, seconds=40):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.05)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_worker_needs_no_main_guard():
    code = """
        from attnviz.maps import HeadWork, map_heads
        from attnviz.metrics import Judge
        from attnviz.normalize import joint
        from attnviz.types import MapSpec
        import numpy as np
        load = lambda layer, head: (np.eye(5), np.eye(5))
        print(len(list(map_heads([(0, 0), (0, 1)], HeadWork(load, joint, (MapSpec("p", "pca"),), Judge)))))
    """
    assert run_script(code).stdout.strip() == "2"


def test_threads_are_left_and_give_back_their_limits():
    before, running = threadpool_info(), threading.active_count()
    with contextlib.closing(map_heads(HEADS * 20, work("pca"), workers=2)) as results:
        next(results)
        assert threading.active_count() == running + 2
    assert (threadpool_info(), threading.active_count()) == (before, running)


@pytest.mark.parametrize(
    ("changes", "workers", "message"),
    [
        ({}, 0, "workers is 0"),
        ({"specs": (MapSpec("a", "pca"), MapSpec("a", "umap"))}, 1, "Rename a"),
        ({"specs": (MapSpec("scores", "pca"),)}, 1, "Rename scores"),
        ({"specs": (MapSpec("a", "umpa"),)}, 2, "did you mean 'umap'"),
        ({"load": lambda layer, head: None}, 2, "cannot be sent to other processes"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_starts(changes, workers, message):
    with pytest.raises(MapError, match=message):
        map_heads(HEADS, work("tsne", **changes), workers=workers)


def test_no_heads_and_no_maps_are_fine():
    assert list(map_heads([], work("pca"), workers=3)) == []
    assert map_head(0, 0, work=work()).coordinates == {}


def run_script(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
