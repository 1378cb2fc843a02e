"""A run of a tiny model, made in one go, and what makes another like it."""

import hashlib

import pandas as pd
import pytest

import attnviz
from tests import tiny

LINES = [f"{sentence} {word}" for word in tiny.WORDS[:10] for sentence in tiny.SENTENCES]


def digests(path):
    """The bytes of every Parquet file."""
    return {
        str(f.relative_to(path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(path.rglob("*.parquet"))
    }


@pytest.fixture(name="model", scope="module")
def tiny_model(tmp_path_factory):
    return tiny.save_text_model(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture(name="data", scope="module")
def tiny_data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "lines.csv"
    pd.DataFrame({"text": LINES, "tone": [i % 3 for i in range(len(LINES))], "who": "me"}).to_csv(path, index=False)
    return path


@pytest.fixture(name="recipe")
def tiny_recipe(model, data):
    return {
        "name": "tiny",
        "model": {"id": str(model)},
        "data": {"source": str(data)},
        "capture": {"shard_tokens": 100, "batch_tokens": 64},
        "maps": {"pca": {}, "pca_3d": {"method": "pca", "dims": 3}},
    }


@pytest.fixture(name="finished", scope="module")
def finished_run(tmp_path_factory, model, data):
    """A run of the recipe above, made in one go."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    given = {
        "name": "tiny",
        "model": {"id": str(model)},
        "data": {"source": str(data)},
        "capture": {"shard_tokens": 100, "batch_tokens": 64},
        "maps": {"pca": {}, "pca_3d": {"method": "pca", "dims": 3}},
    }
    return attnviz.run(given, out=out, workers=1)
