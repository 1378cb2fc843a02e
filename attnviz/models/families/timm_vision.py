"""Tiny vision models of timm: every kind of layout, windows, stages and special tokens that its transformers have."""

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from timm.models import gcvit, metaformer

from attnviz.models.families import Family
from attnviz.models.images import Grid
from attnviz.models.timm_images import TimmModel
from attnviz.models.timm_layouts import REFUSED
from attnviz.types import ModelSpec

__all__ = ["FAMILIES", "REFUSED_TIMM", "tiny"]

REFUSED_TIMM: dict[str, str] = {part.partition(".")[0]: reason for part, reason in REFUSED.items()}
"""Architectures, by timm's name of their file, whose attention cannot be rebuilt from stored vectors, and why."""

_PLAIN = """
    aimv2_large_patch14_224 beit3_base_patch16_224 beit_base_patch16_224 beitv2_base_patch16_224 deit3_small_patch16_224
    deit_tiny_distilled_patch16_224 deit_tiny_patch16_224 eva02_base_patch16_clip_224 eva02_tiny_patch14_224
    eva_giant_patch14_224 flexivit_small vit_base_patch16_clip_224 vit_base_patch16_gap_224 vit_base_patch16_siglip_224
    vit_base_patch16_xp_224 vit_giant_patch14_reg1_tipsv2 vit_medium_patch16_reg1_gap_256
    vit_medium_patch16_rope_reg1_gap_256 vit_pe_core_tiny_patch16_384 vit_pe_spatial_tiny_patch16_512
    vit_relpos_base_patch16_cls_224 vit_relpos_small_patch16_224 vit_small_patch14_reg4_dinov2 vit_small_patch16_18x2_224
    vit_small_patch16_dinov3 vit_small_patch16_lingbot vit_small_patch16_rope_224 vit_small_patch16_rope_ape_224
    vit_small_patch16_rope_mixed_224 vit_so150m_patch16_reg4_map_256 vit_srelpos_small_patch16_224 vit_tiny_patch16_224
    naflexvit_base_patch16_gap
""".split()

