"""Planted faults are caught, whatever a model does to ``q·k`` and however it was watched."""

import dataclasses
import functools

import numpy as np
import pytest
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from attnviz import capturing as capture
from attnviz.capturing import run as capture_run
from attnviz.errors import CaptureError
from attnviz.models.families import families, quietly
from attnviz.pipeline.checking import family_records


@pytest.fixture(autouse=True)
def _quietly():
    with quietly():
        yield


@functools.cache
def built(name):
    model = families()[name].build()
    sequences = [model.encode(record) for record in family_records(families()[name])]
    return model, sequences, capture.inspect(model, sequences)


def checked_with_fault(monkeypatch, name, change):
    """Check a family whose vectors are wrong: ``change(vectors, info, batch)``."""
    original = capture_run.layer_vectors

    def faulty(call, info, batch, dtype, **options):
        return change(original(call, info, batch, dtype, **options), info, batch)

    monkeypatch.setattr(capture_run, "layer_vectors", faulty)
    model, sequences, layers = built(name)
    return capture.check(model, sequences, layers, dtype="float32")


def _shuffled(vectors, info, batch):
    ends = np.cumsum(batch.lengths[info.query_stream])[:-1]
    return dataclasses.replace(vectors, query=np.concatenate(np.split(vectors.query, ends)[::-1]))


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "bloom",
        "falcon",
        "t5",
        "bart",
        "modernbert",
        "deepseek_v3",
        "swin",
        "beit",
        "clip",
        "vit_small_patch14_reg4_dinov2",
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda vectors, *_: dataclasses.replace(vectors, query=vectors.query * 1.1), id="scaling wrong"),
        pytest.param(_shuffled, id="batch order shuffled"),
        pytest.param(
            lambda vectors, *_: dataclasses.replace(vectors, key=np.roll(vectors.key, 1, axis=0)), id="keys shifted"
        ),
    ],
)
def test_wrong_vectors_are_caught(monkeypatch, name, change):
    results = checked_with_fault(monkeypatch, name, change)
    assert not any(result.ok for result in results)
    with pytest.raises(CaptureError, match="is refused: in layer"):
        capture.require_exact(built(name)[0], results)


@pytest.mark.parametrize(
    "name", ["llama", "gpt_oss", "gemma3_text", "qwen3_next", "mixtral", "vit_base_patch16_sapiens2"]
)
def test_key_heads_shared_wrongly_are_caught(monkeypatch, name):
    results = checked_with_fault(
        monkeypatch, name, lambda vectors, *_: dataclasses.replace(vectors, key=vectors.key[:, ::-1])
    )
    assert not any(result.ok for result in results)


@pytest.mark.parametrize("name", ["t5", "bart", "marian"])
def test_keys_of_the_decoder_in_cross_attention_are_caught(monkeypatch, name):
    last = {}

    def mixed_up(vectors, info, _):
        if info.stack != "cross":
            last[info.stack] = vectors.key
            return vectors
        return dataclasses.replace(vectors, key=np.resize(last["decoder"], vectors.key.shape))

    results = checked_with_fault(monkeypatch, name, mixed_up)
    assert {result.info.stack for result in results if not result.ok} == {"cross"}


@pytest.mark.parametrize("name", ["llama", "bloom", "falcon", "t5", "beit", "swin", "vit_tiny_patch16_224"])
def test_a_skipped_layer_is_caught(monkeypatch, name):
    model, sequences, layers = built(name)
    original = capture_run.BACKENDS[layers[0].seam]()

    def skipping(module, see, *, own="output"):
        seen = []

        def some(call):
            seen.append(call.name)
            if len(seen) != 2 or own == "weights":
                see(call)

        return original(module, some, own=own)

    monkeypatch.setitem(capture_run.BACKENDS, layers[0].seam, lambda: skipping)
    with pytest.raises(CaptureError, match=r"the check had (not )?seen"):
        capture.check(model, sequences, layers, dtype="float32")


