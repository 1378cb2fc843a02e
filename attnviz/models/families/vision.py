"""Tiny vision models of transformers, one of every type whose attention can be rebuilt."""

from functools import partial
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from attnviz.models.families import Family
from attnviz.models.families.language import drawn
from attnviz.models.images import Grid
from attnviz.models.transformers_images import ImageModel, image_model
from attnviz.models.transformers_layouts import REFUSED
from attnviz.types import ModelSpec

__all__ = ["FAMILIES", "REFUSED_VISION", "tiny"]

REFUSED_VISION = REFUSED
"""Vision model types whose attention cannot be rebuilt from stored vectors, and why."""

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "patch_size": 4,
}
_SWIN: dict[str, Any] = {"patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
_PYRAMID: dict[str, Any] = {"depths": [1] * 4, "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 2, 4, 4]}
_WIDE, _SQUARE = {"image_size": (16, 24)}, {"image_size": 24}

_TYPES: dict[str, tuple[Grid, dict[str, Any]]] = {
    "aimv2_vision_model": ((24, 24), _SIZES | _SQUARE),
    "beit": ((16, 24), _SIZES | _WIDE | {"use_relative_position_bias": True}),
    "chinese_clip_vision_model": ((24, 24), _SIZES | _SQUARE),
    "clip_vision_model": ((16, 24), _SIZES | _SQUARE),
    "data2vec-vision": ((16, 24), _SIZES | _WIDE | {"use_relative_position_bias": True}),
    "deit": ((16, 24), _SIZES | _WIDE),
    "dinov2": ((16, 24), _SIZES | {"image_size": 16, "mlp_ratio": 2}),
    "dinov2_with_registers": ((16, 24), _SIZES | {"image_size": 16, "mlp_ratio": 2, "num_register_tokens": 3}),
    "dinov3_vit": ((16, 24), _SIZES | _WIDE | {"num_register_tokens": 4}),
    "donut-swin": ((40, 56), _SWIN | {"image_size": (40, 56)}),
    "dpt": ((24, 24), _SIZES | _SQUARE),
    "glpn": ((64, 96), _PYRAMID),
    "idefics3_vision": ((24, 24), _SIZES | _SQUARE),
    "ijepa": ((16, 24), _SIZES | _WIDE),
    "internvl_vision": ((16, 16), _SIZES | {"image_size": [16, 16], "patch_size": [4, 4]}),
    "maskformer-swin": ((40, 56), _SWIN | {"image_size": (40, 56)}),
    "mlcd_vision_model": ((24, 24), _SIZES | _SQUARE),
    "mobilevit": ((64, 64), {"image_size": 64, "hidden_sizes": [16, 20, 24], "neck_hidden_sizes": [16] * 7}),
    "pixio": ((16, 24), _SIZES | {"image_size": 16, "mlp_ratio": 2, "n_cls_tokens": 2}),
    "pvt": ((32, 32), _PYRAMID | {"image_size": 32, "sequence_reduction_ratios": [4, 2, 1, 1]}),
    "pvt_v2": ((64, 96), _PYRAMID | {"image_size": 64, "sr_ratios": [4, 2, 1, 1]}),
    "segformer": ((64, 96), _PYRAMID),
    "siglip2_vision_model": ((16, 24), _SIZES | {"num_patches": 36}),
    "siglip_vision_model": ((24, 24), _SIZES | _SQUARE),
    "smolvlm_vision": ((24, 24), _SIZES | _SQUARE),
    "swin": ((40, 56), _SWIN | {"image_size": (40, 56)}),
    "swin2sr": (
        (16, 16),
        {"image_size": 16, "patch_size": 1, "embed_dim": 16, "depths": [2], "num_heads": [2], "window_size": 4},
    ),
    "swinv2": ((32, 48), _SWIN | {"image_size": (32, 48)}),
    "tipsv2_vision_model": ((24, 24), _SIZES | _SQUARE),
    "vit": ((16, 24), _SIZES | _WIDE),
    "vit_mae": ((16, 24), _SIZES | _WIDE),
    "vit_msn": ((16, 24), _SIZES | _WIDE),
    "yolos": ((16, 24), _SIZES | {"image_size": [16, 24], "num_detection_tokens": 3}),
}
"""Model type, size of its images, and its configuration."""


def tiny(name: str, size: Grid, options: dict[str, Any]) -> ImageModel:
    """Return a model of a type with weights large enough that its attention is not flat.

    Parameters
    ----------
    size
        Height and width of its images.
    options
        Of its configuration.
    """
    module = drawn(CONFIG_MAPPING[name](**options))
    return image_model(module, _processor(name, size), ModelSpec(f"tiny/{name}", library="transformers"))


def _processor(name: str, size: Grid) -> Any:
    if name == "siglip2_vision_model":
        return transformers.Siglip2ImageProcessor(patch_size=4, max_num_patches=size[0] * size[1] // 16)
    return transformers.ViTImageProcessor(size={"height": size[0], "width": size[1]})


FAMILIES: tuple[Family, ...] = tuple(
    Family(name, "transformers", "vision", partial(tiny, name, size, options))
    for name, (size, options) in _TYPES.items()
    if name in CONFIG_MAPPING
)
"""Tiny vision models of transformers, by model type."""
