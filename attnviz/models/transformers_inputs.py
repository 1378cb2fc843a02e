"""What a model of transformers reads, told by its configuration before any weight is fetched.

transformers says of each model class what it reads and which arguments it must have. A class that must have more than token ids
or pixels is refused in a sentence. Some classes ask for no picture and fail without one (BLIP, OWL-ViT): these are tried without
weights, on torch's ``meta`` device.
"""

import inspect
import re
from collections.abc import Collection, Sequence
from typing import Any

import torch
import transformers

from attnviz.errors import MissingExtraError, ModelError
from attnviz.types import ModelSpec

__all__ = ["PIXELS", "TEXT", "also_reads", "require_readable"]

TEXT = frozenset({"input_ids"})
"""What a model of text is given at least."""

PIXELS = frozenset({"pixel_attention_mask", "pixel_values", "spatial_shapes"})
"""What a model of images is given."""

_CAPTURE = "Try attnviz.capture(model, batches), with batches as its own processor makes them."
_WORDS = {"image": "images", "video": "videos", "time": "time series"}
_NAMES = {
    "input_features": "audio",
    "input_values": "audio",
    "past_values": "time series",
    "pixel_values": "images",
    "pixel_values_videos": "videos",
}


def require_readable(config: Any, spec: ModelSpec, given: Collection[str]) -> None:
    """Make sure that models of a configuration run on what they will be given.

    Parameters
    ----------
    given
        Names of arguments, ``TEXT`` or ``PIXELS``.

    Raises
    ------
    ModelError
        If they do not: it says what they read, and what can be done.
    MissingExtraError
        If their code needs a package that is not installed.
    """
    if hasattr(config, "auto_map"):
        return  # code of its own, which runs only if the spec says so
    kind = _class_of(config, spec)
    arguments = _arguments(kind, spec)
    needed = {name for name, argument in arguments.items() if argument.default is inspect.Parameter.empty}
    if needed - set(given) or not set(given) & set(arguments):
        raise ModelError(_refusal(config, spec, kind, sorted(needed - TEXT) or [str(kind.main_input_name)]))
    if set(given) >= TEXT and also_reads(config) and (words := _fails_without_weights(config)) is not None:
        raise ModelError(_refusal(config, spec, kind, (), f"On text alone its code fails: {words} "))


def also_reads(config: Any) -> tuple[str, ...]:
    """Return what else than text the models of a configuration can read, in words: ``("images", "videos")``."""
    kind = transformers.AutoModel._model_mapping.get(type(config), None)
    modalities = getattr(_first(kind), "input_modalities", None) or ()
    modalities = (modalities,) if isinstance(modalities, str) else modalities
    return tuple(_WORDS.get(one, one) for one in modalities if isinstance(one, str) and one != "text")


def _class_of(config: Any, spec: ModelSpec) -> Any:
    """Return the bare model class of a configuration."""
    mapping = transformers.AutoModel._model_mapping
    if type(config) in mapping:
        return _first(mapping[type(config)])
    named = next(iter(getattr(config, "architectures", None) or ()), None)
    raise ModelError(
        f"{spec.id} is a {config.model_type}, of which transformers has no model without a head, and attnviz runs those. "
        f"Load it{f' with transformers.{named}' if named else ''}. {_CAPTURE}"
    )


def _first(kind: Any) -> Any:
    return kind[0] if isinstance(kind, tuple | list) else kind


def _arguments(kind: Any, spec: ModelSpec) -> dict[str, inspect.Parameter]:
    """Return the named arguments of a class's ``forward``."""
    try:
        arguments = dict(inspect.signature(kind.forward).parameters)
    except ImportError as error:
        reason = re.sub(r"\s+", " ", str(error)).strip()
        raise MissingExtraError(f"{spec.id} cannot be loaded: {reason}") from error
    arguments.pop("self", None)
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {name: argument for name, argument in arguments.items() if argument.kind not in variable}


def _refusal(config: Any, spec: ModelSpec, kind: Any, needed: Sequence[str], why: str = "") -> str:
    """Say what a model reads, and what can be done."""
    read = dict.fromkeys([*(_NAMES[name] for name in needed if name in _NAMES), *also_reads(config)])
    reads = f" and reads {', '.join(read)}" if read else ""
    takes = f" It must be given {', '.join(needed)}." if needed else ""
    return (
        f"{spec.id} is a {config.model_type} ({kind.__name__}){reads}: `attnviz run` and `attnviz check` give a model texts, "
        f"images, or what CLIP, SigLIP and LLaVA read.{takes} {why}{_CAPTURE}"
    )


def _fails_without_weights(config: Any) -> str | None:
    """Return in its own words why a model cannot run on text alone; None if it can, or if only its weights could tell."""
    try:
        with torch.device("meta"), torch.no_grad():
            module = transformers.AutoModel.from_config(config).eval()
            ids = torch.ones((1, 4), dtype=torch.long)
            decoded = "decoder_input_ids" in inspect.signature(module.forward).parameters
            module(input_ids=ids, **({"decoder_input_ids": ids} if decoded else {}))
    except (NotImplementedError, RuntimeError):
        return None  # the device has no values to decide by
    except Exception as error:
        words = re.sub(r"\s+", " ", str(error)).strip()[:200]
        return words if words.endswith((".", "!", "?")) else f"{words}."
    return None
