"""Tiny models of transformers that read an image and a text together."""

from functools import partial
from typing import Any

import transformers

from attnviz.models.families import Family
from attnviz.models.families.language import drawn
from attnviz.models.families.words import tokenizer
from attnviz.models.transformers_mixed import LlavaLike, TwoTowers
from attnviz.types import ModelSpec

__all__ = ["FAMILIES", "configuration", "processor", "tiny"]

_TEXT: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 4,
}
_SIDES = {"height": 16, "width": 16}


def configuration(name: str) -> transformers.PreTrainedConfig:
    """Return a configuration of a family in tiny sizes."""
    if name == "clip":
        return transformers.CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16)
    if name == "siglip":
        return transformers.SiglipConfig(text_config=_TEXT | {"max_position_embeddings": 24}, vision_config=_VISION)
    return transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**_TEXT | {"num_key_value_heads": 2, "vocab_size": 41}),
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        image_token_id=len(tokenizer()),
    )


def processor(name: str) -> transformers.ProcessorMixin:
    """Return what reads texts and images for the tiny model of a family."""
    words = tokenizer()
    if name == "siglip":
        words.model_max_length = 24
        return transformers.SiglipProcessor(transformers.SiglipImageProcessor(size=_SIDES), words)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=_SIDES)
    if name == "clip":
        return transformers.CLIPProcessor(images, words)
    words.add_tokens(["<image>"], special_tokens=True)
    return transformers.LlavaProcessor(
        images, words, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )


def tiny(name: str, **options: Any) -> TwoTowers:
    """Return the tiny model of a family; ``options`` are set in its configuration."""
    config = configuration(name)
    config.update(options)
    return _KINDS[name](drawn(config), processor(name), ModelSpec(f"tiny/{name}"))


_KINDS: dict[str, type[TwoTowers]] = {"clip": TwoTowers, "llava": LlavaLike, "siglip": TwoTowers}

FAMILIES: tuple[Family, ...] = tuple(Family(name, "transformers", "pair", partial(tiny, name)) for name in _KINDS)
"""Tiny models of image and text, by model type."""
