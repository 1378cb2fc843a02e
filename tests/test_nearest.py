import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import attnviz
from attnviz.errors import MapError
from attnviz.maps import nearest, neighbors
from attnviz.maps.blocks import BLOCK, arrange
from attnviz.maps.nearest import strongest


def cloud(total, dims, *, seed=0):
    return np.random.default_rng(seed).normal(size=(total, dims)).astype(np.float32)


def clustered(total=900, dims=12):
    centres = np.random.default_rng(1).integers(0, 9, total)
    return cloud(9, dims, seed=2)[centres] * 5 + cloud(total, dims) * np.float32(0.1)


def tight(total=900):
    """Clusters far smaller than the rounding of |x|² + |y|² - 2xy, and one coordinate that outgrows all others."""
    points = cloud(3, 8)[np.arange(total) % 3] + cloud(total, 8, seed=3) * np.float32(1e-5)
    points[5, 0] = 1000
    return points


def outlying():
    points = cloud(700, 16)
    points[::100] *= 1000
    return points


CLOUDS = {
    "random": lambda: cloud(1500, 32),
    "one dimension": lambda: cloud(600, 1),
    "16 dimensions, whole blocks": lambda: cloud(2 * BLOCK, 16),
    "a point more than a block": lambda: cloud(BLOCK + 1, 24),
    "128 dimensions": lambda: cloud(777, 128),
    "clustered": clustered,
    "duplicated": lambda: np.repeat(cloud(60, 8), [1, 2, 7, 90] * 15, axis=0),
    "all coincident": lambda: np.ones((400, 4), np.float32),
    "far from the origin": lambda: cloud(700, 16) + np.float32(2**14),
    "tight": tight,
    "outlying": outlying,
    "large": lambda: cloud(500, 8) * np.float32(1e25),
    "small": lambda: cloud(500, 8) * np.float32(1e-25),
    "few": lambda: cloud(9, 5),
    "a grid, many ties": lambda: np.stack(np.meshgrid(*[np.arange(9)] * 3), -1).reshape(-1, 3).astype(np.float32),
}


def brute(points, k):
    """Distances of the k nearest by float64 differences, and those of every pair."""
    exact = points.astype(np.float64)
    between = np.stack([np.linalg.norm(exact - point, axis=1) for point in exact])
    np.fill_diagonal(between, np.inf)
    return np.sort(between, axis=1)[:, : min(k, len(points) - 1)], between


@pytest.mark.parametrize("k", [1, 15, 40])
@pytest.mark.parametrize("name", CLOUDS)
def test_equal_brute_force_on(name, k):
    points = CLOUDS[name]()
    near = neighbors(points, k)
    expected, between = brute(points, k)
    np.testing.assert_allclose(near.distances, expected, rtol=3e-6)
    np.testing.assert_allclose(np.take_along_axis(between, near.indices.astype(np.int64), 1), expected, rtol=3e-6)
    assert all(len(set(row)) == near.indices.shape[1] for row in near.indices.tolist())
    assert (near.indices != np.arange(len(points))[:, None]).all()
    assert (np.lexsort((near.indices, near.distances), axis=1) == np.arange(near.indices.shape[1])).all()
    assert near.recall == 1.0
    assert (near.indices.dtype, near.distances.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("name", ["a grid, many ties", "duplicated", "all coincident"])
def test_of_equal_distances_the_lowest_indices_are_found(name):
    points = CLOUDS[name]()
    between = brute(points, 1)[1]
    expected = np.lexsort((np.broadcast_to(np.arange(len(points)), between.shape), between.astype(np.float32)), axis=1)
    assert (neighbors(points, 12).indices == expected[:, :12]).all()


def test_the_order_of_the_points_does_not_matter():
    points = cloud(1100, 20)
    order = np.random.default_rng(5).permutation(len(points))
    straight, mixed = neighbors(points, 10), neighbors(points[order], 10)
    assert (order[mixed.indices] == straight.indices[order]).all()
    assert mixed.distances.tobytes() == straight.distances[order].tobytes()


@pytest.mark.parametrize("limit", [60_000, 500])
def test_threads_at_once_give_the_same_bytes(monkeypatch, limit):
    monkeypatch.setattr(nearest, "EXACT_POINTS", limit)
    heads = [cloud(3000, 32, seed=seed) for seed in range(4)]

    def search(head):
        near, strong = neighbors(head, 15), strongest(head[:1000], head[1000:], 10)
        return near.indices.tobytes(), near.distances.tobytes(), strong.indices.tobytes(), strong.products.tobytes()

    alone = [search(head) for head in heads]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(search, heads)) == alone


