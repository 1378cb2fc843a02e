"""What a folder of a model holds besides weights of its own: told by its files, before any of them is opened as weights.

A sentence-transformers folder names its model's folder in ``modules.json``, and its limit on tokens in
``sentence_bert_config.json``. Adapters, GGUF and TensorFlow files are no model of PyTorch: each is named, with what to do.
"""

import json
from pathlib import Path
from typing import Any

from attnviz.errors import ModelError
from attnviz.types import ModelSpec

__all__ = ["inner_folder", "quantization", "require_loadable", "tokens_of_sentences"]

_FOREIGN = {
    "GGUF": ("*.gguf",),
    "TensorFlow": ("tf_model*.h5", "*.ckpt.index", "saved_model.pb"),
    "Flax": ("flax_model*.msgpack",),
    "ONNX": ("*.onnx", "onnx/*.onnx"),
}
_OURS = ("*.safetensors", "*.bin", "*.pt", "*.pth")


def inner_folder(place: str) -> str:
    """Return where the weights of a folder are: of one that sentence-transformers wrote, often one folder down."""
    folder = Path(place)
    modules = _read(folder / "modules.json")
    if not isinstance(modules, list) or (folder / "config.json").is_file():
        return place
    for module in modules:
        inner = folder / str(module.get("path", ""))
        if (inner / "config.json").is_file() and inner.resolve().is_relative_to(folder.resolve()):
            return str(inner)
    return place


def tokens_of_sentences(place: str) -> int | None:
    """Return how many tokens sentence-transformers gives the model of a folder; None where it leaves that to the tokenizer."""
    settings = _read(Path(place) / "sentence_bert_config.json")
    found = settings.get("max_seq_length") if isinstance(settings, dict) else None
    return found if isinstance(found, int) and found > 0 else None


def quantization(place: str) -> str | None:
    """Return by what method the weights of a folder are packed; None if they are not."""
    config = _read(Path(place) / "config.json")
    settings = config.get("quantization_config") if isinstance(config, dict) else None
    return str(settings.get("quant_method", "a method without a name")) if isinstance(settings, dict) else None


def require_loadable(spec: ModelSpec, place: str) -> None:
    """Refuse a folder or file that is no model of PyTorch, or only a part of one.

    Raises
    ------
    ModelError
        Naming what it is, and what to do.
    """
    folder = Path(place)
    if folder.suffix == ".gguf":
        raise ModelError(_foreign(spec, "GGUF"))
    if not folder.is_dir():
        return
    if (adapter := _read(folder / "adapter_config.json")) is not None:
        base = adapter.get("base_model_name_or_path") if isinstance(adapter, dict) else None
        raise ModelError(
            f"{spec.id} is an adapter (adapter_config.json){f' of {base}' if base else ''}, and no model: its base alone would be "
            "another one. Merge it with peft: merge_and_unload(), save_pretrained(FOLDER); then give that FOLDER."
        )
    if any(any(folder.glob(pattern)) for pattern in _OURS):
        _require_unpruned(spec, _read(folder / "config.json"))
        return
    for name, patterns in _FOREIGN.items():
        if any(any(folder.glob(pattern)) for pattern in patterns):
            raise ModelError(_foreign(spec, name))


def _require_unpruned(spec: ModelSpec, config: Any) -> None:
    pruned = config.get("pruned_heads") if isinstance(config, dict) else None
    if pruned:
        heads = "; ".join(f"layer {layer}: {', '.join(map(str, numbers))}" for layer, numbers in pruned.items())
        raise ModelError(
            f"{spec.id} was saved with heads pruned ({heads}), which transformers no longer loads. Give the model before pruning."
        )


def _foreign(spec: ModelSpec, name: str) -> str:
    return (
        f"{spec.id} holds weights of {name} and none of PyTorch. Give the model's folder with model.safetensors; many can be "
        "converted with transformers and save_pretrained(FOLDER)."
    )


def _read(path: Path) -> Any:
    """Return what a JSON file says; None where there is none that can be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
