"""What every loaded model offers, whatever library it came from."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.errors import AttnvizError, InputError, ModelError
from attnviz.types import ModelInfo, ModelSpec, ProblemType, Record, TokenSequence

__all__ = [
    "ADVICE",
    "Batch",
    "Classifier",
    "LoadedModel",
    "also_unread",
    "classifier_of",
    "classifying",
    "decoded",
    "head_unread",
    "out_of_memory",
    "picture",
    "place_model",
    "resolved_dtype",
    "running",
    "stream_lengths",
    "wanted_dtype",
]


@dataclass(frozen=True, slots=True)
class Batch:
    """Model inputs of several sequences, and where their tokens stand; what is no token is padding."""

    inputs: Mapping[str, Any]
    lengths: Mapping[str, tuple[int, ...]]  # tokens of each sequence, by stream; "": the only stream of most models
    widths: Mapping[str, int] = field(default_factory=dict)  # padded to, by stream, where that is more than the longest
    places: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Which positions hold a token, ``(sequences, width)`` by stream, where these are not the first ones."""

    def width(self, stream: str) -> int:
        """Return how many positions of a stream the model runs over: different ones for each, by which attention tells them."""
        return self.widths.get(stream, max(self.lengths[stream]))

    def held(self, stream: str, positions: int) -> NDArray[np.bool_]:
        """Return which positions of a stream hold a token, ``(sequences, positions)``."""
        if stream in self.places:
            return self.places[stream]
        return np.arange(positions) < np.array(self.lengths[stream])[:, None]

    def standing(self, stream: str, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return at which position of the model each token of each sequence stands, ``(sequences, tokens)`` both."""
        if stream not in self.places:
            return tokens
        order = np.argsort(~self.places[stream], axis=1, kind="stable")  # positions of tokens first
        return np.take_along_axis(order, tokens, axis=1)

    def of(self, stream: str, sequence: int) -> NDArray[np.int64]:
        """Return at which positions the tokens of one sequence stand."""
        if stream in self.places:
            return np.flatnonzero(self.places[stream][sequence])
        return np.arange(self.lengths[stream][sequence])


class LoadedModel(Protocol):
    """A model with its tokenizer or image processor."""

    info: ModelInfo
    module: torch.nn.Module
    max_length: int | None  # tokens the model takes; None where that is fixed
    windows: Mapping[str, NDArray[np.int32]]
    """Where attention runs in windows, by module path: which token stands at each place, ``(windows, places)``; -1: padding."""

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Turn a record into tokens or patches, cut at ``max_length``.

        Raises
        ------
        InputError
            If the record is of the other modality, or gives no token.
        """

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Make the model's inputs, on the model's device."""

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model; return its last hidden state ``(batch, tokens, channels)``."""

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return the image as the model sees it, ``(height, width[, 3])``; None for texts."""


ADVICE = "Give a hub id, a folder with config.json and model.safetensors, package:NAME/FOLDER or builtin:NAME."
"""How a model is named."""


def also_unread(model: LoadedModel) -> tuple[str, ...]:
    """Return what a model can read besides what it is given here: ``("images", "videos")`` for Qwen2-VL, run on text."""
    unread: tuple[str, ...] = getattr(model, "unread", ())
    return unread


class Classifier(Protocol):
    """A model with its classification head, in two steps: attention of a head that pools is none of the model's layers."""

    problem_type: ProblemType
    class_names: tuple[str, ...]

    def run(self, batch: Batch) -> Any:
        """Run the model as far as it is watched."""

    def logits(self, ran: Any) -> torch.Tensor:
        """Return the class logits of what ``run`` gave, ``(sequences, classes)``."""


def classifier_of(model: LoadedModel) -> Classifier | None:
    """Return the classifier of a model that was loaded with its classification head; None for other models."""
    classifier: Classifier | None = getattr(model, "classifier", None)
    return classifier


def classifying(info: ModelInfo, classifier: Classifier | None) -> ModelInfo:
    """Return which model this is, with what its head tells apart."""
    if classifier is None:
        return info
    return replace(info, problem_type=classifier.problem_type, class_names=classifier.class_names)


def head_unread(model: LoadedModel) -> tuple[str, ...]:
    """Return a note on a checkpoint that has a classification head which was not run."""
    architectures = getattr(getattr(model.module, "config", None), "architectures", None) or ()
    heads = [name for name in architectures if _CLASSIFIES.search(name)]
    if not heads or classifier_of(model) is not None:
        return ()
    return (f"{model.info.id} is a {heads[0]}; it was run without its classification head, so it has no class logits",)


_CLASSIFIES = re.compile(r"For(Sequence|Image)Classification")


def stream_lengths(sequences: Sequence[TokenSequence]) -> dict[str, tuple[int, ...]]:
    """Return how many tokens each sequence has, by stream."""
    names = sequences[0].streams or ("",)
    return {name: tuple(sequence.streams.get(name, len(sequence)) for sequence in sequences) for name in names}


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: torch says so in words where it is not the GPU's."""
    said = str(error)
    return isinstance(error, MemoryError) or "out of memory" in said.lower() or "not enough memory" in said


def place_model(module: torch.nn.Module, spec: ModelSpec) -> torch.nn.Module:
    """Put a model on its device, in evaluation mode, with no gradients.

    Raises
    ------
    ModelError
        If there is no such device.
    """
    module = module.eval().requires_grad_(False)
    if spec.device_map or spec.quantize:
        return module  # its library has placed it already
    wanted = spec.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return module.to(wanted)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"Device {spec.device!r} cannot be used: {error} Accepted: auto, cpu, cuda, cuda:N, mps."
        ) from error


@contextmanager
def running(module: torch.nn.Module, name: str) -> Iterator[None]:
    """Run a model without gradients; say in one sentence, with its own words, where its code fails.

    Raises
    ------
    ModelError
        If it does.
    """
    try:
        with torch.no_grad():
            yield
    except AttnvizError:
        raise  # of what watches it
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{name} needs more memory than there is. Lower capture.batch_tokens or data.max_length."
        ) from error
    except Exception as error:
        words = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}").strip()[:300]
        raise ModelError(
            f"{name} ({type(module).__name__}) cannot run: {words.rstrip('.')}. Check that its config.json is that of its weights, "
            "and that it reads what it is given."
        ) from error


def wanted_dtype(spec: ModelSpec) -> Any:
    """Return the torch dtype to load weights in, or "auto": the checkpoint's own."""
    return spec.dtype if spec.dtype == "auto" else getattr(torch, spec.dtype)


def resolved_dtype(module: torch.nn.Module) -> str:
    """Return the dtype that most of a model's numbers have: "float32", "bfloat16" or "float16".

    Weights that bitsandbytes packed into integers are not counted: what is computed with them has the other weights' dtype.
    """
    sizes: Counter[str] = Counter()
    for weight in module.parameters():
        if weight.is_floating_point():
            sizes[str(weight.dtype).removeprefix("torch.")] += weight.numel()
    return sizes.most_common(1)[0][0] if sizes else "float32"


def decoded(record: Record) -> NDArray[np.uint8]:
    """Return a record's image. Raises ``InputError`` if it is a text."""
    if record.image is None:
        raise InputError(f"{record.reference} is a text; an image belongs here.")
    return record.image()


def picture(pixels: torch.Tensor, mean: Any, std: Any) -> NDArray[np.uint8]:
    """Undo the normalisation of ``(channels, height, width)`` pixels: what the model sees, as people see it."""
    values = pixels.cpu().float().numpy() * np.reshape(std, (-1, 1, 1)) + np.reshape(mean, (-1, 1, 1))
    shown = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    return shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, -1)
