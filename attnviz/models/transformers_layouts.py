"""Where the tokens of vision models of transformers stand, told by their type and by the attention modules they are made of."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from attnviz.errors import ModelError
from attnviz.models.images import Cut, Grid, Layout, Look, Site, Stage, class_tokens, registers_named, surveyed, tried

__all__ = ["REFUSED", "layout_of", "plain_layout", "refuse"]

_CONVOLUTIONS = "it has no attention, only convolutions or pooling"
_VIDEO = "it reads videos, whose patches have a time besides row and column"
_BIASED = "it adds products of its queries with relative positions, which no key holds"
_DETECTS = "it looks for objects with queries that are no patches, after a convolutional network"

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        "bit convnext convnextv2 dinov3_convnext efficientnet focalnet mobilenet_v1 mobilenet_v2 poolformer regnet resnet".split(),
        _CONVOLUTIONS,
    ),
    **dict.fromkeys(["timesformer", "videomae", "videoprism_vision_model", "vivit"], _VIDEO),
    **dict.fromkeys(["conditional_detr", "dab-detr", "deformable_detr", "detr", "table-transformer"], _DETECTS),
    **dict.fromkeys(["edgetam_vision_model", "sam_hq_vision_model", "sam_vision_model"], _BIASED),
    "cvt": "its queries and keys come from convolutions with a stride, on grids of their own",
    "depth_pro": "it cuts an image into many overlapping ones",
    "dinat": "each patch attends to a neighbourhood of its own, by a kernel that hands nothing over",
    "hiera": "its queries are pooled from several patches",
    "imagegpt": "its tokens are colours, not patches",
    "levit": "its smaller stages attend to larger ones with a bias for each pair of places",
    "mobilevitv2": "its attention is a linear one, without a softmax over patches",
    "sam2_vision_model": "its queries are pooled from several patches",
    "swiftformer": "its attention is a linear one, without a softmax over patches",
    "vitdet": "its windows and heads are one dimension, which the watcher cannot part",
    "timm_backbone": "it wraps a model of timm. Load that with library = 'timm'",
    "timm_wrapper": "it wraps a model of timm. Load that with library = 'timm'",
}
"""Vision model types whose attention cannot be rebuilt from stored vectors, and why."""


def refuse(kind: str) -> None:
    """Raise ``ModelError`` if models of a type are refused."""
    if kind in REFUSED:
        raise ModelError(
            f"Models of type {kind!r} are refused: {REFUSED[kind]}. `attnviz check --all-families` lists what works."
        )


def _dimensions(args: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> Any:
    return args[1] if len(args) > 1 else options["input_dimensions"]


def _high_and_wide(args: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> Any:
    return args[1:3] if len(args) > 2 else (options["height"], options["width"])


def _output(args: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> Any:
    return output.shape[-2:]  # (batch, channels, height, width)


def _after_norm(root: Any, path: str, layer: Any, *, inner: str = "") -> Site:
    """Return a layer that cuts its normalised patches."""
    cut = Cut(layer.layernorm_before, layer.attention)
    return Site((f"{path}.attention{inner}",), Look(layer, _dimensions), cut=cut)


def _as_given(root: Any, path: str, layer: Any) -> Site:
    """Return a layer that cuts what it is given."""
    cut = Cut(layer, layer.attention, given=True)
    return Site((f"{path}.attention.self",), Look(layer, _dimensions), cut=cut)


def _reduced(root: Any, path: str, attention: Any, *, convolution: str) -> Site:
    """Return an attention to merged patches."""
    merge = dict(attention.named_modules()).get(convolution)
    keys = None if merge is None else Look(merge, _output)
    return Site((path,), Look(attention, _high_and_wide), keys=keys, before=_class_token_of_stage(root, path))


def _class_token_of_stage(root: Any, path: str) -> tuple[str, ...]:
    """Return the class token of a stage of PVT: its last has one."""
    number = next(int(part) for part in path.split(".") if part.isdigit())
    embeddings = getattr(root.encoder, "patch_embeddings", None) if hasattr(root, "encoder") else None
    token = None if embeddings is None else getattr(embeddings[number], "cls_token", None)
    return () if token is None else ("[CLS]",)


def _mobile(root: Any, path: str, layer: Any) -> Site:
    names = tuple(
        f"{path}.transformer.layer.{number}.attention.attention" for number in range(len(layer.transformer.layer))
    )
    return Site(names, Look(layer.conv_1x1, _output), cut=Cut(layer.conv_1x1, layer.transformer, axis=1))


_SITES: dict[str, Callable[[Any, str, Any], Site]] = {
    "DonutSwinLayer": partial(_after_norm, inner=".self"),
    "GLPNEfficientSelfAttention": partial(_reduced, convolution="sr"),
    "MaskFormerSwinLayer": partial(_after_norm, inner=".self"),
    "MobileViTLayer": _mobile,
    "PvtEfficientSelfAttention": partial(_reduced, convolution="sequence_reduction"),
    "PvtV2SelfAttention": partial(_reduced, convolution="spatial_reduction"),
    "SegformerAttention": partial(_reduced, convolution="sequence_reduction.sequence_reduction"),
    "Swin2SRLayer": _as_given,
    "SwinLayer": _after_norm,
    "Swinv2Layer": _as_given,
}
"""Parts of models with stages, and where to look for what they attend over."""


def layout_of(module: Any, inputs: Mapping[str, torch.Tensor]) -> Layout:
    """Return where the tokens of a model stand.

    Parameters
    ----------
    inputs
        One image as the model takes it, ``pixel_values`` being ``(1, channels, height, width)``.

    Raises
    ------
    ModelError
        If models of its type are refused, or its tokens are no patches.
    """
    refuse(module.config.model_type)

    size = (inputs["pixel_values"].shape[-2], inputs["pixel_values"].shape[-1])

    def run() -> Any:
        return tried(lambda: module(**inputs)[0], type(module).__name__, size)

    sites = [
        _SITES[type(part).__name__](module, path, part)
        for path, part in module.named_modules()
        if type(part).__name__ in _SITES
    ]
    if sites:
        return surveyed(run, sites)
    hidden = run()
    if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3 or not hasattr(module.config, "patch_size"):
        raise ModelError(
            f"{type(module).__name__} returns no tokens of one grid of patches, so they have no row and column. Try "
            "attnviz.capture(model, batches), with batches as its own processor makes them."
        )
    return plain_layout(module, size, hidden.shape[1])


def plain_layout(module: Any, size: Grid, tokens: int) -> Layout:
    """Return the layout of a model whose tokens are one grid of patches, with special tokens around it."""
    high, wide = _pair(module.config.patch_size)
    grid = (size[0] // high, size[1] // wide)
    before, after = _special(module.config, tokens - grid[0] * grid[1])
    stage = Stage(grid, before, after)
    if len(stage) != tokens:
        raise ModelError(
            f"{type(module).__name__} turns {grid[0]} × {grid[1]} patches into {tokens} tokens, which attnviz cannot tell apart: "
            "they have no row and column. Choose a model whose tokens are its patches."
        )
    return Layout((stage,))


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _special(config: Any, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of ``count`` special tokens, those before the patches and those after them."""
    after = tuple(f"[DET{number}]" for number in range(1, 1 + (getattr(config, "num_detection_tokens", None) or 0)))
    registers = getattr(config, "num_register_tokens", None) or 0
    classes = count - len(after) - registers
    return (*class_tokens(classes, config.model_type == "deit"), *registers_named(registers)), after