_VIT = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 3}
_SWIN = {"window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 3}
_PYRAMID = {"embed_dims": (16, 32), "num_heads": (2, 4), "mlp_ratios": (2, 2), "depths": (2, 2), "num_classes": 3}
_PIT = {"patch_size": 8, "stride": 4, "base_dims": (8, 8), "depth": (2, 2), "heads": (2, 4), "num_classes": 3}
_MAXVIT = {"depths": (1, 1), "embed_dim": (32, 32), "stem_width": 16, "num_classes": 3}
_COATNET = {"depths": (1, 1, 1, 1), "embed_dim": (32, 32, 32, 64), "stem_width": 16, "num_classes": 3}
_ENCODER = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
_SIZED = "img_size"  # the option that says for which images a model is made

_OTHERS: dict[str, tuple[Grid, dict[str, Any], bool]] = {
    "coatnet_nano_rw_224": ((64, 96), _COATNET, True),
    "davit_tiny": (
        (40, 56),
        {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (2, 4), "window_size": 4, "num_classes": 3},
        False,
    ),
    "deepseek_vit_412m_enc": ((32, 48), _ENCODER, True),
    "efficientformer_l1": (
        (224, 224),
        {"depths": (1, 1, 1, 2), "embed_dims": (16, 16, 32, 32), "num_vit": 1, "num_classes": 3},
        False,
    ),
    "fastvit_sa12": ((64, 96), {"layers": (1, 1, 1, 1), "embed_dims": (16, 16, 32, 32), "num_classes": 3}, False),
    "gemma4_vit_167m_enc": ((48, 96), _ENCODER, True),
    "maxvit_pico_rw_256": ((64, 64), _MAXVIT, True),
    "maxvit_tiny_tf_224": ((64, 128), _MAXVIT, True),
    "maxxvit_rmlp_nano_rw_256": ((64, 96), _MAXVIT, True),
    "maxxvitv2_nano_rw_256": ((64, 96), _MAXVIT, True),
    "mobilevit_xxs": ((64, 128), {"num_classes": 3}, False),
    "pit_ti_224": ((32, 32), _PIT, True),
    "pit_ti_distilled_224": ((32, 32), _PIT, True),
    "pvt_v2_b0": ((32, 48), _PYRAMID | {"sr_ratios": (2, 1)}, False),
    "pvt_v2_b2_li": ((32, 48), _PYRAMID | {"sr_ratios": (2, 1)}, False),
    "qwen3_vit_88m_enc": ((32, 64), _ENCODER, True),
    "swin_tiny_patch4_window7_224": ((40, 56), _SWIN, True),
    "swinv2_cr_tiny_224": ((32, 64), _SWIN, True),
    "swinv2_tiny_window8_256": ((32, 48), _SWIN, True),
    "tiny_vit_5m_224": (
        (64, 96),
        {
            "embed_dims": (16, 32, 32),
            "depths": (1, 2, 2),
            "num_heads": (2, 4, 4),
            "window_sizes": (4, 4, 4),
            "num_classes": 3,
        },
        False,
    ),
    "tnt_s_patch16_224": (
        (32, 48),
        {"embed_dim": 32, "depth": 2, "inner_dim": 16, "num_heads_inner": 2, "num_heads_outer": 4, "num_classes": 3},
        True,
    ),
    "twins_pcpvt_small": ((32, 48), _PYRAMID | {"patch_size": 4, "sr_ratios": (2, 1)}, True),
    "visformer_tiny": ((64, 64), {"embed_dim": 32, "depth": (1, 1, 1), "num_heads": 4, "num_classes": 3}, True),
    "vit_base_patch16_sapiens2": ((16, 24), _VIT | {"num_kv_heads": 2}, True),
    "vit_tiny_r_s16_p8_224": ((64, 64), {"embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 3}, True),
}
"""Name, size of its images, options, and whether the model is made for images of that size."""


def tiny(make: Callable[[], Any], name: str, size: Grid) -> TimmModel:
    """Return a model with weights large enough that its attention is not flat.

    Parameters
    ----------
    size
        Height and width of its images.
    """
    torch.manual_seed(0)
    module = make()
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(std=0.3)
    about = {
        "input_size": (3, *size),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    module.pretrained_cfg = module.default_cfg = about
    return TimmModel(module, ModelSpec(f"tiny/{name}", library="timm"))


def _created(name: str, size: Grid, options: dict[str, Any], sized: bool) -> TimmModel:
    more = {_SIZED: size[0] if name.startswith("pit_") else size} if sized else {}
    return tiny(partial(timm.create_model, name, **more, **options), name, size)


def _gcvit() -> TimmModel:
    sizes = {"depths": (1, 2), "num_heads": (2, 4), "window_size": (4, 4), "embed_dim": 16, "num_classes": 3}
    return tiny(partial(gcvit.GlobalContextVit, img_size=(64, 64), **sizes), "gcvit", (64, 64))


def _caformer() -> TimmModel:
    mixers = [metaformer.SepConv] * 2 + [metaformer.Attention] * 2
    norms = [metaformer.LayerNorm2dNoBias] * 2 + [metaformer.LayerNormNoBias] * 2
    sizes = {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 64), "num_classes": 3}
    make = partial(metaformer.MetaFormer, token_mixers=mixers, norm_layers=norms, **sizes)
    return tiny(make, "caformer", (64, 96))


FAMILIES: tuple[Family, ...] = (
    *(Family(name, "timm", "vision", partial(_created, name, (16, 24), _VIT, True)) for name in _PLAIN),
    *(
        Family(name, "timm", "vision", partial(_created, name, size, options, sized))
        for name, (size, options, sized) in _OTHERS.items()
    ),
    Family("caformer_s18", "timm", "vision", _caformer),
    Family("gcvit_tiny", "timm", "vision", _gcvit),
)
"""Tiny vision models of timm, by the name of the architecture that they are small ones of."""
