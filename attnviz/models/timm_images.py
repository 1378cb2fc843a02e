"""Vision models of timm, with the transform that their configuration names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image

from attnviz.errors import ModelError, nearest
from attnviz.models.images import blank_image, image_tokens, require_image
from attnviz.models.loaded import (
    Batch,
    classifying,
    decoded,
    picture,
    place_model,
    resolved_dtype,
    running,
    stream_lengths,
    wanted_dtype,
)
from attnviz.models.timm_layouts import layout_of
from attnviz.types import ModelInfo, ModelSpec, ProblemType, Record, TokenSequence

__all__ = ["TimmModel", "load"]


def load(spec: ModelSpec, place: str) -> "TimmModel":
    """Load a timm model with its weights.

    Raises
    ------
    ModelError
        If it cannot be had, or its attention cannot be rebuilt.
    """
    name = f"local-dir:{place}" if Path(place).is_dir() else place.removeprefix("timm/")
    name = f"hf-hub:{spec.id}@{spec.revision}" if spec.revision else name
    try:
        module = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm, huggingface_hub and safetensors each raise their own
        hint = nearest(name, timm.list_models(pretrained=True)).split("Accepted:")[0]
        raise ModelError(
            f"The timm model {spec.id!r} cannot be loaded: {error}. {hint}Give a timm name or a folder."
        ) from error
    return TimmModel(module if spec.dtype == "auto" else module.to(wanted_dtype(spec)), spec)


class TimmModel:
    """A timm vision model with the transform of its ``pretrained_cfg``."""

    max_length: int | None = None

    def __init__(self, module: Any, spec: ModelSpec) -> None:
        data = timm.data.resolve_model_data_config(module)
        self.module: Any = place_model(module, spec)
        self.mean, self.std = data["mean"], data["std"]
        self.channels = data["input_size"][0]
        self.transform: Any = timm.data.create_transform(**data, is_training=False)
        self.layout = layout_of(self.module, self._batched([blank_image()]))
        self.windows: Mapping[str, NDArray[np.int32]] = self.layout.windows
        self.classifier = TimmClassifier(self) if getattr(module, "num_classes", 0) > 0 else None
        info = ModelInfo(
            id=spec.id,
            library="timm",
            architecture=type(module).__name__,
            modality="image",
            revision=spec.revision,
            dtype=resolved_dtype(module),
            num_parameters=sum(weight.numel() for weight in module.parameters()),
            grid=self.layout.stages[0].grid,
        )
        self.info = classifying(info, self.classifier)

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Return the patches of an image. Raises ``InputError`` for a text."""
        require_image(record, self.info.id)
        return image_tokens(record, self.layout)

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Resize and normalise as the model's configuration says."""
        pixels = self._batched([sequence.record for sequence in sequences])
        return Batch({"x": pixels}, stream_lengths(sequences))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model; return its last hidden state ``(batch, tokens, channels)``."""
        with running(self.module, self.info.id):
            result: torch.Tensor = self.module.forward_features(batch.inputs["x"])
        return result

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return the image as the model sees it."""
        return picture(self._pixels(sequence.record), self.mean, self.std)

    def _batched(self, records: Sequence[Record]) -> torch.Tensor:
        """Return ``(batch, channels, height, width)``, as the model's weights are."""
        return torch.stack([self._pixels(record) for record in records]).to(next(self.module.parameters()))

    def _pixels(self, record: Record) -> torch.Tensor:
        image = decoded(record)
        mode = {1: "L", 3: "RGB"}[self.channels]
        result: torch.Tensor = self.transform(Image.fromarray(image).convert(mode))
        return result


class TimmClassifier:
    """A timm model with its classification head; see ``Classifier``. A head that pools by attention runs unwatched."""

    problem_type: ProblemType = "single_label_classification"

    def __init__(self, model: TimmModel) -> None:
        self.class_names = class_names(model.module)
        self._model = model

    def run(self, batch: Batch) -> torch.Tensor:
        """Run the model without its head."""
        return self._model.forward(batch)

    def logits(self, ran: torch.Tensor) -> torch.Tensor:
        """Return what the head makes of the last hidden state."""
        module = self._model.module
        with running(module, self._model.info.id):
            logits: torch.Tensor = module.forward_head(ran)
        return logits


def class_names(module: Any) -> tuple[str, ...]:
    """Return the names of a timm model's classes: those of its configuration, those of ImageNet, or their numbers."""
    settings, count = module.pretrained_cfg, module.num_classes
    labels, described = settings.get("label_names"), settings.get("label_descriptions") or {}
    if isinstance(labels, list | tuple) and len(labels) == count:
        return tuple(str(described.get(label, label)) for label in labels)
    subset = timm.data.infer_imagenet_subset(module)
    if subset is None:
        return tuple(map(str, range(count)))
    known = timm.data.ImageNetInfo(subset)
    return tuple(known.index_to_description(number) for number in range(count))
