"""New tokens on maps that exist: they land where they belong, alone or together, and what cannot be placed is refused."""

import dataclasses

import numpy as np
import pytest

import attnviz
from attnviz.errors import DatasetError, MapError
from attnviz.maps import MAPS, neighbors, num_neighbors, place, prepare_landing
from attnviz.maps.transform import LANDS
from attnviz.normalize import Normalize, joint
from attnviz.types import MapSpec, Sequences
from tests.contracts import clusters
from tests.fakes import write_fake_run

QUICK = {
    "tsne": {"perplexity": 10, "n_iter": 100, "early_exaggeration_iter": 50},
    "neg_tsne": {"perplexity": 10, "n_epochs": 60},
    "attention": {"n_epochs": 60},
    "umap": {"n_epochs": 60},
}
OTHERS = {
    "umap-learn": MapSpec("a map", "umap", 2, {"engine": "umap-learn", "n_epochs": 60}),
    "umap curve": MapSpec("a map", "umap", 3, {"min_dist": 0.4, "n_epochs": 60}),
    "attention of few": MapSpec("a map", "attention", 2, {"n_keys": 2, "n_same": 0, "n_epochs": 60}),
}
SPECS = {
    f"{name} {dims}-D": MapSpec("a map", name, dims, QUICK.get(name, {})) for name in MAPS for dims in (2, 3)
} | OTHERS


@pytest.fixture(scope="module", params=SPECS)
def made(request):
    """A map, what it was made of, and what lands on it."""
    spec, space = SPECS[request.param], clusters(200)
    return spec, space, *fit(spec, space)


def fit(spec, space):
    placed = place(spec, space, neighbors=neighbors(space.points, num_neighbors(spec)), seed=3)
    return placed, prepare_landing(spec, space, placed, seed=3)


def raw(space):
    """The vectors as they were captured."""
    return space.query / np.float32(space.scale), (space.key - space.shift) * np.float32(space.scale)


