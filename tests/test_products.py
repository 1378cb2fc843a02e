"""Which products count as the largest and as equal: by the vectors alone, whatever a BLAS kernel rounds."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from attnviz.maps import neighbors
from attnviz.metrics import METRICS, NEIGHBORS, PointEvidence, pointwise
from attnviz.metrics.products import Distinct, Products, exact
from attnviz.metrics.space import apart, candidates
from attnviz.normalize import Normalize, joint, unit
from attnviz.types import Sequences
from tests.contracts import clusters

rng = np.random.default_rng(0)
HEADS = {
    "plain": (rng.normal(size=(90, 8)), rng.normal(size=(120, 8))),
    "repeated": (np.repeat(rng.normal(size=(9, 8)), 10, axis=0), np.repeat(rng.normal(size=(12, 8)), 10, axis=0)),
    # within a unit in the last place of each other: float32 products cannot put them in order
    "close": (rng.normal(size=(90, 8)), rng.normal(size=(1, 8)) + rng.normal(size=(1_500, 8)) * 1e-7),
    "one place": (np.ones((60, 8)), np.full((60, 8), 3.0)),
    "zero": (np.zeros((60, 8)), np.zeros((60, 8))),
}


def products(name, **given):
    query, key = (part.astype(np.float32) for part in HEADS[name])
    return Products(Distinct.of(query), Distinct.of(key), **given), one_by_one(query, key)


def one_by_one(query, key):
    """The definition: Python's own floats, coordinate after coordinate."""
    table = np.zeros((len(query), len(key)))
    for i, q in enumerate(query.tolist()):
        for j, k in enumerate(key.tolist()):
            total = 0.0
            for a, b in zip(q, k, strict=True):
                total += a * b
            table[i, j] = total
    return table


@pytest.mark.parametrize("name", HEADS)
def test_products_are_by_the_definition_whatever_is_computed_beside_them(name):
    given, table = products(name)
    rows, columns = (np.arange(size) for size in table.shape)
    np.testing.assert_array_equal(given.at(rows[:, None], columns), table)
    np.testing.assert_array_equal(given.at(rows[3:4], columns[50:51]), table[3, 50:51])
    turned = [np.ascontiguousarray(part.astype(np.float32).T, np.float64) for part in HEADS[name]]
    np.testing.assert_array_equal(exact(*turned, rows[:, None], columns), table)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("k", [1, 10, 50])
def test_the_least_of_the_largest_is_that_of_a_sorted_row(name, k):
    given, table = products(name)
    rows = np.array([5, 5, 0, 41])
    np.testing.assert_array_equal(given.least_of_largest(rows, k), np.sort(table, axis=1)[rows, -k])


@pytest.mark.parametrize("name", HEADS)
def test_what_reaches_the_least_is_told_exactly(name):
    given, table = products(name)
    rows, near = np.arange(60), np.random.default_rng(1).integers(table.shape[1], size=(60, 40))
    least = given.least_of_largest(rows, 10)
    found = given.reached(rows, near, least)
    np.testing.assert_array_equal(found, np.take_along_axis(table[:60], near, axis=1) >= least[:, None])
    for row in (0, 17):
        own = table[row, 4:33]
        np.testing.assert_array_equal(given.largest(row, slice(4, 33)), own == own.max())


def test_a_factor_and_what_is_subtracted_are_reckoned_with():
    name = "close"
    less = np.random.default_rng(2).normal(size=len(np.unique(HEADS[name][1].astype(np.float32), axis=0))) * 1e-5
    given, table = products(name, factor=0.3, less=less)
    table = table * 0.3 - less[given.columns.which]
    rows = np.arange(len(table))
    np.testing.assert_array_equal(given.least_of_largest(rows, 7), np.sort(table, axis=1)[:, -7])


@pytest.mark.parametrize("width", [5, 700, 2_567, 6_400])
def test_candidates_are_all_that_may_be_among_the_largest(width):
    values = np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
    margins = np.array([0, 0.1, 1, 100.0])
    row, column = candidates(values, 3, margins)
    assert (np.diff(row) >= 0).all()
    kept = np.zeros(values.shape, bool)
    kept[row, column] = True
    least = np.sort(values, axis=1)[:, -3] - margins
    assert kept[values >= least[:, None]].all()
    assert kept.sum() == len(row)