def checked_as(name, change):
    """Check a family whose layers are described wrongly: ``change(info)``, or None where it has nothing to change."""
    model, sequences, layers = built(name)
    wrong = {info.layer: change(info) for info in layers if change(info) is not None}
    assert wrong
    results = capture.check(model, sequences, [wrong.get(info.layer, info) for info in layers], dtype="float32")
    return [result.ok for result in results if result.info.layer in wrong]


def _without(*names):
    def change(info):
        terms = info.terms
        found = (
            {} if terms is None else {name: getattr(terms, name) for name in names if getattr(terms, name) is not None}
        )
        if not found:
            return None
        flat = {name: None if name == "sinks" else np.zeros_like(values) for name, values in found.items()}
        return dataclasses.replace(info, terms=dataclasses.replace(terms, **flat))

    return change


def _one_off(name, by):
    def change(info):
        value = getattr(info, name)
        return None if value is None else dataclasses.replace(info, **{name: value + by})

    return change


def _uncapped(info):
    return None if info.softcap is None else dataclasses.replace(info, softcap=None)


def _seeing_all(info):
    return dataclasses.replace(info, causal=False) if info.causal else None


BIASED = ["bloom", "mpt", "t5", "beit", "swin", "swin_tiny_patch4_window7_224"]
SLIDING = ["mistral", "gemma3_text", "modernbert", "gpt_neo", "gpt_oss"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, _without("by_distance", "by_place")) for name in BIASED),
        *((name, _without("sinks")) for name in ("gpt_oss", "hy_v4")),
        *((name, _one_off("window", 1)) for name in SLIDING),
        *((name, _one_off("window", -1)) for name in SLIDING),
        ("llama4_text", _one_off("chunk", 1)),
        ("gemma2", _uncapped),
        *((name, _seeing_all) for name in ("llama", "bart", "falcon", "gptj", "clip")),
    ],
)  # fmt: skip
def test_layers_described_wrongly_are_caught(name, change):
    assert not any(checked_as(name, change))


TURNED = ["llama", "gemma3_text", "modernbert", "phi", "qwen3_moe", "esmc"]


@pytest.mark.parametrize("name", TURNED)
def test_rope_is_taken_off_and_put_on_again_exactly(name):
    model, sequences, _ = built(name)
    layers = capture.inspect(model, sequences, rope="before")
    assert all(info.rope == "before" and info.rebuilt for info in layers)
    assert all(result.ok for result in capture.check(model, sequences, layers, dtype="float32"))


@pytest.mark.parametrize("name", TURNED)
def test_rope_on_the_wrong_side_is_caught(monkeypatch, name):
    model, sequences, after = built(name)
    before = capture.inspect(model, sequences, rope="before")
    taken_off = capture_run._unrotated
    monkeypatch.setattr(capture_run, "_unrotated", lambda call: call)  # not taken off, though the layer says so
    assert not any(result.ok for result in capture.check(model, sequences, before, dtype="float32"))
    monkeypatch.setattr(capture_run, "_unrotated", taken_off)
    original = capture_run.layer_vectors

    def too_much(call, info, *rest, **options):
        return original(call, dataclasses.replace(info, rope="before"), *rest, **options)

    monkeypatch.setattr(
        capture_run, "layer_vectors", too_much
    )  # taken off, though the layer says that it is still there
    assert not any(result.ok for result in capture.check(model, sequences, after, dtype="float32"))


@pytest.mark.parametrize("name", ["bert", "bart", "modernbert", "gemma3_text", "roberta"])
def test_a_dropped_mask_is_caught(monkeypatch, name):
    model, sequences, layers = built(name)
    capture.check(model, sequences, layers)  # registers our functions
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS, "attnviz_sdpa", lambda **_: None)
    with pytest.raises(CaptureError, match="changes the output"):
        capture.check(model, sequences, layers)
