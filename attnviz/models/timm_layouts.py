"""Where the tokens of timm's models stand, told by the attention modules that they are made of.

A plain transformer is one grid of patches after its special tokens. Others are recognised by their parts: each kind of part has
one line here that says where its grid and its windows show. What no line knows, or a line refuses, is refused by name.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from attnviz.errors import ModelError
from attnviz.models.images import (
    Cut,
    Grid,
    Layout,
    Look,
    Site,
    Stage,
    class_tokens,
    registers_named,
    surveyed,
    tiles,
    tried,
)

__all__ = ["REFUSED", "layout_of"]

_CHANNELS = "its attention is between channels, not between patches"
_BIASED = "it adds products of its queries with relative positions, which no key holds"
_MIXED = "it mixes the attention of its heads, so no query and key of one head give a weight"
_POOLED = "its queries are pooled from several patches"
_NO_SOFTMAX = "its attention is a linear one, without a softmax over patches"
_FIVE = "its windows are a dimension of their own, which the watcher does not hand over"

REFUSED: dict[str, str] = {
    "cait.TalkingHeadAttn": _MIXED,
    "coat.FactorAttnConvRelPosEnc": _NO_SOFTMAX,
    "convit.GPSA": "its gated attention is a sum of two softmaxes",
    "crossvit.CrossAttention": "it attends from one class token to the patches of another branch",
    "diff_attention.DiffAttention": "its attention is a difference of two softmaxes",
    "edgenext.CrossCovarianceAttn": _CHANNELS,
    "efficientformer_v2.Attention2d": _MIXED,
    "efficientvit_mit.LiteMLA": _NO_SOFTMAX,
    "efficientvit_msra.CascadedGroupAttention": "each of its heads reads the output of the one before, in a layer of its own",
    "hiera.MaskUnitAttention": _POOLED,
    "hieradet_sam2.MultiScaleAttention": _POOLED,
    "levit.AttentionDownsample": "its smaller stages attend to larger ones with a bias for each pair of places",
    "mobilevit.LinearSelfAttention": _NO_SOFTMAX,
    "mvitv2.MultiScaleAttention": _BIASED,
    "mvitv2.MultiScaleAttentionPoolFirst": _BIASED,
    "nest.Attention": _FIVE,
    "nextvit.EfficientAttention": "its keys are averages along rows, which are no patches",
    "shvit.SHSA": "its attention is on a part of the channels, in an order that the watcher does not see",
    "swiftformer.EfficientAdditiveAttention": _NO_SOFTMAX,
    "twins.LocallyGroupedAttn": _FIVE,
    "vision_transformer_sam.Attention": _BIASED,
    "volo.OutlookAttention": "the weights of its outlook attention come from one product, not from queries and keys",
    "xcit.XCA": _CHANNELS,
}
"""Parts of timm's models, ``file.Class``, whose attention cannot be rebuilt from stored vectors, and why."""

_Read = Callable[[tuple[Any, ...], Mapping[str, Any], Any], Any]


