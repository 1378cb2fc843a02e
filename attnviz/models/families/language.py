"""Tiny language models of every transformers family that names its model type: sizes are shared, exceptions are listed.

A size goes to a family under whatever name its configuration has for it. Where layers are of several types, one layer of each
is made, so that sliding and full attention, or recurrence and attention, occur together.
"""

import inspect
from functools import partial
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from attnviz.models.families import Family, Kind
from attnviz.models.families.words import tokenizer
from attnviz.models.loaded import LoadedModel
from attnviz.models.transformers_seq2seq import EncoderDecoder
from attnviz.models.transformers_text import TextModel
from attnviz.types import ModelSpec

__all__ = ["FAMILIES", "drawn", "tiny_config"]

_BY_KIND: dict[Kind, str] = {
    "decoder": """
        afmoe apertus arcee aria_text axk2 bailing_hybrid bamba beam biogpt bitnet bloom codegen cohere cohere2
        cohere2_moe ctrl cwm dbrx deepseek_v2 deepseek_v3 deepseek_v32 diffllama dots1 ernie4_5 ernie4_5_moe exaone4
        exaone_moe falcon falcon_h1 flex_olmo flint gemma gemma2 gemma3_text gemma3n_text gemma4_text
        gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glm4v_text glm_moe_dsa gpt2 gpt_bigcode gpt_neo gpt_neox
        gpt_neox_japanese gpt_oss gptj granite granite_docling_text granitemoe granitemoehybrid granitemoeshared
        helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4 hyperclovax internlm3 iquestcoder jais2 jamba
        jetmoe kimi_linear kolibri1 laguna lfm2 lfm2_moe lfm3 llama llama4_text longcat_flash mellum mimo_v2_flash
        minicpm3 minimax minimax_m2 minimax_m3_vl_text ministral ministral3 mistral mistral4 mixtral
        modernbert-decoder molmo2_text mpt muse_glimmer_text nanochat nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid
        olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen2_5_vl_text qwen2_moe qwen2_vl_text qwen3
        qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen3_vl_moe_text qwen3_vl_text recurrent_gemma seed_oss
        smollm3 solar_open stablelm starcoder2 vaultgemma xglm youtu zamba zamba2
    """,
    "encoder": """
        albert bert bert-generation big_bird camembert clip_text_model convbert data2vec-text distilbert dpr electra
        embedding_gemma2_text ernie esm esmc eurobert flaubert gte ibert jina_embeddings_v3 layoutlm luke markuplm
        megatron-bert mobilebert modernbert mpnet nomic_bert nystromformer openai_privacy_filter rembert roberta
        roberta-prelayernorm roc_bert roformer splinter squeezebert tapas ultrabert visual_bert xlm xlm-roberta
        xlm-roberta-xl xmod
    """,
    "encoder-decoder": """
        bart blenderbot blenderbot-small fsmt m2m_100 marian mbart mt5 mvp nllb-moe pegasus plbart switch_transformers
        t5 t5gemma umt5
    """,
}

_SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "sliding_window": 4,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "cls_token_id": 2,
    "eos_token_id": 3,
    "sep_token_id": 3,
    "embedding_size": 32,
    "word_embed_proj_dim": 32,
    "rotary_dim": 4,
} | {
    # encoder-decoders, and the older names of sizes
    **dict.fromkeys(["d_model", "n_embd", "dim", "emb_dim"], 32),
    **dict.fromkeys(["n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["num_encoder_attention_heads", "num_decoder_attention_heads"], 4),
    **dict.fromkeys(["n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "num_decoder_layers"], 2),
    **dict.fromkeys(["num_encoder_layers"], 2),
    **dict.fromkeys(["d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "n_inner"], 48),
    **dict.fromkeys(["n_positions", "max_encoder_position_embeddings", "max_decoder_position_embeddings"], 64),
    "d_kv": 8,
} | {
    # experts
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts"], 4),
    **dict.fromkeys(["moe_intermediate_size", "shared_expert_intermediate_size"], 16),
    **dict.fromkeys(["n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"], 1),
    "num_experts_per_tok": 2,
} | {
    # latent attention, and what stands between attentions
    **dict.fromkeys(["q_lora_rank", "kv_lora_rank"], 16),
    **dict.fromkeys(["qk_nope_head_dim", "v_head_dim", "linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"], 8),
    **dict.fromkeys(["linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"], 4),
    **dict.fromkeys(["mamba_d_state", "mamba_d_conv", "qk_rope_head_dim"], 4),
    **dict.fromkeys(["mamba_n_heads", "mamba_d_head", "mamba_chunk_size", "chunk_size"], 8),
}  # fmt: skip

_LATENT = {"head_dim": 4, "num_key_value_heads": 4}  # head_dim is the rotated part there
_CHOSEN = {"index_head_dim": 8, "index_n_heads": 4}  # of the network that chooses keys in sequences beyond its limit
_ROTATED_IN_THREE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}

_PART = {
    name: _SIZES[name]
    for name in (
        "vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim intermediate_size "
        "max_position_embeddings sliding_window pad_token_id bos_token_id eos_token_id"
    ).split()
}

_EXCEPTIONS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["bailing_hybrid", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "kimi_linear"], _LATENT),
    **dict.fromkeys(["longcat_flash", "minicpm3", "mistral4", "youtu"], _LATENT),
    **dict.fromkeys(["axk2", "deepseek_v32", "glm_moe_dsa", "hy_v4"], _LATENT | _CHOSEN),
    **dict.fromkeys(["glm4v_text", "qwen2_vl_text", "qwen2_5_vl_text"], _ROTATED_IN_THREE),
    "bamba": {"attn_layer_indices": [1]},
    "ctrl": {"dff": 48},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 48, "moe_top_k": 2},
    },
    "esmc": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64},
    "fsmt": {"src_vocab_size": 40, "tgt_vocab_size": 40},
    "gemma4_text": {"vocab_size_per_layer_input": 40, "hidden_size_per_layer_input": 8, "global_head_dim": 8},
    "gemma3n_text": {
        "vocab_size_per_layer_input": 40,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "hrm_text": {"H_cycles": 1, "L_cycles": 1},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "llama4_text": {"attention_chunk_size": 4},
    "luke": {"entity_vocab_size": 40, "entity_emb_size": 16},
    "minimax_m3_vl_text": _CHOSEN | {"layer_types": ["full_attention", "minimax_m3_sparse"]},
    "marian": {"decoder_start_token_id": 0},
    "markuplm": {
        **dict.fromkeys(
            ["max_xpath_tag_unit_embeddings", "max_xpath_subs_unit_embeddings", "xpath_unit_hidden_size"], 8
        ),
        **dict.fromkeys(["tag_pad_id", "subs_pad_id"], 7),
        "max_depth": 4,
    },
    "modernbert": {"local_attention": 6},
    "modernbert-decoder": {"local_attention": 6},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "roc_bert": {
        **dict.fromkeys(["pronunciation_embed_dim", "shape_embed_dim"], 8),
        **dict.fromkeys(["pronunciation_vocab_size", "shape_vocab_size"], 40),
    },
    "t5gemma": {"encoder": _PART, "decoder": _PART},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid", "hybrid"], "num_hidden_layers": 3},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "adapter_rank": 4},
}


def tiny_config(model_type: str) -> transformers.PreTrainedConfig:
    """Return a configuration of a family in tiny sizes."""
    kind = CONFIG_MAPPING[model_type]
    known = inspect.signature(kind).parameters
    synonyms = getattr(kind, "attribute_map", {})
    given = {synonyms.get(name, name): size for name, size in _SIZES.items()} | _EXCEPTIONS.get(model_type, {})
    sizes = {name: size for name, size in given.items() if name in known}
    if "layer_types" in known and "layer_types" not in sizes:
        sizes |= _one_of_each(kind().layer_types)
    return kind(**sizes)


def _one_of_each(layer_types: list[str] | None) -> dict[str, Any]:
    """Return one layer of each type; two layers, if all are alike."""
    types = list(dict.fromkeys(layer_types or ()))
    types = types * 2 if len(types) == 1 else types
    return {"layer_types": types, "num_hidden_layers": len(types)} if types else {}


def drawn(config: transformers.PreTrainedConfig, factory: Any = transformers.AutoModel) -> torch.nn.Module:
    """Return a model of one of transformers' factories, with weights large enough that its attention is not flat."""
    torch.manual_seed(0)
    module: torch.nn.Module = factory.from_config(config)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(std=0.3)
    return module


def _build(model_type: str, kind: Kind) -> LoadedModel:
    made: type[TextModel] | type[EncoderDecoder] = EncoderDecoder if kind == "encoder-decoder" else TextModel
    return made(drawn(tiny_config(model_type)), tokenizer(), ModelSpec(f"tiny/{model_type}"))


FAMILIES = tuple(
    Family(name, "transformers", kind, partial(_build, name, kind))
    for kind, names in _BY_KIND.items()
    for name in names.split()
    if name in CONFIG_MAPPING
)
