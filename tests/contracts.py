"""What every entry of a table must do. A test class names the entry; registering a thing is testing it."""

import dataclasses
import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from attnviz.errors import MapError
from attnviz.maps import MAPS, OneOf, neighbors, num_neighbors, parse, place
from attnviz.metrics import METRICS
from attnviz.normalize import joint
from attnviz.types import Joint, MapSpec, Sequences


def clusters(tokens: int = 60, head_dim: int = 8, *, seed: int = 0, length: int | None = None) -> Joint:
    """Four clusters of tokens, each with queries near its keys: what a good map shows. In one sequence, or of a length."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, head_dim)) * 4
    place = centres[np.arange(tokens) % 4]
    one = Sequences.one(tokens, head_dim)
    sequences = dataclasses.replace(one, bounds=np.append(np.arange(0, tokens, length or tokens), tokens))
    return joint(place + rng.normal(size=place.shape), place + rng.normal(size=place.shape), sequences)


def make(spec: MapSpec, vectors: Joint, *, seed: int = 3, extra: int = 0) -> np.ndarray:
    near = neighbors(vectors.points, num_neighbors(spec) + extra)
    return place(spec, vectors, neighbors=near, seed=seed)


class MapContract:
    """For one entry of ``MAPS``."""

    method: str
    quick: Mapping[str, Any]  # parameters that cost little

    @pytest.fixture(params=[2, 3])
    def spec(self, request):
        return MapSpec("a map", self.method, request.param, self.quick)

    def test_shape_dtype_and_finite(self, spec):
        placed = make(spec, clusters())
        assert placed.shape == (120, spec.dims)
        assert placed.dtype == np.float32
        assert np.isfinite(placed).all()
        assert (placed.std(axis=0) > 0).all()

    def test_equal_arguments_give_equal_bytes_and_leave_the_arguments_alone(self, spec):
        vectors = clusters()
        near = neighbors(vectors.points, num_neighbors(spec))
        before = near.indices.tobytes(), near.distances.tobytes(), vectors.points.tobytes()
        first, second = (place(spec, vectors, neighbors=near, seed=7).tobytes() for _ in range(2))
        assert first == second
        assert before == (near.indices.tobytes(), near.distances.tobytes(), vectors.points.tobytes())

    def test_more_neighbours_than_it_asked_for_change_nothing(self, spec):
        vectors = clusters()
        assert make(spec, vectors).tobytes() == make(spec, vectors, extra=9).tobytes()

    def test_fewer_neighbours_than_it_needs_are_refused(self, spec):
        vectors = clusters()
        few = neighbors(vectors.points, max(num_neighbors(spec) - 1, 0))
        if num_neighbors(spec) == 0:
            assert place(spec, vectors, neighbors=few).shape[1] == spec.dims  # it needs none
            return
        with pytest.raises(MapError, match=rf"needs \(120, {num_neighbors(spec)}\)"):
            place(spec, vectors, neighbors=few)

    def test_keeps_clusters_together(self, spec):
        vectors = clusters()
        assert METRICS["trustworthiness"](vectors, make(spec, vectors)) > 0.8

    def test_does_not_stretch_its_axes_to_one_size(self, spec):
        extent = np.ptp(make(spec, clusters(seed=1)), axis=0)
        assert extent.max() / extent.min() > 1.02

    def test_queries_come_first(self, spec):
        vectors = clusters(20)
        far = dataclasses.replace(vectors, key=vectors.key + 1_000)
        placed = make(spec, far).astype(np.float64)
        queries, keys = placed[:20], placed[20:]
        centres = queries.mean(axis=0), keys.mean(axis=0)
        assert all(np.linalg.norm(q - centres[0]) < np.linalg.norm(q - centres[1]) for q in queries)

    @pytest.mark.parametrize("tokens", [1, 2, 3, 9])
    def test_tiny_inputs_are_placed_or_refused(self, spec, tokens):
        vectors = clusters(tokens)
        if 2 * tokens < MAPS[self.method].min_points:
            with pytest.raises(
                MapError, match=f"{2 * tokens} points; .* needs at least {MAPS[self.method].min_points}"
            ):
                make(spec, vectors)
        else:
            assert np.isfinite(make(spec, vectors)).all()

    @pytest.mark.parametrize("case", ["duplicates", "constant", "zero", "one dimension", "huge", "tiny"])
    def test_degenerate_vectors_are_placed(self, spec, case):
        rng = np.random.default_rng(0)
        query, key = {
            "duplicates": (
                np.repeat(rng.normal(size=(3, 4)), 20, axis=0),
                np.repeat(rng.normal(size=(3, 4)), 20, axis=0),
            ),
            "constant": (np.full((20, 4), 1.0), np.full((20, 4), 2.0)),
            "zero": (np.zeros((20, 4)), np.zeros((20, 4))),
            "one dimension": (rng.normal(size=(20, 1)), rng.normal(size=(20, 1))),
            "huge": (rng.normal(size=(20, 4)) * 1e25, rng.normal(size=(20, 4)) * 1e25),
            "tiny": (rng.normal(size=(20, 4)) * 1e-25, rng.normal(size=(20, 4)) * 1e-25),
        }[case]
        placed = make(spec, joint(query, key))
        assert placed.shape == (2 * len(query), spec.dims)
        assert np.isfinite(placed).all()

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_vectors_that_are_not_finite_are_refused(self, spec, bad):
        vectors = clusters()
        near = neighbors(vectors.points, num_neighbors(spec))
        key = vectors.key.copy()
        key[3, 1] = bad
        with pytest.raises(MapError, match="NaN or infinity"):
            place(spec, dataclasses.replace(vectors, key=key), neighbors=near)

    def test_parameters_are_described_and_their_defaults_accepted(self):
        parameters = MAPS[self.method].parameters
        for field in dataclasses.fields(parameters):
            within = field.metadata["within"]
            assert within.read(field.default) == field.default
            assert re.search(rf"^    {field.name}$", parameters.__doc__, re.MULTILINE), (
                f"{field.name} has no description"
            )

    def test_parameters_out_of_range_or_of_another_type_are_refused(self):
        for field in dataclasses.fields(MAPS[self.method].parameters):
            within = field.metadata["within"]
            beyond = () if isinstance(within, OneOf) else (within.low - 1, within.high + 1)
            for wrong in (*beyond, "many", True, float("nan"), [1]):
                spec = MapSpec("a map", self.method, 2, {field.name: wrong})
                if wrong == float("inf"):
                    continue
                with pytest.raises(MapError, match=f"{field.name} = .*; {self.method} takes {re.escape(str(within))}"):
                    parse(spec)

    @pytest.mark.parametrize("dims", [0, 1, 4, 2.5, True, "2"])
    def test_other_dimensions_are_refused(self, dims):
        with pytest.raises(MapError, match=r"makes maps of 2 or 3 dimensions"):
            parse(MapSpec("a map", self.method, dims))

    def test_unknown_parameters_are_refused(self):
        with pytest.raises(MapError, match=f"'metrik', which {self.method} does not take"):
            parse(MapSpec("a map", self.method, 2, {"metrik": "cosine"}))


class MetricContract:
    """For one entry of ``METRICS``."""

    metric: str

    def better(self, first: float, second: float) -> bool:
        return first > second if METRICS[self.metric].better == "higher" else first < second

    @pytest.mark.parametrize("tokens", [1, 2, 3, 7, 25, 26, 51, 90])
    def test_is_within_its_range_whatever_the_size(self, tokens):
        metric, vectors = METRICS[self.metric], clusters(tokens)
        for placed in (
            vectors.points,
            np.random.default_rng(0).normal(size=(2 * tokens, 2)),
            np.zeros((2 * tokens, 2)),
        ):
            value = metric(vectors, placed.astype(np.float32))
            assert metric.low <= value <= metric.high
            assert isinstance(value, float)

    def test_the_same_seed_gives_the_same_number(self):
        vectors = clusters(3_000, length=6)
        placed = vectors.points[:, :2]
        values = [METRICS[self.metric](vectors, placed, seed=seed) for seed in (1, 1, 2)]
        assert values[0] == values[1]
        assert values[0] != values[2]
        assert values[0] == pytest.approx(values[2], abs=0.05)

    def test_a_random_map_is_worse_than_one_that_keeps_every_distance(self):
        metric, vectors = METRICS[self.metric], clusters(150, length=10)
        random = np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)
        shuffled = np.random.default_rng(1).permutation(vectors.points)
        assert self.better(metric(vectors, vectors.points), metric(vectors, random))
        assert self.better(metric(vectors, vectors.points), metric(vectors, shuffled))

    def test_turning_moving_and_enlarging_a_map_change_nothing(self):
        metric, vectors = METRICS[self.metric], clusters(80)
        placed = vectors.points[:, :2]
        turned = (placed[:, ::-1] * 8 + 64).astype(np.float32)
        assert metric(vectors, turned) == pytest.approx(metric(vectors, placed), abs=1e-4)

    @pytest.mark.parametrize("placed", [np.zeros((9, 2)), np.zeros(40), np.full((40, 2), np.nan)])
    def test_other_coordinates_are_refused(self, placed):
        with pytest.raises(MapError, match=r"A map was given coordinates .*\(40, dims\)"):
            METRICS[self.metric](clusters(20), placed)

    def test_can_be_sent_to_a_worker(self):
        assert pickle.loads(pickle.dumps(METRICS[self.metric])) == METRICS[self.metric]

    def test_is_described(self):
        metric = METRICS[self.metric]
        assert metric.name == self.metric
        assert metric.description.endswith(".")
        assert metric.score.__doc__
