"""Vision models of transformers: ``AutoModel``, or the model with its classification head, and its image processor.

A processor may resize every image alike, or keep its proportions and hand over patches of its own making (SigLIP 2): the first
gives all images one grid, the second each its own.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_MAPPING_NAMES, MODEL_MAPPING_NAMES

from attnviz.errors import InputError, ModelError
from attnviz.models.classifying import HeadClassifier, load_model
from attnviz.models.images import Layout, Stage, blank_image, image_tokens, require_image
from attnviz.models.loaded import Batch, classifying, decoded, picture, place_model, running, stream_lengths
from attnviz.models.transformers_files import from_pretrained, info_of
from attnviz.models.transformers_inputs import PIXELS, require_readable
from attnviz.models.transformers_layouts import REFUSED, layout_of, refuse
from attnviz.types import ModelSpec, Record, TokenSequence

__all__ = ["ImageModel", "PatchesModel", "image_model", "load", "reads_images"]

_RESIZES = "interpolate_pos_encoding"


def reads_images(spec: ModelSpec, place: str) -> bool:
    """Tell whether the model's configuration is that of a vision model, by its type or by its patches."""
    config = from_pretrained(transformers.AutoConfig, spec, place)
    if hasattr(config, "text_config"):
        return False
    named = config.model_type in MODEL_FOR_IMAGE_MAPPING_NAMES or config.model_type in REFUSED
    vision = config.model_type in MODEL_MAPPING_NAMES and config.model_type.endswith(("_vision_model", "_vision"))
    patches = hasattr(config, "patch_size") and hasattr(config, "image_size") and not hasattr(config, "vocab_size")
    return named or vision or patches or config.model_type in ("donut-swin", "maskformer-swin", "pvt_v2")


def load(spec: ModelSpec, place: str) -> "ImageModel":
    """Load a vision model and its processor.

    Raises
    ------
    ModelError
        If either cannot be had, or models of its type are refused.
    """
    config = from_pretrained(transformers.AutoConfig, spec, place)
    refuse(config.model_type)
    require_readable(config, spec, PIXELS)
    processor = from_pretrained(transformers.AutoImageProcessor, spec, place)
    inputs = PIXELS | {_RESIZES}
    module, classifier = load_model(transformers.AutoModelForImageClassification, config, spec, place, inputs)
    return image_model(module, processor, spec, classifier)


def image_model(module: Any, processor: Any, spec: ModelSpec, classifier: HeadClassifier | None = None) -> "ImageModel":
    """Return a module with its processor, as one that reads images."""
    patches = "spatial_shapes" in getattr(processor, "model_input_names", ())
    return (PatchesModel if patches else ImageModel)(module, processor, spec, classifier)