def fresh(tokens, seed=9):
    """New tokens of the four clusters, as captured, and the cluster of each."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(4, 8)) * 4
    which = np.arange(tokens) % 4
    return *(centres[which] + rng.normal(size=(tokens, 8)) for _ in range(2)), which


def test_every_method_takes_new_tokens():
    assert set(LANDS) == set(MAPS)


def test_shape_dtype_and_nothing_else_moves(made):
    spec, space, placed, landing = made
    before = placed.tobytes(), space.query.tobytes(), space.key.tobytes()
    query, key, _ = fresh(12)
    there = landing(query, key)
    assert (there.shape, there.dtype) == ((24, spec.dims), np.float32)
    assert np.isfinite(there).all()
    assert before == (placed.tobytes(), space.query.tobytes(), space.key.tobytes())


def test_an_old_vector_lands_close_to_its_old_place(made):
    spec, space, placed, landing = made
    apart = np.linalg.norm(landing(*raw(space)) - placed, axis=1)
    usual = np.median(np.linalg.norm(placed - np.random.default_rng(0).permutation(placed), axis=1))
    assert np.median(apart) < (1e-5 if spec.method == "pca" else 0.12) * usual


def test_new_tokens_land_in_their_cluster(made):
    _, space, placed, landing = made
    query, key, which = fresh(40)
    there = landing(query, key)
    nearest = np.linalg.norm(there[:, None] - placed[None], axis=2).argmin(axis=1)
    assert (nearest % len(space.query) % 4 == np.tile(which, 2)).mean() > 0.9


def test_a_place_does_not_depend_on_what_else_is_placed(made):
    *_, landing = made
    query, key, _ = fresh(37)
    together = landing(query, key)
    for i in (0, 5, 36):
        alone = landing(query[[i]], key[[i]])
        assert alone.tobytes() == together[[i, 37 + i]].tobytes()
    some = np.array([30, 2, 2, 17])
    assert landing(query[some], key[some]).tobytes() == together[np.concatenate([some, some + 37])].tobytes()


@pytest.mark.parametrize("method", MAPS)
def test_among_coincident_points_a_place_depends_on_nothing_else_either(method):
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(5, 8)) * 10 + 1_000, 60, axis=0).astype(np.float32)
    _, landing = fit(MapSpec("a map", method, 2, QUICK.get(method, {})), joint(vectors, rng.permutation(vectors)))
    together = landing(vectors[::7], vectors[::7])
    for i in (0, 11, 42):
        alone = landing(vectors[[7 * i]], vectors[[7 * i]])
        assert alone.tobytes() == together[[i, 43 + i]].tobytes()


@pytest.mark.parametrize("by_product", [False, True])
@pytest.mark.parametrize("size", [1.0, 1e-20, 1e18])
def test_what_is_closest_is_found_exactly(size, by_product):
    from attnviz.maps.settle import closest

    rng = np.random.default_rng(0)
    old = (rng.normal(size=(3_000, 12)) * size + 5 * size).astype(np.float32)
    old[100:900] = old[50]
    new = np.concatenate([old[:5], old[[50, 300]], (rng.normal(size=(300, 12)) * size).astype(np.float32)])
    wide = new.astype(np.float64), old.astype(np.float64)
    values = wide[0] @ wide[1].T if by_product else np.linalg.norm(wide[0][:, None] - wide[1][None], axis=2)
    found, given = closest(new, old, 9, by_product=by_product)
    expected = np.sort(-values if by_product else values, axis=1)[:, :9]
    np.testing.assert_allclose(-given if by_product else given, expected, rtol=1e-9, atol=1e-9 * size)
    assert (found[6] == ([50, *range(100, 108)])).all() or by_product


def test_equal_arguments_give_equal_bytes_and_another_seed_almost_the_same_place(made):
    spec, space, placed, landing = made
    query, key, _ = fresh(20)
    again = prepare_landing(spec, space, placed, seed=3)(query, key)
    assert landing(query, key).tobytes() == again.tobytes()
    other = prepare_landing(spec, space, placed, seed=4)(query, key)
    assert np.median(np.linalg.norm(other - again, axis=1)) < 0.1 * np.ptp(placed, axis=0).max()


def test_no_tokens_have_no_places(made):
    spec, *_, landing = made
    assert landing(np.empty((0, 8)), np.empty((0, 8))).shape == (0, spec.dims)


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("tokens", [1, 2, 3, 9])
def test_maps_of_few_points_take_new_tokens(method, tokens):
    spec, space = MapSpec("a map", method, 2, QUICK.get(method, {})), clusters(tokens)
    if 2 * tokens >= MAPS[method].min_points:
        _, landing = fit(spec, space)
        assert np.isfinite(landing(*fresh(5)[:2])).all()


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("case", ["duplicates", "constant", "zero", "huge", "tiny", "one dimension"])
def test_degenerate_heads_take_new_tokens(method, case):
    rng = np.random.default_rng(0)
    vectors = {
        "duplicates": np.repeat(rng.normal(size=(3, 4)), 20, axis=0),
        "constant": np.full((20, 4), 1.0),
        "zero": np.zeros((20, 4)),
        "huge": rng.normal(size=(20, 4)) * 1e25,
        "tiny": rng.normal(size=(20, 4)) * 1e-25,
        "one dimension": rng.normal(size=(20, 1)),
    }[case]
    spec = MapSpec("a map", method, 2, QUICK.get(method, {}))
    _, landing = fit(spec, joint(vectors, vectors * 2))
    for size in (0.0, 1.0, 1e20):
        assert np.isfinite(landing(vectors[:3] + size, vectors[:3] - size)).all()


def test_a_key_that_queries_would_attend_to_lands_among_them():
    space = clusters(200)
    placed, landing = fit(MapSpec("a map", "attention", 2, {"n_keys": 5, "n_same": 0}), space)
    query, key = raw(space)
    strong = 3 * key[[1]]  # more strongly attended to by the queries of its cluster than any key there is
    there = landing(query[[1]], strong)[1]
    own = placed[1:200:4]
    assert np.linalg.norm(there - own.mean(axis=0)) < 2 * np.linalg.norm(own - own.mean(axis=0), axis=1).max()


def test_a_masked_layer_takes_new_tokens():
    space = clusters(60, length=10)
    layer = dataclasses.replace(space.sequences.layer, causal=True, window=4)
    space = dataclasses.replace(space, sequences=Sequences(space.sequences.bounds, layer))
    _, landing = fit(MapSpec("a map", "attention", 2, {"n_epochs": 60}), space)
    assert np.isfinite(landing(*fresh(5)[:2])).all()


def test_scale_and_shift_of_the_head_are_applied():
    rng = np.random.default_rng(1)
    query, key = rng.normal(size=(50, 6)) * 10 + 3, rng.normal(size=(50, 6)) - 2
    for options in (Normalize(), Normalize(translate=False), Normalize(scale="none")):
        space = joint(query, key, options=options)
        placed, landing = fit(MapSpec("a map", "pca"), space)
        np.testing.assert_allclose(landing(query, key), placed, atol=1e-4)


@pytest.mark.parametrize(
    ("query", "key", "message"),
    [
        (np.zeros((5, 7)), np.zeros((5, 7)), r"New queries \(5, 7\) and keys \(5, 7\).*\(tokens, 8\)"),
        (np.zeros((5, 8)), np.zeros((5, 4)), r"New queries \(5, 8\) and keys \(5, 4\).* kv_head"),
        (np.zeros(8), np.zeros(8), r"New queries \(8,\)"),
        (np.zeros((5, 8)), np.full((5, 8), np.nan), "hold NaN or infinity"),
        (np.full((5, 8), np.inf), np.zeros((5, 8)), "hold NaN or infinity"),
    ],
)
def test_vectors_that_cannot_be_placed_are_refused(query, key, message):
    _, landing = fit(MapSpec("a map", "pca"), clusters())
    with pytest.raises(MapError, match=message):
        landing(query, key)


@pytest.mark.parametrize("wrong", [np.zeros((119, 2)), np.zeros((120, 3)), np.full((120, 2), np.nan)])
def test_coordinates_of_another_map_are_refused(wrong):
    with pytest.raises(MapError, match=r"for 120 points in 2 dimensions; .* Run.coordinates\(\)"):
        prepare_landing(MapSpec("a map", "umap"), clusters(), wrong)


def test_specs_are_checked():
    with pytest.raises(MapError, match="did you mean 'umap'"):
        prepare_landing(MapSpec("a map", "umpa"), clusters(), np.zeros((120, 2)))


def test_a_run_takes_new_tokens(tmp_path):
    run = attnviz.open(write_fake_run(tmp_path / "run"))
    vectors = run.vectors(1, 3)
    landing = run.landing("umap_3d", 1, 3)
    assert landing(vectors.query[:6], vectors.key[:6]).shape == (12, 3)
    again = run.landing("umap_3d", 1, 3)(vectors.query[:6], vectors.key[:6])
    assert again.tobytes() == landing(vectors.query[:6], vectors.key[:6]).tobytes()
    for name, layer, head, message in (
        ("tsne", 1, 3, "no complete map"),
        ("umap", 9, 0, "layer 9"),
        ("umap", 0, 9, "heads 0 to 3"),
    ):
        with pytest.raises(DatasetError, match=message):
            run.landing(name, layer, head)
