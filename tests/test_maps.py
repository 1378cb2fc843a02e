"""Every map method keeps its contract, takes its neighbours and parameters to heart, and refuses what it cannot make."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from attnviz.errors import MapError
from attnviz.maps import MAPS, neighbors, num_neighbors, parse, place
from attnviz.maps.pca import components, initial
from attnviz.maps.umap import fit
from attnviz.maps.umap_learn import _library
from attnviz.metrics import METRICS
from attnviz.normalize import Normalize, joint
from attnviz.types import MapSpec
from tests.contracts import MapContract, clusters, make
from tests.map_work import QUICK

LEARN = {"engine": "umap-learn"}
PLAIN = {
    "umap": MapSpec("a map", "umap"),
    "umap-learn": MapSpec("a map", "umap", 2, LEARN),
    "neg_tsne": MapSpec("a map", "neg_tsne"),
    "tsne": MapSpec("a map", "tsne", 2, QUICK["tsne"]),
    "attention": MapSpec("a map", "attention"),
}
UMAPS = [{"min_dist": 0.9}, {"spread": 2}, {"n_neighbors": 5}, {"n_epochs": 20}, {"negative_sample_rate": 1}]
CHANGES = {
    "umap": [*UMAPS, {"curve": "umap"}, LEARN],
    "umap-learn": UMAPS,
    "neg_tsne": [{"perplexity": 5}, {"n_epochs": 20}, {"negative_sample_rate": 1}],
    "tsne": [
        {"perplexity": 5},
        {"n_iter": 20},
        {"early_exaggeration_iter": 20},
        {"early_exaggeration": 4.0},
        {"exaggeration": 2},
    ],
    "attention": [
        {"n_keys": 3},
        {"n_same": 0},
        {"in_sequence": 1},
        {"n_epochs": 20},
        {"negative_sample_rate": 1},
    ],
}


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

    @pytest.mark.parametrize("size", [1e-12, -1e-12])
    def test_the_sign_does_not_depend_on_which_of_equal_entries_lapack_rounds_up(self, size):
        line = np.outer(np.linspace(-1, 1, 9), [1 + size, -1]).astype(np.float64)
        assert components(line, 1)[-1] > 0


class TestUmap(MapContract):
    method = "umap"
    quick = QUICK["umap"]

    def test_what_says_the_same_in_other_words_gives_the_same_map(self):
        vectors = clusters()
        plain = make(PLAIN["umap"], vectors)
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


class TestNegTsne(MapContract):
    method = "neg_tsne"
    quick = QUICK["neg_tsne"]


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


def test_every_method_has_a_contract():
    assert {contract.method for contract in MapContract.__subclasses__()} == set(MAPS)


@pytest.mark.parametrize("name", ["umap", "umap-learn", "neg_tsne", "tsne"])
def test_a_map_is_held_to_the_neighbours_that_it_is_given(name):
    # Under 4,096 points umap-learn would compute all distances by itself.
    vectors, spec = clusters(), PLAIN[name]
    near = neighbors(vectors.points, num_neighbors(spec))
    shuffled = np.random.default_rng(0).permutation(120).astype(np.int32)
    wrong = dataclasses.replace(near, indices=shuffled[near.indices])
    placed, misled = (place(spec, vectors, neighbors=given) for given in (near, wrong))
    assert METRICS["trustworthiness"](vectors, placed) > 0.9
    assert METRICS["trustworthiness"](vectors, misled) < 0.75


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_the_map(name):
    spec, vectors = PLAIN[name], clusters(length=10)
    plain = make(spec, vectors)
    for changed in CHANGES[name]:
        other = dataclasses.replace(spec, parameters=spec.parameters | changed)
        assert make(other, vectors).tobytes() != plain.tobytes(), changed
    known = {field.name for field in dataclasses.fields(MAPS[spec.method].parameters)}
    assert {*spec.parameters, *(word for changed in CHANGES[name] for word in changed)} >= known - {"engine", "curve"}


@pytest.mark.parametrize("dims", [2, 3])
def test_umap_learn_places_few_points_and_equal_ones_equally(dims):
    spec = MapSpec("u", "umap", dims, LEARN)
    for tokens in (2, 3, 9):
        assert np.isfinite(make(spec, clusters(tokens))).all()
    assert make(spec, clusters(20)).tobytes() == make(spec, clusters(20)).tobytes()


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
    code = (
        "import sys; from attnviz.maps import MAPS, parse; from attnviz.types import MapSpec\n"
        "for name in MAPS: parse(MapSpec(name, name))\n"
        'print({"umap", "openTSNE", "numba", "sklearn", "scipy", "torch"} & set(sys.modules))'
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


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
