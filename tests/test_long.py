"""Long sequences: no n × n weights of the model exist to compare with, so what attention puts out is compared instead."""

import dataclasses
import tracemalloc

import pytest
import torch

from attnviz.capturing import capture, check, inspect, require_exact
from attnviz.capturing import check as check_function
from attnviz.errors import CaptureError
from attnviz.models.transformers_text import TextModel
from attnviz.pipeline import prepare
from attnviz.pipeline.prepare import Prepared, probe_sequences
from attnviz.types import ModelSpec, Record
from tests import tiny

checking = __import__("sys").modules[check_function.__module__]


@pytest.fixture
def short(monkeypatch):
    """Call a sequence long that has more than ten tokens."""
    monkeypatch.setattr(checking, "LONG", 10)
    monkeypatch.setattr(prepare, "LONG", 10)


def probes(model):
    texts = [*tiny.SENTENCES, " ".join(tiny.SENTENCES)]
    sequences = tuple(model.encode(Record(str(i), text=text)) for i, text in enumerate(texts))
    return probe_sequences(Prepared(sequences, {}))


@pytest.mark.parametrize("family", tiny.TEXT_CONFIGS)
def test_outputs_of_long_sequences_agree(short, family):
    model = tiny.text_model(family)
    chosen = probes(model)
    assert max(map(len, chosen.short)) <= 10 < len(chosen.long[0])
    layers = inspect(model, chosen.short, longest={"": len(chosen.long[0])})
    results = check(model, chosen.all, layers, dtype="float32")
    assert all(result.ok for result in results)
    assert 0 < max(result.exact for result in results) <= 1e-5


@pytest.mark.parametrize("change", [{"window": 12}, {"causal": False}, {"scaling": 0.5}, {"softcap": 2.0}], ids=str)
def test_a_rule_that_is_wrong_in_long_sequences_alone_is_refused(short, change):
    model = tiny.text_model("llama")
    chosen = probes(model)
    layers = [dataclasses.replace(info, **change) for info in inspect(model, chosen.short)]
    with pytest.raises(CaptureError, match="differs from the model's own"):
        require_exact(model, check(model, chosen.all, layers))


def test_a_window_that_no_short_sequence_shows_is_refused(short):
    """Mistral's window of 30 is declared; when it is not believed, only a long sequence can tell."""
    config = tiny.TEXT_CONFIGS["mistral"]()
    config.sliding_window = 16
    model = TextModel(tiny.module(config), tiny.tokenizer(), ModelSpec("tiny/mistral"))
    chosen = probes(model)
    layers = inspect(model, chosen.short)
    assert {info.window for info in layers} == {16}  # declared, and not against what was seen
    assert all(result.ok for result in check(model, chosen.all, layers))
    unaware = [dataclasses.replace(info, window=None) for info in layers]
    assert not any(result.ok for result in check(model, chosen.all, unaware))


def test_where_every_sequence_is_long_the_start_of_one_stands_for_them(short):
    model = tiny.text_model("llama")
    sequence = model.encode(Record("x", text=" ".join(tiny.SENTENCES)))
    chosen = probe_sequences(Prepared((sequence, sequence), {}))
    assert sorted(map(len, chosen.short)) == [5, 10]
    assert [len(one) for one in chosen.long] == [len(sequence)]
    assert all(result.ok for result in check(model, chosen.all))


def test_no_matrix_of_all_heads_is_made_of_a_long_text():
    """8 heads × 4,096² logits would be 512 MB; what capture holds beside the model's own is some blocks of a few."""
    from attnviz.capturing import survey
    from attnviz.models.torch_module import TorchModel

    config = tiny.transformers.LlamaConfig(
        vocab_size=50, hidden_size=64, num_hidden_layers=1, num_attention_heads=8, num_key_value_heads=4,
        intermediate_size=64, max_position_embeddings=4096,
    )  # fmt: skip
    ids = torch.randint(0, 50, (1, 4096))
    model = TorchModel(tiny.module(config), [{"input_ids": ids}], "long")
    tracemalloc.start()
    found = survey(model)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 4096**2  # bytes: some masks of one head, and no list of all pairs
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        capture(model, model.collate(found.sequences), found.layers, lambda vectors: None)
    assert largest <= 4096 * 4096  # at most a mask of one head, which the model may make itself
