"""``from_pretrained`` with errors that people can act on; safetensors only, remote code only on request."""

import re
from typing import Any

import transformers

from attnviz.errors import ModelError
from attnviz.types import ModelSpec

__all__ = ["from_pretrained"]


def from_pretrained(factory: Any, spec: ModelSpec, place: str, **more: Any) -> Any:
    """Call ``factory.from_pretrained`` as the spec say.

    Raises
    ------
    ModelError
        If what the factory loads cannot be had: not found, offline, damaged, or of an unknown kind.
    """
    if hasattr(factory, "from_config"):  # a model, not a tokenizer or processor
        more["use_safetensors"] = True
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()  # the library never prints
    try:
        return factory.from_pretrained(place, revision=spec.revision, trust_remote_code=spec.trust_remote_code, **more)
    except Exception as error:  # transformers, huggingface_hub, safetensors and tokenizers each raise their own
        raise ModelError(_explain(factory.__name__, spec, error)) from error
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _explain(factory: str, spec: ModelSpec, error: Exception) -> str:
    what = {"AutoTokenizer": "tokenizer", "AutoImageProcessor": "image processor", "AutoConfig": "configuration"}.get(
        factory, "model"
    )
    reason = re.sub(r"\s+", " ", str(error)).strip()[:300]
    if "trust_remote_code" in reason:
        advice = "It brings code of its own: read it, then set model.trust_remote_code = true."
    elif type(error).__name__ == "SafetensorError":
        advice = "The weights file is damaged: fetch it again."
    else:
        advice = "Give a hub id, a folder with config.json and model.safetensors, package:NAME/FOLDER or builtin:NAME."
    return f"The {what} of {spec.id!r} cannot be loaded: {reason} {advice}"
