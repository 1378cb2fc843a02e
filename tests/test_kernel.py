"""The compiled layout: its own power, what stays on the map, two and three dimensions, equal bytes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array

from attnviz.maps.kernel import CAUCHY, Curve, layout, power

CURVES = {"cauchy": CAUCHY, "umap": Curve(1.577, 0.895)}
GROUP = 50


@pytest.mark.parametrize("exponent", [-1, 0.1, 0.5, 0.79, 0.895, 1, 1.5, 2])
def test_power_is_right_within_3e_4(exponent):
    exponent = np.float32(exponent)
    bases = np.logspace(-30, 30, 301).astype(np.float32)
    with np.errstate(over="ignore"):
        exact = bases.astype(np.float64) ** float(exponent)
    within = (exact > 2.0**-99) & (exact < 2.0**99)
    assert within.sum() > 100
    found = np.array([power(base, exponent) for base in bases])
    np.testing.assert_allclose(found[within], exact[within], rtol=3e-4)
    assert (np.isfinite(found) & (found > 0)).all()  # what leaves the range is held there


def graph_of(points, edges):
    """A symmetric graph of (rows, columns, weight); where an edge is given twice, the heavier counts."""
    total = coo_array((points, points)).tocsr()
    for rows, columns, weight in edges:
        rows, columns = np.broadcast_arrays(rows, columns)
        one = coo_array((np.full(len(rows), weight, np.float32), (rows, columns)), (points, points)).tocsr()
        one.data[:] = weight  # equal edges were added up
        total = total.maximum(one).maximum(one.T)
    return total.tocsr()


def groups(points=3_000, *, dims=2, seed=0):
    """Groups of 50 that start close together, and six random edges within its group from every point."""
    rng = np.random.default_rng(seed)
    start = np.repeat(rng.normal(size=(points // GROUP, dims)) * 10, GROUP, axis=0) + rng.normal(size=(points, dims))
    rows = np.repeat(np.arange(points), 6)
    return start.astype(np.float32), rows, rows // GROUP * GROUP + rng.integers(GROUP, size=len(rows))


def farthest(placed):
    """How far the farthest point lies from the median, in 99th percentiles."""
    distances = np.linalg.norm(placed - np.median(placed, axis=0), axis=1)
    return distances.max() / np.percentile(distances, 99)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("curve", CURVES)
def test_hubs_stay_on_the_map(curve, dims):
    start, rows, columns = groups(dims=dims)
    everyone = np.arange(3_000)
    graph = graph_of(3_000, [(rows, columns, 0.5), (0, everyone[1:2_500], 1), (1, everyone[500:], 1)])
    assert farthest(layout(start, graph, CURVES[curve], epochs=50, negatives=8, seed=0)) < 3


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("curve", CURVES)
def test_pairs_that_are_each_others_nearest_stay_on_the_map(curve, dims):
    """Ten of them, close to each other and hardly tied to anything else: they leapt over each other and away."""
    start, rows, columns = groups(dims=dims)
    first = np.arange(10) * GROUP + 2
    pairs = np.concatenate([first, first + 1])
    tied = np.isin(rows, pairs) | np.isin(columns, pairs)
    weak, strong = (rows[tied], columns[tied], 0.02), (rows[~tied], columns[~tied], 0.5)
    graph = graph_of(3_000, [strong, weak, (first, first + 1, 1)])
    start[first + 1] = start[first] + np.float32(1e-3)
    placed = layout(start, graph, CURVES[curve], epochs=300, negatives=8, seed=0)
    assert farthest(placed) < 3
    assert np.linalg.norm(placed[first] - placed[first + 1], axis=1).max() < 3


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("curve", CURVES)
def test_what_is_tied_comes_together_and_the_rest_apart(curve, dims):
    _, rows, columns = groups(1_000)
    start = np.random.default_rng(1).normal(size=(1_000, dims)).astype(np.float32) * 10
    placed = layout(start, graph_of(1_000, [(rows, columns, 1)]), CURVES[curve], epochs=100, negatives=8, seed=0)
    centres = placed.reshape(-1, GROUP, dims).mean(axis=1)
    nearest = np.linalg.norm(placed[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == np.arange(1_000) // GROUP).mean() > 0.95
    assert (placed.std(axis=0) > 1).all()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("curve", CURVES)
def test_equal_arguments_give_equal_bytes_and_stay_as_they_are(curve, dims):
    start, rows, columns = groups(500, dims=dims)
    graph = graph_of(500, [(rows, columns, 0.7)])
    before = start.tobytes(), graph.data.tobytes(), graph.indices.tobytes()
    first, again, other = (
        layout(start, graph, CURVES[curve], epochs=30, negatives=5, seed=seed).tobytes() for seed in (7, 7, 8)
    )
    assert first == again != other
    assert before == (start.tobytes(), graph.data.tobytes(), graph.indices.tobytes())


def test_points_without_edges_stay_where_they_start():
    start, rows, columns = groups(500)
    some = (rows >= 100) & (columns >= 100)
    graph = graph_of(500, [(rows[some], columns[some], 1), ([0], [1], 1e-6)])  # the last is too light for 30 rounds
    placed = layout(start, graph, epochs=30, negatives=5, seed=0)
    np.testing.assert_array_equal(placed[:100], start[:100])
    assert (placed[100:] != start[100:]).all()


def placed_by_the_kernel():
    """The bytes of a small layout, in hexadecimal."""
    start, rows, columns = groups(600)
    graph = graph_of(600, [(rows, columns, 0.5), (0, np.arange(1, 500), 1)])
    return layout(start, graph, CAUCHY, epochs=60, negatives=8, seed=0).tobytes().hex()


def test_the_bytes_do_not_depend_on_the_width_of_registers_nor_on_fused_products():
    """Compiled for a processor without AVX: in another order of adding the map is another one after 60 rounds."""
    script = "from tests.test_kernel import placed_by_the_kernel; print(placed_by_the_kernel())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"NUMBA_CPU_NAME": "generic"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == placed_by_the_kernel()