@pytest.mark.parametrize(
    ("queries", "keys", "dims", "k"), [(700, 900, 32, 10), (1, 3, 2, 5), (300, 257, 7, 1), (5, 1, 1, 1)]
)
def test_strongest_equal_brute_force(queries, keys, dims, k):
    query, key = cloud(queries, dims), cloud(keys, dims, seed=9) * np.float32(7)
    strong = strongest(query, key, k)
    products = query.astype(np.float64) @ key.T.astype(np.float64)
    expected = -np.sort(-products, axis=1)[:, :k]
    np.testing.assert_allclose(strong.products, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        np.take_along_axis(products, strong.indices.astype(np.int64), 1), expected, rtol=1e-5, atol=1e-5
    )
    assert strong.recall == 1.0
    assert (strong.indices.dtype, strong.products.dtype) == (np.int32, np.float32)


def test_of_equally_strong_keys_the_lowest_indices_are_found():
    key = np.repeat(cloud(4, 6), 100, axis=0)
    strong = strongest(cloud(50, 6, seed=1), key, 30)
    assert (strong.indices % 100 == np.arange(30)).all()


@pytest.mark.parametrize(("query", "key", "k"), [((4, 3), (0, 3), 2), ((0, 3), (4, 3), 2), ((4, 3), (5, 3), 0)])
def test_strongest_of_nothing_is_empty(query, key, k):
    assert strongest(np.ones(query), np.ones(key), k).indices.shape == (query[0], min(k, key[0]))


@pytest.mark.parametrize(
    ("query", "key", "k"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), -1),
        (np.ones((2, 3)), np.ones((2, 4)), 1),
        (np.ones((2, 1)), np.full((2, 1), np.inf), 1),
    ],
)
def test_strongest_refuses_what_cannot_be_searched(query, key, k):
    with pytest.raises(MapError, match="Strongest keys were asked for"):
        strongest(query, key, k)


class TestManyPoints:
    """Above EXACT_POINTS, which is lowered."""

    @pytest.fixture(autouse=True)
    def few_are_many(self, monkeypatch):
        monkeypatch.setattr(nearest, "EXACT_POINTS", 500)

    @staticmethod
    def head(total=12_000):
        flat = cloud(total, 4) @ cloud(4, 16, seed=8)
        return flat + cloud(total, 16, seed=4) * np.float32(0.1)

    def test_most_neighbours_are_found_and_it_says_how_many(self, monkeypatch):
        points = self.head()
        near = neighbors(points, 15)
        monkeypatch.setattr(nearest, "EXACT_POINTS", len(points))
        true = (near.distances <= neighbors(points, 15).distances[:, -1:]).mean()
        assert 0.95 < true < 1
        assert 0.99 <= near.recall < 1
        assert abs(near.recall - true) < 0.01
        assert all(len(set(row)) == 15 for row in near.indices.tolist())

    def test_most_keys_are_found_and_it_says_how_many(self, monkeypatch):
        query, key = self.head(), self.head()[::-1] + np.float32(0.2)
        strong = strongest(query, key, 10)
        monkeypatch.setattr(nearest, "EXACT_POINTS", len(key))
        true = (strong.products >= strongest(query, key, 10).products[:, -1:]).mean()
        assert 0.95 < true < 1
        assert 0.99 <= strong.recall < 1
        assert abs(strong.recall - true) < 0.01

    def test_the_same_bytes_again(self):
        first, again = neighbors(self.head(), 8), neighbors(self.head(), 8)
        assert first.indices.tobytes() == again.indices.tobytes()
        assert first.recall == again.recall

    def test_what_has_no_structure_is_searched_until_it_is_exact(self):
        points = cloud(1500, 100)
        near = neighbors(points, 10)
        assert near.recall == 1.0
        np.testing.assert_allclose(near.distances, brute(points, 10)[0], rtol=3e-6)


@pytest.mark.parametrize("total", [1, BLOCK, BLOCK + 1, 5 * BLOCK - 3])
def test_blocks_hold_every_point_once(total):
    assert (np.sort(arrange(cloud(total, 3))) == np.arange(total)).all()


@pytest.mark.slow
def test_a_read_only_package_is_compiled_into_the_users_cache(tmp_path):
    package = tmp_path / "library" / "attnviz"
    shutil.copytree(Path(attnviz.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    folders = [package, *(path for path in package.rglob("*") if path.is_dir())]
    (package / "maps" / "__pycache__").write_text("a file: nothing can be kept here, not even by root")
    for folder in folders:
        folder.chmod(0o555)
    code = "import numpy as np; from attnviz.maps import neighbors; print(neighbors(np.eye(5), 2).indices.shape)"
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    for folder in folders:
        folder.chmod(0o755)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(5, 2)\n", "")
    assert list((tmp_path / "cache").rglob("*.nbi"))
