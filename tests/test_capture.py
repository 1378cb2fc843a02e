"""Capture is exact or refused: against the model's own attention, with padding, and with faults planted."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from attnviz import capturing as capture
from attnviz.attention import weights
from attnviz.capturing import run as capture_run
from attnviz.capturing.contract import Call
from attnviz.errors import CaptureError
from attnviz.models.transformers_text import TextModel
from attnviz.types import LayerInfo, LayerVectors, ModelSpec, Record
from tests import tiny


def text_sequences(model):
    return [model.encode(Record(f"line {i}", text=text)) for i, text in enumerate(tiny.SENTENCES)]


def image_sequences(model):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (3, 20, 24, 3), np.uint8)
    return [model.encode(Record(f"image {i}", image=partial(images.__getitem__, i))) for i in range(3)]


@pytest.fixture(params=[*tiny.TEXT_CONFIGS, "hf_vit", "timm_vit"])
def model_and_sequences(request):
    if request.param in tiny.TEXT_CONFIGS:
        model = tiny.text_model(request.param)
        return model, text_sequences(model)
    model = getattr(tiny, request.param)()
    return model, image_sequences(model)


def test_rebuilt_attention_is_the_models_own(model_and_sequences):
    model, sequences = model_and_sequences
    for stored, accepted in (("float16", 1e-3), ("float32", 1e-5)):
        results = capture.check(model, sequences, dtype=stored)
        assert len(results) == (3 if "albert" in model.info.id else 2)
        assert all(result.ok for result in results)
        assert max(result.stored for result in results) <= accepted
        assert max(result.exact for result in results) <= 1e-5


def test_a_watched_model_computes_what_an_unwatched_one_does(model_and_sequences):
    model, sequences = model_and_sequences
    layers = capture.inspect(model, sequences)
    batch = model.collate(sequences)
    plain = model.forward(batch)
    watched = capture.capture(model, batch, layers, lambda vectors: None)
    torch.testing.assert_close(watched, plain, rtol=0, atol=0)
    torch.testing.assert_close(model.forward(batch), plain, rtol=0, atol=0)  # and leaves nothing behind


def test_layer_vectors_have_the_promised_shapes_and_normalisers():
    model = tiny.text_model("mistral")
    sequences = text_sequences(model)
    layers = capture.inspect(model, sequences)
    seen: list[LayerVectors] = []
    capture.capture(model, model.collate(sequences), layers, seen.append)
    tokens = sum(len(sequence) for sequence in sequences)
    for info, vectors in zip(layers, seen, strict=True):
        assert (info.num_heads, info.num_kv_heads, info.causal, info.window) == (4, 2, True, 4)
        assert vectors.query.shape == (tokens, 4, 8)
        assert vectors.key.shape == (tokens, 2, 8)
        assert vectors.value_norm.shape == (tokens, 2)
        first = slice(0, len(sequences[0]))
        query, key = vectors.query[first].swapaxes(0, 1), vectors.key[first].swapaxes(0, 1).repeat(2, axis=0)
        whole = np.log(weights(query, key, info)[:, -1, -1])  # log weight = logit - logsumexp
        logit = (query[:, -1] * key[:, -1]).sum(-1) * info.scaling
        np.testing.assert_allclose(whole, logit - vectors.logsumexp[first][-1], atol=1e-5)


def test_logsumexp_in_blocks_is_the_same(monkeypatch):
    model = tiny.text_model("mistral")
    sequences = text_sequences(model)
    layers = capture.inspect(model, sequences)

    def normalisers():
        seen: list[LayerVectors] = []
        capture.capture(model, model.collate(sequences), layers, seen.append)
        return [vectors.logsumexp for vectors in seen]

    whole = normalisers()
    monkeypatch.setattr(capture_run, "_BLOCK", 1)
    np.testing.assert_allclose(normalisers(), whole, rtol=1e-6)


def test_layers_are_chosen_by_number():
    model = tiny.text_model("llama")
    sequences = text_sequences(model)
    layers = capture.inspect(model, sequences)
    seen: list[LayerVectors] = []
    capture.capture(model, model.collate(sequences), layers, seen.append, only={1})
    assert [vectors.layer for vectors in seen] == [1]


def _fault(change):
    """Wrap ``layer_vectors`` so that what it returns is wrong in one way."""
    original = capture_run.layer_vectors

    def faulty(call: Call, info: LayerInfo, *rest, **options):
        return change(original(call, info, *rest, **options))

    return faulty


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda v: dataclasses.replace(v, key=v.key[:, ::-1]), id="kv heads mis-shared"),
        pytest.param(lambda v: dataclasses.replace(v, query=np.roll(v.query, 1, axis=0)), id="tokens shifted"),
        pytest.param(lambda v: dataclasses.replace(v, query=v.query * 1.1), id="scaling wrong"),
        pytest.param(lambda v: dataclasses.replace(v, key=v.query[:, :2]), id="query for key"),
    ],
)
def test_planted_faults_are_refused(monkeypatch, change):
    model = tiny.text_model("llama")
    monkeypatch.setattr(capture_run, "layer_vectors", _fault(change))
    results = capture.check(model, text_sequences(model))
    assert not any(result.ok for result in results)
    with pytest.raises(CaptureError, match=r"tiny/llama is refused: in layer 0 \(layers\.0\.self_attn\).*differs"):
        capture.require_exact(model, results)


@pytest.mark.parametrize("change", [{"causal": False}, {"scaling": 1.0}, {"window": 2}], ids=str)
def test_wrong_layer_descriptions_are_refused(change):
    model = tiny.text_model("llama")
    sequences = text_sequences(model)
    layers = [dataclasses.replace(info, **change) for info in capture.inspect(model, sequences)]
    assert not all(result.ok for result in capture.check(model, sequences, layers))


def test_a_dropped_mask_is_refused(monkeypatch):
    """Without the mask function under our name padded rows come out silently wrong."""
    from transformers import AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    model = tiny.text_model("bert")
    sequences = text_sequences(model)
    layers = capture.inspect(model, sequences)
    capture.check(model, sequences, layers)  # registers our functions
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS, "attnviz_sdpa", lambda **_: None)
    assert "attnviz_sdpa" in AttentionMaskInterface()
    with pytest.raises(CaptureError, match="changes the output"):
        capture.check(model, sequences, layers)


def test_values_that_are_not_finite_are_refused():
    model = tiny.text_model("llama")
    sequences = text_sequences(model)
    layers = capture.inspect(model, sequences)
    with torch.no_grad():
        model.module.layers[1].self_attn.k_proj.weight[0, 0] = torch.nan
    with pytest.raises(CaptureError, match=r"Layer 1 .*not finite"):
        capture.capture(model, model.collate(sequences), layers, lambda vectors: None)


def test_half_precision_models_pass_within_their_own_rounding():
    module = tiny.module(tiny.TEXT_CONFIGS["llama"]()).to(torch.bfloat16)
    model = TextModel(module, tiny.tokenizer(), ModelSpec("tiny/llama", dtype="bfloat16"))
    results = capture.check(model, text_sequences(model))
    assert all(result.ok for result in results)
    assert max(result.exact for result in results) > 1e-6
