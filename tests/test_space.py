"""Points as sampled ones see them, against counts of all distances."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from attnviz.metrics.space import Space


def test_a_point_is_not_its_own_neighbour():
    found = Space(np.zeros((60, 2)), np.arange(60)).near
    assert (found != np.arange(60)[:, None]).all()


@pytest.mark.parametrize("count", [40, 1_000, 1_001])  # sorted up to a thousand, counted beyond
def test_ranks_are_counts_of_what_is_nearer(count):
    rng = np.random.default_rng(0)
    points = rng.integers(0, 4, (count, 3)).astype(np.float32)  # many are as near as others
    looking, wanted = np.arange(9), rng.integers(0, count, (9, 15))
    distances = cdist(points[looking], points, "sqeuclidean")
    distances[looking, looking] = -1
    expected = [[(row < row[other]).sum() for other in others] for row, others in zip(distances, wanted, strict=True)]
    np.testing.assert_array_equal(Space(points, looking).ranks(wanted), expected)
