"""Vision models of timm, with the transform that their configuration names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image

from attnviz.errors import InputError, ModelError, nearest
from attnviz.models.loaded import Batch, decoded, image_sequence, picture, place_model, stream_lengths
from attnviz.types import ModelInfo, ModelSpec, Record, TokenSequence

__all__ = ["TimmModel", "load"]


def load(spec: ModelSpec, place: str) -> "TimmModel":
    """Load a timm model with its weights. Raises ``ModelError`` if it cannot be had."""
    name = f"local-dir:{place}" if Path(place).is_dir() else place.removeprefix("timm/")
    name = f"hf-hub:{spec.id}@{spec.revision}" if spec.revision else name
    try:
        module = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm, huggingface_hub and safetensors each raise their own
        hint = nearest(name, timm.list_models(pretrained=True)).split("Accepted:")[0]
        raise ModelError(
            f"The timm model {spec.id!r} cannot be loaded: {error}. {hint}Give a timm name or a folder."
        ) from error
    return TimmModel(module.to(getattr(torch, spec.dtype)), spec)


class TimmModel:
    """A timm vision model with the transform of its ``pretrained_cfg``."""

    max_length: int | None = None
    windows: Mapping[str, NDArray[np.int32]] = MappingProxyType({})

    def __init__(self, module: Any, spec: ModelSpec) -> None:
        data = timm.data.resolve_model_data_config(module)
        self.module: Any = place_model(module, spec)
        self.mean, self.std = data["mean"], data["std"]
        self.channels = data["input_size"][0]
        self.transform: Any = timm.data.create_transform(**data, is_training=False)
        self.grid, self.prefix = _layout(module)
        self.info = ModelInfo(
            id=spec.id,
            library="timm",
            architecture=type(module).__name__,
            modality="image",
            revision=spec.revision,
            dtype=spec.dtype,
            num_parameters=sum(weight.numel() for weight in module.parameters()),
            grid=self.grid,
        )

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Return the patches of an image. Raises ``InputError`` for a text."""
        if record.image is None:
            raise InputError(
                f"{record.reference} is a text, but {self.info.id} reads images. Choose a language model or image data."
            )
        return image_sequence(record, prefix=self.prefix, grid=self.grid)

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Resize and normalise as the model's configuration says."""
        pixels = torch.stack([self._pixels(sequence.record) for sequence in sequences])
        weight = next(self.module.parameters())
        return Batch({"x": pixels.to(weight)}, stream_lengths(sequences))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model; return its last hidden state ``(batch, tokens, channels)``."""
        with torch.inference_mode():
            result: torch.Tensor = self.module.forward_features(batch.inputs["x"])
        return result

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return the image as the model sees it."""
        return picture(self._pixels(sequence.record), self.mean, self.std)

    def _pixels(self, record: Record) -> torch.Tensor:
        image = decoded(record)
        mode = {1: "L", 3: "RGB"}[self.channels]
        result: torch.Tensor = self.transform(Image.fromarray(image).convert(mode))
        return result


def _layout(module: Any) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Return the patch grid and the names of the special tokens that come before the patches."""
    embed = getattr(module, "patch_embed", None)
    if embed is None or getattr(embed, "grid_size", None) is None:
        raise ModelError(
            f"{type(module).__name__} has no fixed grid of patches, which is not supported yet. Choose a ViT-like model."
        )
    rows, cols = embed.grid_size
    count = getattr(module, "num_prefix_tokens", 0)
    registers = getattr(module, "num_reg_tokens", 0) or 0
    first = ("[CLS]", "[DIST]")[: count - registers]
    return (int(rows), int(cols)), (*first, *(f"[REG{number}]" for number in range(1, registers + 1)))
