"""Tiny models of transformers that read an image and a text together."""

from collections.abc import Callable
from typing import Any

import transformers

from attnviz.models.families import Family
from attnviz.models.families.language import drawn
from attnviz.models.families.words import tokenizer
from attnviz.models.transformers_mixed import LlavaLike, TwoTowers
from attnviz.types import ModelSpec

__all__ = ["FAMILIES"]

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


def _clip() -> TwoTowers:
    config = transformers.CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=_SIDES)
    return TwoTowers(drawn(config), transformers.CLIPProcessor(images, tokenizer()), ModelSpec("tiny/clip"))


def _siglip() -> TwoTowers:
    config = transformers.SiglipConfig(text_config=_TEXT | {"max_position_embeddings": 24}, vision_config=_VISION)
    words = tokenizer()
    words.model_max_length = 24
    processor = transformers.SiglipProcessor(transformers.SiglipImageProcessor(size=_SIDES), words)
    return TwoTowers(drawn(config), processor, ModelSpec("tiny/siglip"))


def _llava() -> LlavaLike:
    words = tokenizer()
    image = len(words)
    words.add_tokens(["<image>"], special_tokens=True)
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**_TEXT | {"num_key_value_heads": 2, "vocab_size": 41}),
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        image_token_id=image,
    )
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=_SIDES)
    processor = transformers.LlavaProcessor(
        images, words, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    return LlavaLike(drawn(config), processor, ModelSpec("tiny/llava"))


_BUILDS: dict[str, Callable[[], TwoTowers]] = {"clip": _clip, "llava": _llava, "siglip": _siglip}

FAMILIES: tuple[Family, ...] = tuple(Family(name, "transformers", "pair", build) for name, build in _BUILDS.items())
"""Tiny models of image and text, by model type."""