class ImageModel:
    """A vision model with its image processor. Arguments as for ``TextModel``."""

    max_length: int | None = None

    def __init__(self, module: Any, processor: Any, spec: ModelSpec, classifier: HeadClassifier | None = None) -> None:
        self.module: Any = place_model(module, spec)
        self.processor = processor
        self.classifier = classifier
        if module.config.model_type == "vit_mae":
            module.config.mask_ratio = 0.0  # outside its training it sees the whole image
        self.layout = self._layout()
        self.windows: Mapping[str, NDArray[np.int32]] = self.layout.windows
        grid = stages[0].grid if (stages := self.layout.stages) else None
        whole = module if classifier is None else classifier.module
        self.info = classifying(info_of(whole, spec, "image", grid), classifier)

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Return the patches of an image. Raises ``InputError`` for a text."""
        require_image(record, self.info.id)
        return image_tokens(record, self.layout)

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Resize and normalise as the model's processor does."""
        return Batch(self._inputs([sequence.record for sequence in sequences]), stream_lengths(sequences))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model; return its last hidden state ``(batch, tokens, channels)``."""
        with running(self.module, self.info.id):
            output: torch.Tensor = self.module(**batch.inputs)[0]
        return output

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return the image as the model sees it."""
        return picture(self._pixels(sequence.record), self.processor.image_mean, self.processor.image_std)

    def _inputs(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return what the model takes; ``pixel_values`` is ``(batch, channels, height, width)``."""
        made = [self._pixels(record) for record in records]
        for record, pixels in zip(records, made, strict=True):
            self._require_size(record, pixels)
        pixels = torch.stack(made).to(self._weight())
        inputs: dict[str, Any] = {"pixel_values": pixels}
        if self.module.config.model_type == "vit_mae":
            patch = self.module.config.patch_size
            patches = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
            inputs["noise"] = torch.arange(patches, device=pixels.device).expand(len(pixels), -1)
        if _RESIZES in signature(self.module.forward).parameters and self._resized(pixels):
            inputs[_RESIZES] = True
        return inputs

    def _require_size(self, record: Record, pixels: torch.Tensor) -> None:
        """Refuse an image that the processor makes another shape of than it made of the first: its patches would be others."""
        self.size = getattr(self, "size", pixels.shape[-2:])
        if pixels.shape[-2:] != self.size:
            raise InputError(
                f"{record.reference} becomes {pixels.shape[-2]} × {pixels.shape[-1]} pixels, a square image {self.size[0]} × "
                f"{self.size[1]}: the image processor keeps proportions, but this model needs one grid. Crop images to squares."
            )

    def _resized(self, pixels: torch.Tensor) -> bool:
        """Tell whether the processor makes images of another size than the model was made for."""
        size = self.module.config.image_size
        return tuple(pixels.shape[-2:]) != ((size, size) if isinstance(size, int) else tuple(size))

    def _weight(self) -> torch.Tensor:
        """Return a weight of the dtype and on the device that inputs must have."""
        found: torch.Tensor = next(weight for weight in self.module.parameters() if weight.is_floating_point())
        return found

    def _processed(self, records: Sequence[Record]) -> Any:
        images = [decoded(record) for record in records]
        channels = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
        return self.processor(channels, return_tensors="pt", input_data_format="channels_last")

    def _pixels(self, record: Record) -> torch.Tensor:
        result: torch.Tensor = self._processed([record])["pixel_values"][0]
        if result.ndim == 3:
            return result
        raise ModelError(
            f"The image processor {type(self.processor).__name__} makes {tuple(result.shape)} of an image, not (channels, height, "
            "width): it cuts images up, which is not supported. Choose a model that reads whole images."
        )

    def _layout(self) -> Layout:
        return layout_of(self.module, self._inputs([blank_image()]))


class PatchesModel(ImageModel):
    """A vision model whose processor keeps the proportions of images and makes the patches itself: each has its own grid."""

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Return the patches of an image. Raises ``InputError`` for a text."""
        require_image(record, self.info.id)
        rows, cols = self._processed([record])["spatial_shapes"][0].tolist()
        return image_tokens(record, Layout((Stage((rows, cols)),)))

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return the image as the model sees it."""
        made = self._processed([sequence.record])
        rows, cols = made["spatial_shapes"][0].tolist()
        size = self.processor.patch_size
        patches = made["pixel_values"][0][: rows * cols].reshape(rows, cols, size, size, -1)
        pixels = patches.permute(4, 0, 2, 1, 3).reshape(-1, rows * size, cols * size)
        return picture(pixels, self.processor.image_mean, self.processor.image_std)

    def _inputs(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return what the model takes; ``pixel_values`` is ``(batch, patches, values of a patch)``, padded."""
        made = self._processed(records)
        most = int(made["spatial_shapes"].prod(dim=1).max())
        weight = self._weight()
        return {
            "pixel_values": made["pixel_values"][:, :most].to(weight),
            "pixel_attention_mask": made["pixel_attention_mask"][:, :most].to(weight.device),
            "spatial_shapes": made["spatial_shapes"].to(weight.device),
        }

    def _layout(self) -> Layout:
        return Layout(())
