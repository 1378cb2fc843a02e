"""Vision models of transformers: ``AutoModel`` with its image processor."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from attnviz.errors import InputError, ModelError
from attnviz.models.loaded import Batch, decoded, image_sequence, picture, place_model, stream_lengths
from attnviz.models.transformers_files import from_pretrained
from attnviz.types import ModelInfo, ModelSpec, Record, TokenSequence

__all__ = ["ImageModel", "load", "reads_images"]


def reads_images(spec: ModelSpec, place: str) -> bool:
    """Tell whether the model's configuration is that of a vision model."""
    config = from_pretrained(transformers.AutoConfig, spec, place)
    return hasattr(config, "patch_size") and hasattr(config, "image_size")


def load(spec: ModelSpec, place: str) -> "ImageModel":
    """Load a vision model and its processor. Raises ``ModelError`` if either cannot be had."""
    processor = from_pretrained(transformers.AutoImageProcessor, spec, place)
    module = from_pretrained(transformers.AutoModel, spec, place, dtype=getattr(torch, spec.dtype))
    return ImageModel(module, processor, spec)


class ImageModel:
    """A vision model with its image processor. Arguments as for ``TextModel``."""

    max_length: int | None = None
    windows: Mapping[str, NDArray[np.int32]] = MappingProxyType({})

    def __init__(self, module: Any, processor: Any, spec: ModelSpec) -> None:
        self.module: Any = place_model(module, spec)
        self.processor = processor
        self.grid, self.prefix = self._layout()
        self.info = ModelInfo(
            id=spec.id,
            library="transformers",
            architecture=type(module).__name__,
            modality="image",
            revision=spec.revision or getattr(module.config, "_commit_hash", None),
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
        """Resize and normalise as the model's processor does."""
        pixels = torch.stack([self._pixels(sequence.record) for sequence in sequences])
        weight = next(self.module.parameters())
        return Batch({"pixel_values": pixels.to(weight)}, stream_lengths(sequences))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model; return its last hidden state ``(batch, tokens, channels)``."""
        with torch.inference_mode():
            output: torch.Tensor = self.module(**batch.inputs)[0]
        return output

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return the image as the model sees it."""
        return picture(self._pixels(sequence.record), self.processor.image_mean, self.processor.image_std)

    def _pixels(self, record: Record) -> torch.Tensor:
        image = decoded(record)
        channels = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        result: torch.Tensor = self.processor(channels, return_tensors="pt", input_data_format="channels_last")[
            "pixel_values"
        ][0]
        return result

    def _layout(self) -> tuple[tuple[int, int], tuple[str, ...]]:
        """Run one blank image: what its tokens are more than the patches of the grid are special tokens, and come first."""
        config = self.module.config
        blank = self._pixels(Record("blank", image=lambda: np.zeros((64, 64, 3), np.uint8)))
        patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
        grid = (blank.shape[-2] // patch, blank.shape[-1] // patch)
        with torch.inference_mode():
            tokens = self.module(pixel_values=blank[None].to(next(self.module.parameters())))[0].shape[1]
        extra = tokens - grid[0] * grid[1]
        if extra < 0:
            raise ModelError(
                f"{type(self.module).__name__} turns {grid[0]} × {grid[1]} patches into {tokens} tokens: it merges patches, "
                "which is not supported. Choose a model whose tokens are its patches."
            )
        registers = tuple(f"[REG{number}]" for number in range(1, extra))
        return grid, ("[CLS]", *registers)[:extra]