def test_equal_vectors_are_one_and_minus_zero_is_zero():
    found = Distinct.of(np.array([[1, 0], [0, 1], [1, -0.0], [0, 1]]))
    assert found.which[0] == found.which[2] != found.which[1] == found.which[3]
    assert found.counts.tolist() == [2, 2]


def test_distances_are_those_of_scipy_to_the_last_bit():
    """``Space`` takes ``cdist`` for its speed, shares per point take ``apart``: one meaning of "as near"."""
    points = rng.normal(size=(200, 32)).astype(np.float32).astype(np.float64)
    rows, others = np.divmod(np.arange(200 * 200), 200)
    found = apart(np.ascontiguousarray(points.T), rows, others).reshape(200, 200)
    np.testing.assert_array_equal(found, cdist(points, points, "sqeuclidean").astype(np.float32))
    np.testing.assert_array_equal(found[:, :37], cdist(points, points[:37], "sqeuclidean").astype(np.float32))


def test_a_unit_changes_no_order():
    vectors = rng.normal(size=(50, 8)).astype(np.float32) * 3
    scaled, power = unit(vectors)
    assert 0.5 < np.abs(scaled).max() <= 2
    np.testing.assert_array_equal(scaled * power, vectors)


def test_score_and_shares_agree_on_keys_that_are_almost_equal():
    """Shares once counted keys within 2e-6 of the tenth as equal to it, the score only what its matrix product called equal."""
    query, noise = rng.normal(size=(300, 8)), np.random.default_rng(3).normal(size=(300, 8))
    near_ties = rng.normal(size=(1, 8)) + noise * 1e-6
    vectors = joint(query, near_ties, options=Normalize(translate=False, scale="none"))
    placed = rng.normal(size=(600, 2)).astype(np.float32)
    kept = pointwise(PointEvidence(vectors, neighbors(vectors.points, NEIGHBORS)), placed)
    recall = METRICS["attention_recall"](vectors, placed)
    assert kept[:300, 1].mean(dtype=np.float64) == pytest.approx(recall, abs=1e-6)
    assert recall < 0.3  # they are in order all the same


def judged_equal_keys():
    """What is said of a map of queries and of seven keys, 29 times each."""
    given = np.random.default_rng(0)
    query, key = given.normal(size=(203, 24)), np.repeat(given.normal(size=(7, 24)), 29, axis=0)
    vectors, placed = joint(query, key), given.normal(size=(406, 2)).astype(np.float32)
    kept = pointwise(PointEvidence(vectors, neighbors(vectors.points, NEIGHBORS)), placed)
    scores = [METRICS[name](vectors, placed) for name in ("attention_recall", "attention_top1", "map_spearman")]
    return [float(kept[:203, 1].mean(dtype=np.float64)), *scores]


@pytest.mark.parametrize("kernel", ["Haswell", pytest.param("Prescott", marks=pytest.mark.slow)])
def test_equal_keys_are_equal_under_any_kernel(kernel):
    """OpenBLAS's Haswell kernel, which Zen has too, rounds the same product otherwise at the edge of a tile."""
    script = "from tests.test_products import judged_equal_keys; print(*judged_equal_keys())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"OPENBLAS_CORETYPE": kernel},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    found = list(map(float, done.stdout.split()))
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found == judged_equal_keys()


def test_equal_queries_give_a_key_equal_weight():
    """Ten queries that give a key most: of equal queries all or none, though each one's Σ exp comes from a row of its own."""
    vectors = clusters(40)
    query, key = np.repeat(vectors.query, 30, axis=0), np.repeat(vectors.key, 30, axis=0)
    repeated = replace(vectors, query=query, key=key, sequences=Sequences.one(*query.shape))
    evidence = PointEvidence(repeated, neighbors(repeated.points, NEIGHBORS))
    placed = np.concatenate([query, key])[:, :2].copy()
    kept = evidence.attention_kept(placed)[1_200:]
    np.testing.assert_array_equal(kept.reshape(40, 30), np.repeat(kept[::30, None], 30, axis=1))
