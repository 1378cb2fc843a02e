"""Runs with images for the tests of their views, and where in them the tests look."""

import pytest

from attnviz.store import RunDirectory
from tests.fakes import write_fake_run, write_fake_streams

PLACE = (1, 3)  # layer and head
SEQUENCE = 7  # in the second shard
CLS = 0


@pytest.fixture(scope="module", name="paths")
def image_paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    made = {"picture": write_fake_run(folder / "picture", image=True), "text": write_fake_run(folder / "text")}
    return made | {kind: write_fake_streams(folder / kind, kind, sink=True) for kind in ("stages", "mixed")}


@pytest.fixture(scope="module", name="runs")
def image_runs(paths):
    return {name: RunDirectory(path) for name, path in paths.items()}


@pytest.fixture(scope="module", name="run")
def image_run(runs):
    return runs["picture"]


def weights_of(run, sequence=SEQUENCE, place=PLACE):
    return run.attention(*place, sequence).weights
