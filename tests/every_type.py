"""A tiny folder of every model type of the installed transformers that can be made: weights, configuration, tokenizer, processor.

Sizes are shared, and go to a configuration and those within it under whatever names they have there. A type that needs more than
that to be small, or whose own code does not run on a bare configuration, is left out, and the test says how many are.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from attnviz.models.families import language, vision
from attnviz.models.families.language import drawn, tiny_config
from attnviz.models.families.words import tokenizer

__all__ = ["TYPES", "NotMadeError", "save"]

TYPES = tuple(sorted(CONFIG_MAPPING))

_MOST = 3_000_000  # weights of a tiny model: whatever is larger has a size that nobody named

_SIZES: dict[str, Any] = language._SIZES | {
    **dict.fromkeys(["depth", "num_hidden_layers", "n_layers", "encoder_layers", "decoder_layers", "num_blocks"], 2),
    **dict.fromkeys(["embed_dim", "encoder_hidden_size", "decoder_hidden_size", "projection_dim", "hidden_dim"], 32),
    **dict.fromkeys(["qformer_hidden_size", "out_hidden_size", "text_embed_dim", "audio_embed_dim", "lstm_dim"], 32),
    **dict.fromkeys(["encoder_num_heads", "decoder_num_heads", "num_head", "attention_heads"], 4),
    **dict.fromkeys(["vocab_size_per_layer_input", "text_vocab_size", "audio_vocab_size"], 40),
    **dict.fromkeys(["max_source_positions", "max_target_positions", "max_pos_emb", "max_len"], 64),
    **dict.fromkeys(["encoder_ffn_dim", "decoder_ffn_dim", "ffn_hidden_size", "mlp_dim", "feed_forward_size"], 48),
    "image_size": 24,
    "patch_size": 4,
    "num_mel_bins": 16,
    "feature_size": 16,
    "prediction_length": 4,
    "context_length": 8,
    "lags_sequence": [1, 2],
    "conv_dim": (16, 16),
    "conv_kernel": (4, 4),
    "conv_stride": (4, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
    "num_experts_per_tok": 2,
}


class NotMadeError(Exception):
    """A type of which no tiny model can be made here, and why."""


def save(model_type: str, folder: Path) -> str:
    """Write a tiny model of a type as its users have it; return the name of its class. Raises ``NotMadeError``."""
    try:
        config = _config(model_type)
        factory = _factory(config)
        with torch.device("meta"):
            most = sum(weight.numel() for weight in factory.from_config(config).parameters())
    except Exception as error:
        raise NotMadeError(f"{type(error).__name__}: {error}") from error
    if most > _MOST:
        raise NotMadeError(f"{most:,} weights")
    try:
        module = drawn(config, factory)
        module.save_pretrained(folder)
    except Exception as error:
        raise NotMadeError(f"{type(error).__name__}: {error}") from error
    tokenizer().save_pretrained(folder)
    if (processor := _image_processor(config)) is not None:
        processor.save_pretrained(folder)
    return type(module).__name__


def _config(model_type: str) -> Any:
    if model_type in vision._TYPES:
        return CONFIG_MAPPING[model_type](**vision._TYPES[model_type][1])
    if any(model_type in names.split() for names in language._BY_KIND.values()):
        return tiny_config(model_type)
    return _small(CONFIG_MAPPING[model_type])


def _small(kind: Any) -> Any:
    """Return a configuration in tiny sizes, and those within it; sizes that do not go together are left as they are."""
    whole = kind()
    known = inspect.signature(kind).parameters
    synonyms = getattr(kind, "attribute_map", {})
    given = {synonyms.get(name, name): size for name, size in _SIZES.items()}
    sizes = {name: size for name, size in given.items() if name in known and _alike(getattr(whole, name, None), size)}
    for name in getattr(kind, "sub_configs", {}):
        part = getattr(whole, name, None)
        if isinstance(part, transformers.PreTrainedConfig):
            sizes[name] = _small(type(part))
    if getattr(whole, "layer_types", None) and "layer_types" in known:
        sizes |= language._one_of_each(whole.layer_types)
    return kind(**sizes)


def _alike(value: Any, size: Any) -> bool:
    """Tell whether a value may become a size: lists of stages stay, for their lengths hang together."""
    return value is None or (
        isinstance(value, bool) == isinstance(size, bool)
        and (isinstance(value, int | float) == isinstance(size, int | float))
    )


def _factory(config: Any) -> Any:
    """Return the class that makes the model of a configuration: the bare one, or else the first with a head."""
    if type(config) in transformers.AutoModel._model_mapping:
        return transformers.AutoModel
    for name in dir(transformers):
        made = getattr(transformers, name) if name.startswith("AutoModelFor") else None
        if made is not None and type(config) in made._model_mapping:
            return made
    raise NotMadeError(f"{config.model_type} has no model class of its own")


def _image_processor(config: Any) -> Any:
    """Return what reads its images, of its own kind and in its size; None where it reads none."""
    parts = [config, *(getattr(config, name) for name in getattr(config, "sub_configs", {}) if getattr(config, name))]
    names = [part.model_type for part in parts if part.model_type in IMAGE_PROCESSOR_MAPPING_NAMES]
    if not names:
        reads = getattr(transformers.AutoModel._model_mapping.get(type(config), None), "main_input_name", "")
        return transformers.ViTImageProcessor(size={"height": 24, "width": 24}) if reads == "pixel_values" else None
    sizes = [size for part in parts if (size := getattr(part, "image_size", None))]
    size = sizes[0] if sizes else 24
    high, wide = (size, size) if isinstance(size, int) else size
    kind = transformers.AutoImageProcessor  # by the name that the mapping has
    for part in parts:
        entry = IMAGE_PROCESSOR_MAPPING_NAMES.get(part.model_type)
        entries = list(entry.values()) if isinstance(entry, dict) else [one for one in entry or () if one]
        for name in reversed(entries):
            kind = getattr(transformers, name, None)
            if kind is None:
                continue
            for options in ({"size": {"height": high, "width": wide}, "do_center_crop": False}, {}):
                try:
                    return kind(**options)
                except Exception:
                    continue
    return None
