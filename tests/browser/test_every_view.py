"""A walk by mouse through every view of a text run and of an image run: what is shown is what the model itself computed.

The model's weights come from its own attention, run here without attnviz. The line is a busy one, where what is late shows.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import transformers

import attnviz
from attnviz.inputs import read
from attnviz.recipe import DataOptions
from attnviz.resources import resource
from tests.browser.conftest import Shown, serving

MODELS = {"text": "docs-llama", "image": "digits-vit"}
SOURCES = {"text": "builtin:sentences", "image": "builtin:digits"}
SEQUENCE, LAYER, HEAD = 3, 2, 1


def llama_weights(run):
    """Return what the language model attends to in a sequence, ``(layers, heads, queries, keys)``."""
    folder = resource("data", "models", MODELS["text"])
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = run.tokens["vocab_id"].to_numpy(np.int64)[run.token_slice(SEQUENCE)]
    with torch.inference_mode():
        layers = model(torch.from_numpy(ids)[None], output_attentions=True).attentions
    return torch.cat(layers).numpy()


def digits_weights(run):
    """Return what the vision model attends to in an image, ``(layers, heads, queries, keys)``."""
    model = timm.create_model(f"local-dir:{resource('data', 'models', MODELS['image'])}", pretrained=True).eval()
    record = next(
        record
        for record in read("builtin:digits", options=DataOptions(), seed=0).records
        if record.reference == run.sequences["reference"].iloc[SEQUENCE]
    )
    mean, std = model.pretrained_cfg["mean"][0], model.pretrained_cfg["std"][0]
    pixels = (np.asarray(record.image(), np.float32) / 255 - mean) / std
    found = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, given, result: found.append(result))
    with torch.inference_mode():
        model(torch.from_numpy(pixels)[None, None])
    return torch.cat(found).numpy()


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Yield for each modality the address of a run, the run, and what its model attends to."""
    folder = tmp_path_factory.mktemp("walked")
    runs = {}
    for kind, model in MODELS.items():
        recipe = {
            "name": kind,
            "model": {"id": f"builtin:{model}"},
            "data": {"source": SOURCES[kind], "max_tokens": 340},
            "capture": {"dtype": "float32"},
            "maps": {"pca": {}},
        }
        runs[kind] = attnviz.run(recipe, out=folder / kind, workers=1)
    own = {"text": llama_weights, "image": digits_weights}
    with serving((run.path for run in runs.values()), busy=True) as address:
        yield {kind: SimpleNamespace(run=run, own=own[kind](run), address=address) for kind, run in runs.items()}


def tab(shown, name):
    shown.page.get_by_role("tab", name=name, exact=True).click()


def wait(shown, selector, words):
    return shown.assert_until(lambda: shown.text(selector), lambda text: words in text)


def from_the_wall_into_a_head(shown, walk):
    """The wall counts its points and names a head; a click opens it."""
    run = walk.run
    shown.open(f"{walk.address}?run={run.name}&map=pca").painted("wall-image")
    heads = sum(info.num_heads for info in run.layers.values())
    wait(shown, ".summary", f"{heads} heads on map pca, in each {run.num_tokens:,} queries and {run.num_tokens:,} keys")
    shown.page.mouse.move(*shown.at("wall", HEAD + 0.5, -LAYER - 0.06))
    tip = shown.assert_until(lambda: shown.data("tip", "text"), bool)[0]
    assert f"Layer {LAYER} · Head {HEAD}" in tip
    assert f"trustworthiness {run.scores('pca').loc[(LAYER, HEAD), 'trustworthiness']:.2f}" in tip
    shown.page.mouse.click(*shown.at("wall", HEAD + 0.5, -LAYER - 0.06))
    wait(shown, "h1", f"Layer {LAYER} · Head {HEAD}")
    shown.painted("patches" if walk.run.manifest.model.modality == "image" else "dots")


def from_the_table_into_a_sequence(shown, walk):
    """The table counts the sequences; a click opens one, whose lines are the model's weights."""
    tab(shown, "Sequences")
    wait(shown, ".summary", f"{walk.run.num_sequences} sequences")
    shown.page.locator(".tabulator-row").nth(SEQUENCE).click()
    shown.goes_to(f"sequence={SEQUENCE}")
    tab(shown, "Sentence")
    shown.page.get_by_role("button", name="Clear selection").click()
    lines_are_the_models(shown, walk.own[LAYER])


def lines_are_the_models(shown, weights):
    """The lines are the strongest weights of all heads of the layer; there may be too many to draw every one."""

    def read():
        columns = [shown.data("heads-lines", name) for name in ("head", "query", "key", "alpha")]
        return [] if columns[0] is None or len(set(map(len, columns))) > 1 else list(zip(*columns, strict=True))

    lines = shown.assert_until(read, lambda lines: len({query for _, query, *_ in lines}) > 9)  # not of one token
    drawn = {tuple(map(int, place)): weight for *place, weight in lines}
    for place, weight in drawn.items():
        assert weight == pytest.approx(weights[place], abs=1e-5)
    least = max(0.02, min(drawn.values())) + 1e-5
    assert {tuple(place) for place in np.argwhere(weights > least)} <= drawn.keys()


def from_all_thumbnails_into_a_head(shown, walk, token):
    """A thumbnail opens its head; the weights beside its map are the model's."""
    tab(shown, "Model")
    shown.painted("model-image")
    shown.page.mouse.click(*shown.at("model", HEAD + 0.5, -LAYER - 0.5))
    wait(shown, "h1", f"Layer {LAYER} · Head {HEAD}")
    row = walk.own[LAYER, HEAD, token - walk.run.token_slice(SEQUENCE).start]
    wait(shown, ".beside table", f"{row.max() * 100:.1f} %")


def down_to_the_numbers(shown, walk, token):
    """One query and one key: the product, the scaled product, the weight; and the address brings all of it back."""
    tab(shown, "Neuron")
    first = walk.run.token_slice(SEQUENCE).start
    row = walk.own[LAYER, HEAD, token - first]
    key = int(row.argmax())
    wait(shown, ".steps", f"{row[key] * 100:.2f} %")
    vectors = walk.run.head(LAYER, HEAD).vectors()
    product = shown.data("neuron-sum", "value")[-1]
    assert product == pytest.approx(float(vectors.query[token] @ vectors.key[first + key]), rel=1e-4)
    address = shown.goes_to("view=neuron")
    other = Shown(shown.page.context.new_page()).open(address)
    assert shown.text(".steps") == wait(other, ".steps", f"{row[key] * 100:.2f} %")
    assert other.text("h1") == shown.text("h1")
    assert other.page.url == address
    assert other.errors == []


def test_a_text_run(shown, walked):
    walk = walked["text"]
    from_the_wall_into_a_head(shown, walk)
    from_the_table_into_a_sequence(shown, walk)
    token = walk.run.token_slice(SEQUENCE).start + 5
    shown.open(f"{shown.page.url}&token={token}")
    from_all_thumbnails_into_a_head(shown, walk, token)
    down_to_the_numbers(shown, walk, token)
    assert shown.goes_to(f"map=pca&view=neuron&layer={LAYER}&head={HEAD}&token={token}")


def test_an_image_run(shown, walked):
    walk = walked["image"]
    from_the_wall_into_a_head(shown, walk)
    from_the_table_into_a_sequence(shown, walk)
    tab(shown, "Image")
    shown.painted("image-heat")
    shown.page.mouse.click(*shown.at("image", 2.5, -1.5))
    first = walk.run.token_slice(SEQUENCE).start
    shown.goes_to(f"token={first + 7}")
    row = walk.own[LAYER, HEAD, 7]
    wait(shown, ".image-said", f"Query patch 1, 2 gives {row[1:].sum() * 100:.1f} % to patches")
    shown.assert_until(lambda: shown.data("image-marks", "text"), lambda text: f"{row[0] * 100:.1f} %" in text[0])
    from_all_thumbnails_into_a_head(shown, walk, first + 7)
    down_to_the_numbers(shown, walk, first + 7)
    assert shown.goes_to(f"map=pca&view=neuron&layer={LAYER}&head={HEAD}&token={first + 7}")


def test_a_drag_that_is_under_way_does_not_undo_a_reset(shown, walked):
    walk = walked["text"]
    shown.open(f"{walk.address}?run={walk.run.name}&map=pca&local=true&near_zoom=4").painted("wall-image")
    box = shown.page.get_by_role("button", name="Reset view").bounding_box()
    shown.page.mouse.move(*shown.at("wall", 0.6, -0.4))
    shown.page.mouse.down()
    shown.page.mouse.move(*shown.at("wall", 0.9, -0.4), steps=40)
    shown.page.mouse.up()
    shown.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.assert_until(lambda: shown.page.url, lambda url: "near_" not in url)
    shown.page.wait_for_timeout(1500)  # what is still on its way
    assert "near_" not in shown.page.url