def _first(args: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> Any:
    return args[0].shape[-2:]  # (batch, channels, height, width)


def _first_channels_last(args: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> Any:
    return args[0].shape[1:3]


def _output(args: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> Any:
    return output.shape[-2:]


def _second(args: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> Any:
    return args[1]


def _after_norm(
    root: Any,
    path: str,
    block: Any,
    *,
    attention: str = "attn",
    read: _Read = _first_channels_last,
    axis: int = -1,
) -> Site:
    """Return a block that cuts its normalised tokens."""
    cut = Cut(block.norm1, block.get_submodule(attention), axis=axis, axis_of_windows=axis)
    return Site((f"{path}.{attention}",), Look(block, read), cut=cut)


def _as_given(root: Any, path: str, block: Any) -> Site:
    """Return a block that cuts what it is given."""
    look = Look(block, _first_channels_last)
    return Site((f"{path}.attn",), look, cut=Cut(block, block.attn, given=True))


def _mobile(root: Any, path: str, block: Any) -> Site:
    names = tuple(f"{path}.transformer.{number}.attn" for number in range(len(block.transformer)))
    return Site(names, Look(block, _first), cut=Cut(block.conv_1x1, block.transformer, axis=1))


def _whole(root: Any, path: str, attention: Any, *, read: _Read = _first) -> Site:
    """Return an attention over all patches of its stage."""
    return Site((path,), Look(attention, read))


def _block(root: Any, path: str, block: Any) -> Site:
    return _whole(root, f"{path}.attn", block.attn)


def _flattened(root: Any, path: str, attention: Any) -> Site:
    """Return an attention whose stage flattens its patches first."""
    stage = root.get_submodule(".".join(path.split(".")[:2]))
    flat = next(part for part in stage.modules() if _kind(part) == "efficientformer.Flat")
    return Site((path,), Look(flat, _first))


def _single_head(root: Any, path: str, attention: Any) -> Site:
    cut = Cut(attention, attention.q, given=True, axis=1, axis_of_windows=1) if attention.window_size else None
    return Site((path,), Look(attention, _first), cut=cut)


def _of_stage(root: Any, path: str, attention: Any) -> Site:
    """Return an attention whose stage has the grid."""
    stage = root.get_submodule(".".join(path.split(".")[:2]))
    return Site((path,), Look(stage, _output))


def _reduced(root: Any, path: str, attention: Any) -> Site:
    keys = None if attention.sr is None else Look(attention.sr, _output)
    return Site((path,), Look(attention, _second), keys=keys)


def _pooling(root: Any, path: str, stage: Any) -> Site:
    names = tuple(f"{path}.blocks.{number}.attn" for number in range(len(stage.blocks)))
    before = ("[CLS]", "[DIST]")[: root.num_tokens]
    return Site(names, Look(stage, lambda args, options, output: output[0].shape[-2:]), before=before)


def _inner(root: Any, path: str, embedding: Any) -> Site:
    """Return the attention among the pixels of a patch, which is a window of them."""
    names = tuple(f"blocks.{number}.attn_in" for number in range(len(root.blocks)))
    size = tuple(embedding.new_patch_size)
    grid = (embedding.grid_size[0] * size[0], embedding.grid_size[1] * size[1])
    return Site(names, grid, cut=tiles(grid, (size[0], size[1])), stage="pixels")


def _outer(root: Any, path: str, projection: Any) -> Site:
    names = tuple(f"blocks.{number}.attn_out" for number in range(len(root.blocks)))
    return Site(names, tuple(root.pixel_embed.grid_size), before=("[CLS]",), stage="patches")


_cut_channels_first = partial(_after_norm, read=_first, axis=1)

_SITES: dict[str, tuple[Callable[[Any, str, Any], Site], ...]] = {
    "davit.SpatialBlock": (partial(_after_norm, read=_first),),
    "efficientformer.Attention": (_flattened,),
    "fastvit.Attention": (_whole,),
    "gcvit.GlobalContextVitBlock": (_after_norm,),
    "iformer.SHMA": (_single_head,),
    "maxxvit.ParallelPartitionAttention": (
        partial(_after_norm, attention="attn_block"),
        partial(_after_norm, attention="attn_grid"),
    ),
    "maxxvit.PartitionAttention2d": (_cut_channels_first,),
    "maxxvit.PartitionAttentionCl": (_after_norm,),
    "maxxvit.TransformerBlock2d": (_block,),
    "metaformer.Attention": (_of_stage,),
    "mobilevit.MobileVitBlock": (_mobile,),
    "pit.Transformer": (_pooling,),
    "pvt_v2.Attention": (_reduced,),
    "swin_transformer.SwinTransformerBlock": (_after_norm,),
    "swin_transformer_v2.SwinTransformerV2Block": (_as_given,),
    "swin_transformer_v2_cr.SwinTransformerV2CrBlock": (_as_given,),
    "tiny_vit.TinyVitBlock": (_as_given,),
    "tnt.PixelEmbed": (_inner, _outer),
    "twins.GlobalSubSampleAttn": (_reduced,),
    "visformer.Attention": (_whole,),
}
"""Parts of timm's models, ``file.Class``, and where to look for what they attend over."""


def layout_of(module: Any, pixels: torch.Tensor) -> Layout:
    """Return where the tokens of a model stand.

    Parameters
    ----------
    pixels
        One image as the model takes it, ``(1, channels, height, width)``.

    Raises
    ------
    ModelError
        If the model has a part whose attention cannot be rebuilt, or tokens that are no patches.
    """
    parts = [(path, _kind(part), part) for path, part in module.named_modules()]
    refused = next((REFUSED[kind] for _, kind, _ in parts if kind in REFUSED), None)
    if refused is not None:
        raise ModelError(
            f"{type(module).__name__} is refused: {refused}. `attnviz check --all-families` lists what works."
        )
    sites = [look(module, path, part) for path, kind, part in parts for look in _SITES.get(kind, ())]

    size = (pixels.shape[-2], pixels.shape[-1])

    def run() -> Any:
        return tried(lambda: module.forward_features(pixels), type(module).__name__, size)

    return surveyed(run, sites) if sites else _plain(module, run(), size)


def _kind(part: Any) -> str:
    return f"{type(part).__module__.rpartition('.')[2]}.{type(part).__name__}"


def _plain(module: Any, output: Any, size: Grid) -> Layout:
    """Return the layout of a transformer whose tokens are special ones, then a grid of patches."""
    embed = getattr(module, "patch_embed", None) or getattr(module, "embeds", None)
    grid = getattr(embed, "grid_size", None)
    patch = getattr(embed, "patch_size", None) or getattr(module, "patch_size", None)
    if grid is None and patch is not None:
        high, wide = patch if isinstance(patch, tuple) else (patch, patch)
        grid = (size[0] // high, size[1] // wide)
    stage = None if grid is None else Stage((int(grid[0]), int(grid[1])), _special(module))
    if stage is None or not isinstance(output, torch.Tensor) or output[0].numel() != len(stage) * module.num_features:
        raise ModelError(
            f"{type(module).__name__} has no grid of patches that attnviz can tell: its tokens have no row and column. Choose a "
            "transformer; `attnviz check --all-families` lists what works."
        )
    return Layout((stage,))


def _special(module: Any) -> tuple[str, ...]:
    """Return the names of the tokens that come before the patches."""
    total = getattr(module, "num_prefix_tokens", 0)
    registers = getattr(module, "num_reg_tokens", None)
    if registers is None:
        token = getattr(module, "reg_token", None)
        registers = 0 if token is None else token.shape[1]
    return (*class_tokens(total - registers, hasattr(module, "dist_token")), *registers_named(registers))
