"""Tiny models of real architectures: 4 heads and 2 kv heads where the family has them (2 and 2 hides mistakes)."""

import json
from pathlib import Path

import timm
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from attnviz.models.timm_images import TimmModel
from attnviz.models.transformers_images import ImageModel
from attnviz.models.transformers_text import TextModel
from attnviz.types import ModelSpec

WORDS = (
    "the a cat dog sat ran on under mat tree and then it was very happy because sun shone . , ? ! one two three".split()
)
SENTENCES = [
    "the cat sat on the mat , and then it was very happy because the sun shone .",
    "a dog ran .",
    "one two three",
    "then the dog ran under a tree and sat on it !",
]


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


def _sizes(**more: object) -> dict:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 40,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        **more,
    }


TEXT_CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**_sizes(num_key_value_heads=2)),
    "mistral": lambda: transformers.MistralConfig(**_sizes(num_key_value_heads=2, sliding_window=4)),
    "gemma2": lambda: transformers.Gemma2Config(**_sizes(num_key_value_heads=2, head_dim=8, sliding_window=4)),
    "qwen3": lambda: transformers.Qwen3Config(**_sizes(num_key_value_heads=2, head_dim=8)),
    "bert": lambda: transformers.BertConfig(**_sizes()),
    "albert": lambda: transformers.AlbertConfig(**_sizes(embedding_size=16, num_hidden_layers=3)),
    "modernbert": lambda: transformers.ModernBertConfig(
        **_sizes(local_attention=6, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3)
    ),
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=32, n_head=4, n_layer=2, vocab_size=40, n_positions=64, bos_token_id=2, eos_token_id=3
    ),
}


def module(config: transformers.PreTrainedConfig) -> torch.nn.Module:
    """A model with weights large enough that its attention is not flat."""
    torch.manual_seed(0)
    made = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.3)
    return made


def text_model(family: str) -> TextModel:
    return TextModel(module(TEXT_CONFIGS[family]()), tokenizer(), ModelSpec(f"tiny/{family}"))


def hf_vit() -> ImageModel:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=16, patch_size=4
    )
    processor = transformers.ViTImageProcessor(size=16)
    return ImageModel(module(config), processor, ModelSpec("tiny/vit"))


def timm_vit(**more: object) -> TimmModel:
    return TimmModel(timm_module(**more), ModelSpec("tiny/timm-vit"))


def timm_module(**more: object) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 3}
    made = timm.create_model("vit_tiny_patch16_224", **(sizes | more))
    made.pretrained_cfg = made.default_cfg = made.default_cfg | {"input_size": (3, 16, 16), "crop_pct": 1.0}
    return made


def save_text_model(folder: Path, family: str = "llama") -> Path:
    """Write a model folder as ``save_pretrained`` does."""
    module(TEXT_CONFIGS[family]()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_timm_model(folder: Path) -> Path:
    """Write a model folder as timm reads it with ``local-dir:``."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
    save_file(timm_module().state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 3,
        "model_args": sizes,
        "pretrained_cfg": {"input_size": [3, 16, 16], "crop_pct": 1.0, "num_classes": 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
