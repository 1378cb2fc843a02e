"""Windows, stages, biases and two towers through the whole line: what a run keeps gives every layer's attention back."""

import json

import numpy as np
import pytest

from attnviz.capturing import check
from attnviz.capturing.run import BACKENDS
from attnviz.capturing.windows import opened
from attnviz.models.families import families
from attnviz.pipeline.checking import sample_sequences
from attnviz.pipeline.placing import make_maps
from attnviz.pipeline.prepare import Prepared
from attnviz.pipeline.run import write_run
from attnviz.recipe import make_recipe
from attnviz.store import RunDirectory
from attnviz.views import prepare_wall


def made(folder, name):
    """Capture a tiny model of a family into a run, with two maps."""
    model = families()[name].build()
    given = {"name": name, "model": {"id": name}, "data": {"source": "memory"}, "capture": {"dtype": "float32"}}
    recipe = make_recipe(given | {"maps": {"pca": {}, "attention": {}}})
    sequences = tuple(sample_sequences(model))
    out = folder / "run"
    write_run(recipe, out, model, Prepared(sequences, {}), seconds={}, progress=lambda *_: None)
    run = RunDirectory(out)
    make_maps(run, recipe.maps, workers=1, progress=lambda *_: None)
    return model, sequences, run


@pytest.mark.parametrize("name", ["swin", "beit", "clip", "llava", "vit"])
def test_every_layer_is_rebuilt_from_the_run(tmp_path, name):
    model, sequences, run = made(tmp_path, name)
    owns = {}

    def see(call):
        windows = model.windows.get(call.name)
        weights = call.weights if windows is None else opened(call.weights, len(windows))
        owns[call.name] = weights.float().numpy()

    layers = check(model, sequences)
    with BACKENDS[layers[0].info.seam]()(model.module, see, own="weights"):
        model.forward(model.collate(sequences))
    for number, layer in run.layers.items():
        for sequence in range(len(sequences)):
            rebuilt = run.attention(number, 1, sequence).weights
            own, windows = owns[layer.name][sequence], model.windows.get(layer.name)
            if windows is None:
                np.testing.assert_allclose(rebuilt, own[1, : rebuilt.shape[0], : rebuilt.shape[1]], atol=1e-5)
                continue
            for window, places in zip(own[:, 1], windows, strict=True):
                there = np.flatnonzero(places >= 0)
                tokens = places[there]
                np.testing.assert_allclose(rebuilt[np.ix_(tokens, tokens)], window[np.ix_(there, there)], atol=1e-5)
            np.testing.assert_allclose(rebuilt.sum(axis=1), 1, atol=1e-5)  # and nothing goes to another window


def test_stages_of_swin_have_their_own_tokens_and_maps(tmp_path):
    _, _, run = made(tmp_path, "swin")
    assert len(run.streams) > 1
    assert {layer.stack for layer in run.layers.values()} == set(run.streams)
    shifted = [layer for layer in run.layers.values() if layer.terms is not None and layer.terms.group is not None]
    assert shifted
    for number in run.layers:
        placed, points = run.coordinates("attention", number), run.points(number)
        there = np.isfinite(placed).all(axis=(0, 2))
        np.testing.assert_array_equal(np.flatnonzero(there[: run.num_tokens]), points.query)
    patches = run.tokens[run.tokens.stream == run.streams[1]]
    assert patches.groupby("sequence_id", observed=True)[["patch_row", "patch_col"]].nunique().nunique().eq(1).all()
    assert prepare_wall(run, "attention").points.shape[0] == sum(layer.num_heads for layer in run.layers.values())


def test_points_lie_where_their_vectors_put_them_whatever_the_order_of_windows(tmp_path):
    """Maps are made window by window; what is stored must be back in the order of the tokens."""
    _, _, run = made(tmp_path, "swin")
    number = next(number for number, layer in run.layers.items() if layer.terms is not None)
    order, _ = run.sequences_of(number)
    assert order is not None
    assert not np.array_equal(order, np.arange(len(order)))
    points, vectors = run.points(number), run.vectors(number, 0)
    placed = run.coordinates("pca", number, 0)[points.query]
    steps, moves = (np.linalg.norm(values - values[0], axis=1) for values in (vectors.query, placed))
    assert np.corrcoef(steps, moves)[0, 1] > 0.6
    landed = run_landing(run, number)(vectors.query[:4], vectors.key[:4])
    np.testing.assert_allclose(landed[:4], placed[:4], atol=1e-3)


def run_landing(run, layer):
    from attnviz.pipeline.landing import landing

    return landing(run, "pca", layer, 0)


def test_tokens_of_a_mixed_run_say_of_what_they_are(tmp_path):
    _, _, run = made(tmp_path, "llava")
    tokens = run.tokens
    assert run.manifest.model.modality == "text+image"
    assert set(tokens["modality"]) == {"text", "image"}
    language = tokens[tokens["stream"] == "language"]
    assert set(language["modality"]) == {"text", "image"}
    assert language.loc[language["modality"] == "image", "patch_row"].notna().all()
    assert language.loc[language["modality"] == "text", "patch_row"].isna().all()
    assert run.image_png(0)[:4] == b"\x89PNG"
    assert {"vision", "language"} <= {
        layer["stack"] for layer in json.loads((run.path / "manifest.json").read_text())["layers"]
    }
