"""Tiny models of every family are captured exactly, the README names them, and others are refused by name."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from attnviz import capturing as capture
from attnviz.cli.support import support_table
from attnviz.errors import AttnvizError, ModelError
from attnviz.models import load
from attnviz.models.families import REFUSED, families, quietly, refusal, refusals
from attnviz.models.families.language import FAMILIES, drawn, tiny_config
from attnviz.models.families.words import tokenizer
from attnviz.models.transformers_text import TextModel
from attnviz.pipeline.checking import check_families, check_family, family_records, sample_sequences
from attnviz.types import ModelSpec

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
MECHANISMS = {
    "llama": {"causal"},
    "mistral": {"window"},
    "llama4_text": {"chunk"},
    "gemma2": {"softcap"},
    "gpt_oss": {"sinks"},
    "bloom": {"bias", "softmax"},  # ALiBi, multiplied by hand
    "gptj": {"causal", "softmax"},
    "falcon": {"multi-query", "sdpa"},
    "gpt_bigcode": {"multi-query"},
    "mixtral": {"causal"},  # experts
    "qwen3_next": {"causal"},  # recurrence in most layers
    "deepseek_v3": {"causal"},  # latent attention
    "albert": {"full"},  # tied layers
    "modernbert": {"full", "window"},
    "t5": {"bias", "cross"},
    "bart": {"cross"},
    "dinov2_with_registers": {"full"},
    "beit": {"bias"},
    "swin": {"bias", "group"},
    "swin_tiny_patch4_window7_224": {"bias", "group"},
    "vit_small_patch14_reg4_dinov2": {"sdpa"},
    "vit_base_patch16_sapiens2": {"sdpa"},  # fewer key heads
    "clip": {"streams"},
    "llava": {"streams"},
}


@pytest.fixture(autouse=True)
def _quietly():
    with quietly():
        yield


def mechanisms(layers):
    """What a model's layers do, in words."""
    terms = [info.terms for info in layers if info.terms is not None]
    there = {
        "causal": any(info.causal for info in layers),
        "full": any(not info.causal for info in layers),
        "window": any(info.window for info in layers),
        "chunk": any(info.chunk for info in layers),
        "softcap": any(info.softcap for info in layers),
        "sinks": any(one.sinks is not None for one in terms),
        "bias": any(one.by_distance is not None or one.by_place is not None for one in terms),
        "group": any(one.group is not None for one in terms),
        "multi-query": all(info.num_kv_heads == 1 < info.num_heads for info in layers),
        "cross": any(info.query_stream != info.key_stream for info in layers),
        "streams": len({info.query_stream for info in layers}) > 1,
    }
    return {word for word, found in there.items() if found} | {info.seam for info in layers}


def test_the_table_is_long_and_nothing_is_both_built_and_refused():
    by_library = {
        library: {name for name, one in families().items() if one.library == library}
        for library in ("transformers", "timm")
    }
    assert len(by_library["transformers"]) >= 45
    assert len(by_library["timm"]) >= 20
    assert {family.kind for family in FAMILIES} == {"encoder", "decoder", "encoder-decoder"}
    assert len({(one.library, one.kind, one.name) for one in refusals()}) == len(refusals())
    assert not set(families()) & {one.name for one in refusals()}


def test_the_readme_names_what_the_table_holds():
    section = README.partition("## Supported models\n")[2].partition("\n## ")[0]
    assert table_of(section) == table_of(support_table(list(families().values()), refusals(), {}))
    assert "`attnviz check --all-families`" in section


