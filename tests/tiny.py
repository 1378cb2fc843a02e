"""Tiny models of real architectures: 4 heads and 2 kv heads where the family has them (2 and 2 hides mistakes)."""

import json
from pathlib import Path

import timm
import torch
import transformers
from safetensors.torch import save_file

from attnviz.models.families.language import drawn
from attnviz.models.families.pairs import processor as mixed_processor
from attnviz.models.families.pairs import tiny as two_towers
from attnviz.models.families.words import SENTENCES, WORDS, tokenizer
from attnviz.models.timm_images import TimmModel
from attnviz.models.transformers_images import ImageModel
from attnviz.models.transformers_text import TextModel
from attnviz.types import ModelSpec

__all__ = ["SENTENCES", "WORDS", "mixed_processor", "tokenizer", "two_towers"]  # beside what is defined here

SPEC = ModelSpec("tiny/model", device="cpu")


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
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=40, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=64, pad_token_id=0
    ),
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=32, n_head=4, n_layer=2, vocab_size=40, n_positions=64, bos_token_id=2, eos_token_id=3
    ),
}


def module(config: transformers.PreTrainedConfig, factory: type = transformers.AutoModel) -> torch.nn.Module:
    return drawn(config, factory).eval()


def text_model(family: str) -> TextModel:
    return TextModel(module(TEXT_CONFIGS[family]()), tokenizer(), ModelSpec(f"tiny/{family}"))


SEQ2SEQ_CONFIGS = {
    "t5": lambda: transformers.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=40, decoder_start_token_id=0, eos_token_id=3
    ),
    "bart": lambda: transformers.BartConfig(**_seq2seq_sizes(), decoder_start_token_id=3, forced_bos_token_id=2),
    "mbart": lambda: transformers.MBartConfig(**_seq2seq_sizes()),
    "marian": lambda: transformers.MarianConfig(**_seq2seq_sizes(), decoder_start_token_id=0),
    "pegasus": lambda: transformers.PegasusConfig(**_seq2seq_sizes(), decoder_start_token_id=0),
    "m2m_100": lambda: transformers.M2M100Config(**_seq2seq_sizes(), decoder_start_token_id=3),
}


def _seq2seq_sizes() -> dict:
    stacks = {f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in _STACK.items()}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    return {"d_model": 32, "vocab_size": 40, "max_position_embeddings": 64, **ids, **stacks}


_STACK = {"layers": 2, "attention_heads": 4, "ffn_dim": 48}


def seq2seq_base(family: str) -> torch.nn.Module:
    return module(SEQ2SEQ_CONFIGS[family]())


def seq2seq_head(family: str) -> torch.nn.Module:
    return module(SEQ2SEQ_CONFIGS[family](), transformers.AutoModelForSeq2SeqLM)


def causal_head(family: str) -> torch.nn.Module:
    return module(TEXT_CONFIGS[family](), transformers.AutoModelForCausalLM)


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


def classifier(config: transformers.PreTrainedConfig, factory: type, names: tuple[str, ...]) -> torch.nn.Module:
    """A model with its classification head, drawn so that it finds several classes; one name stands for a value."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    made = module(config, factory)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(2)
    return made


def save_text_classifier(folder: Path, family: str, names: tuple[str, ...], **more: object) -> Path:
    """Write a folder of a model that classifies texts, as ``save_pretrained`` does."""
    config = (TEXT_CONFIGS | SEQ2SEQ_CONFIGS)[family]()
    for name, value in more.items():
        setattr(config, name, value)
    classifier(config, transformers.AutoModelForSequenceClassification, names).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_image_classifier(folder: Path, names: tuple[str, ...]) -> Path:
    """Write a folder of a model that classifies images."""
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=16, patch_size=4
    )
    classifier(config, transformers.AutoModelForImageClassification, names).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder
