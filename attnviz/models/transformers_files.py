"""``from_pretrained`` with errors that people can act on.

Safetensors only and no remote code, unless the spec asks for them. A checkpoint that lacks weights of the model is refused:
transformers fills them with random numbers and only logs it, and a map of random heads looks like any other.
"""

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import transformers

from attnviz.errors import MissingExtraError, ModelError
from attnviz.models.checkpoints import quantization
from attnviz.models.loaded import ADVICE, resolved_dtype, wanted_dtype
from attnviz.types import ModelInfo, ModelSpec

__all__ = ["from_pretrained", "info_of", "load_weights"]

_UNUSED = re.compile(r"position_ids|\bmask_token\b")  # never part of the last hidden state
_POOLER = re.compile(r"pooler")  # nor this, but classification heads read it
_WRAPPERS = ("_orig_mod.module.", "module._orig_mod.", "_orig_mod.", "module.")
_NOUNS = {
    "AutoConfig": "configuration",
    "AutoImageProcessor": "image processor",
    "AutoProcessor": "processor",
    "AutoTokenizer": "tokenizer",
}


def from_pretrained(factory: Any, spec: ModelSpec, place: str, **more: Any) -> Any:
    """Call ``factory.from_pretrained`` as the spec says.

    Raises
    ------
    ModelError
        If what the factory loads cannot be had: not found, offline, damaged, of an unknown kind, or without some weights.
    """
    is_model = hasattr(factory, "from_config")  # and no tokenizer or processor
    if is_model:
        more |= {"use_safetensors": None if spec.allow_pickle else True, "output_loading_info": True}
    with _quiet():
        try:
            loaded = factory.from_pretrained(
                place, revision=spec.revision, trust_remote_code=spec.trust_remote_code, **more
            )
        except Exception as error:  # transformers, huggingface_hub, safetensors and tokenizers each raise their own
            raise ModelError(_explain(factory.__name__, spec, place, error)) from error
    if is_model and "key_mapping" not in more and (prefix := _wrapper(loaded[1])) is not None:
        return from_pretrained(factory, spec, place, **more | {"key_mapping": {rf"^{re.escape(prefix)}": ""}})
    return _complete(spec, *loaded, with_head=factory is not transformers.AutoModel) if is_model else loaded


def _wrapper(report: Any) -> str | None:
    """Return what a wrapper put before the names of all weights: ``torch.compile`` and ``DataParallel`` do."""
    if not report["missing_keys"]:
        return None
    names = list(report["unexpected_keys"])
    return next((one for one in _WRAPPERS if names and all(name.startswith(one) for name in names)), None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing progress and reports: what matters of them is raised."""
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_weights(factory: Any, spec: ModelSpec, place: str) -> Any:
    """Load a model in the dtype, on the devices and at the precision that the spec names.

    Raises
    ------
    ModelError
        As ``from_pretrained``, or if the spec names both a device and a device map, or quantizes without a GPU.
    MissingExtraError
        If accelerate or bitsandbytes is needed and not installed.
    """
    options: dict[str, Any] = {"dtype": wanted_dtype(spec)}
    if spec.quantize:
        options["quantization_config"] = _quantization(spec)
    if spec.device_map or spec.quantize:
        if spec.device_map and spec.device != "auto":
            raise ModelError(
                f"Both model.device = {spec.device!r} and model.device_map = {spec.device_map!r} were given. Keep one."
            )
        _require_installed("accelerate", "model.device_map" if spec.device_map else "model.quantize")
        options["device_map"] = spec.device_map or {"": _gpu(spec)}
    return from_pretrained(factory, spec, place, **options)


def info_of(
    module: Any, spec: ModelSpec, modality: Literal["text", "image", "text+image"], grid: tuple[int, int] | None = None
) -> ModelInfo:
    """Return which model of transformers this is; ``grid`` has the patch rows and columns of images."""
    return ModelInfo(
        id=spec.id,
        library="transformers",
        architecture=type(module).__name__,
        modality=modality,
        revision=spec.revision or getattr(module.config, "_commit_hash", None),
        dtype=resolved_dtype(module),
        num_parameters=sum(weight.numel() for weight in module.parameters()),
        grid=grid,
    )


def _quantization(spec: ModelSpec) -> Any:
    """Return how bitsandbytes packs the weights; what is computed with them keeps the spec's dtype."""
    _gpu(spec)
    _require_installed("bitsandbytes", "model.quantize")
    if spec.quantize == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    computed = torch.bfloat16 if spec.dtype == "auto" else getattr(torch, spec.dtype)
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=computed)


def _gpu(spec: ModelSpec) -> str:
    if not torch.cuda.is_available() or spec.device in ("cpu", "mps"):
        raise ModelError(
            f"model.quantize = {spec.quantize!r} needs a CUDA GPU, and model.device = {spec.device!r} finds none here. Leave it "
            "out; model.dtype = 'bfloat16' halves the memory on any device."
        )
    return "cuda" if spec.device == "auto" else spec.device


def _require_installed(package: str, option: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(
            f"{option} needs {package}, which is not installed. Install it with: pip install {package}"
        )


def _complete(spec: ModelSpec, module: Any, report: Any, *, with_head: bool) -> Any:
    """Return a loaded model if the checkpoint held all that it needs."""
    missing = sorted(name for name in report["missing_keys"] if not _UNUSED.search(name))
    if not with_head:
        missing = [name for name in missing if not _POOLER.search(name)]
    if missing:
        raise ModelError(
            f"The checkpoint {spec.id!r} lacks {len(missing)} of the weights of {type(module).__name__}, such as {missing[0]}: "
            "they would be random. Give a checkpoint of this architecture."
        )
    return module


def _explain(factory: str, spec: ModelSpec, place: str, error: Exception) -> str:
    reason = re.sub(r"\s+", " ", str(error)).strip()[:300]
    if factory == "AutoImageProcessor" and type(error) is OSError:
        reason = "there is none"  # the library's words speak of addresses and names
    reason = reason if reason.endswith((".", "!", "?")) else reason + "."
    what = _NOUNS.get(factory, "model")
    return _without_token(f"The {what} of {spec.id!r} cannot be loaded: {reason} {_advice(what, spec, place, error)}")


def _advice(what: str, spec: ModelSpec, place: str, error: Exception) -> str:
    """Say what to do, from the likeliest cause to the least likely."""
    reason = str(error)
    if (method := quantization(place)) is not None:
        return (
            f"It was quantised with {method}: install the package that reads it (on a machine that it runs on), or give the model "
            "as it was before."
        )
    if "trust_remote_code" in reason:
        return "It brings code of its own: read it, then set model.trust_remote_code = true."
    if type(error).__name__ == "SafetensorError":
        return "The weights file is damaged: fetch it again."
    if what == "tokenizer":
        return "Text needs the model's tokenizer: put its tokenizer.json beside config.json, or install sentencepiece."
    if what == "image processor":
        return (
            "Images need what prepares them: put the model's preprocessor_config.json beside config.json, or give batches that you "
            "prepared to attnviz.capture(model, batches)."
        )
    if "size mismatch" in reason or "ignore_mismatched_sizes" in reason:
        return "config.json and the weights do not belong together: fetch both again."
    if what == "model" and not spec.allow_pickle and _has_pickles(place, reason):
        return "Pickled weights can run code when they are opened: if you trust them, set model.allow_pickle = true."
    if what == "model" and spec.device_map and "device_map" in reason:
        return "Accepted by model.device_map: auto, balanced, balanced_low_0, sequential, or a device such as cuda:0."
    if spec.revision:
        return f"Check that the revision {spec.revision!r} exists, and that the hub can be reached or has been before."
    return ADVICE


def _has_pickles(place: str, reason: str) -> bool:
    return "pytorch_model" in reason or bool([*Path(place).glob("pytorch_model*.bin"), *Path(place).glob("*.pt")])


def _without_token(text: str) -> str:
    """Leave a hub token out of a message: messages end up in logs and issues."""
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    return re.sub(r"hf_\w{8,}", "hf_…", text.replace(token, "hf_…") if token else text)