def table_of(text):
    """The cells of Markdown tables, without the differences that were found: those of another machine are its own."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("|")]
    return [["" if re.fullmatch(r"\d\.\de-\d\d", cell) else cell for cell in row] for row in rows]


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism_is_captured_exactly(name):
    result = check_family(families()[name])
    assert result.ok, result.reason
    assert result.largest <= 1e-5
    assert MECHANISMS[name] <= mechanisms([one.info for one in result.checks])
    if families()[name].kind == "encoder-decoder":
        assert {one.info.stack for one in result.checks} == {"encoder", "decoder", "cross"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(families()) - set(MECHANISMS)))
def test_every_other_family_is_captured_exactly(name):
    result = check_family(families()[name])
    assert result.ok, result.reason
    assert result.largest <= 1e-5


def test_a_family_that_fails_is_a_result_and_not_the_end():
    def broken():
        raise IndexError("out of range")

    result = check_family(dataclasses.replace(families()["llama"], build=broken))
    assert (result.ok, result.reason, result.largest) == (False, "IndexError: out of range", np.inf)
    assert [one.family.name for one in check_families(["llama", "longformer"])] == ["llama"]


@pytest.mark.parametrize(
    ("name", "count"), [("llama", 6), ("t5", 6), ("clip", 2), ("vit", 2), ("vit_tiny_patch16_224", 2)]
)
def test_samples_are_of_what_a_model_reads(name, count):
    model = families()[name].build()
    sequences = sample_sequences(model)
    assert len(sequences) == count
    assert all(result.ok for result in capture.check(model, sequences, dtype="float32"))


def test_sizes_reach_a_family_under_its_own_names():
    llama, gpt2, bart = tiny_config("llama"), tiny_config("gpt2"), tiny_config("bart")
    assert (llama.num_attention_heads, llama.num_key_value_heads, llama.vocab_size) == (4, 2, 40)
    assert (gpt2.n_head, gpt2.n_embd, gpt2.n_layer) == (4, 32, 2)
    assert (bart.encoder_layers, bart.decoder_attention_heads, bart.d_model) == (2, 4, 32)


def test_one_layer_of_each_type_is_made():
    assert tiny_config("gemma3_text").layer_types == ["sliding_attention", "full_attention"]
    assert set(tiny_config("qwen3_next").layer_types) == {"linear_attention", "full_attention"}


def test_a_family_is_built_the_same_every_time():
    outputs = []
    for _ in range(2):
        model = families()["bloom"].build()
        outputs.append(
            model.forward(model.collate([model.encode(record) for record in family_records(families()["bloom"])]))
        )
    assert torch.equal(*outputs)


# What is refused by name


@pytest.mark.parametrize(
    "name", sorted({one.name for one in refusals() if one.library == "transformers"} & set(CONFIG_MAPPING))
)
def test_refused_before_anything_is_loaded(tmp_path, name):
    """The folder holds a configuration and nothing else."""
    config = CONFIG_MAPPING[name]()
    config.relative_attention = True
    config.save_pretrained(tmp_path)
    reason = next(one.reason for one in refusals() if one.name == name)
    with pytest.raises(ModelError, match=r"refused: " + re.escape(reason)):
        load(ModelSpec(str(tmp_path), library="transformers"))


@pytest.mark.parametrize("name", ["deberta", "deberta-v2"])
def test_deberta_without_relative_attention_is_like_bert(name):
    config = CONFIG_MAPPING[name](**SMALL, type_vocab_size=0, relative_attention=False)
    assert refusal(config) is None
    model = text_model(config)
    assert all(result.ok for result in capture.check(model, read_by(model, "bert"), dtype="float32"))
    config.relative_attention = True
    assert refusal(config) == REFUSED[name]


SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
FEW_KEYS = {
    **{name: {"index_topk": 4} for name in ("axk2", "deepseek_v32", "glm_moe_dsa", "hy_v4")},
    "minimax_m3_vl_text": {"index_block_size": 2, "index_topk_blocks": 2},
}


@pytest.mark.parametrize("limit", [2048, 10], ids=["weights compared", "outputs compared"])
@pytest.mark.parametrize("name", FEW_KEYS)
def test_keys_chosen_by_a_second_network_are_refused_by_the_number(monkeypatch, name, limit):
    """In sequences beyond the limit of that network; shorter ones pass, as every family does."""
    monkeypatch.setattr(sys.modules["attnviz.capturing.check"], "LONG", limit)
    config = tiny_config(name)
    for option, value in FEW_KEYS[name].items():
        setattr(config, option, value)
    model = text_model(config)
    with pytest.raises(AttnvizError):
        capture.require_exact(model, capture.check(model, read_by(model, name), dtype="float32"))


def text_model(config):
    return TextModel(drawn(config), tokenizer(), ModelSpec("tiny/model"))


def read_by(model, name):
    return [model.encode(record) for record in family_records(families()[name])]
