"""Loading a model with what turns a user's record into its tokens: the only place that knows hubs, files and processors.

Receives ``ModelSpec``; gives a ``LoadedModel`` that encodes records, collates batches and runs. Known are language models,
encoder-decoders, vision models and models of image and text of transformers, and vision models of timm. A model may be named
by hub id, by local folder, as ``package:NAME/FOLDER`` (weights carried by an installed Python package) or as
``builtin:NAME`` (ours).
"""

import importlib.util
import json
from pathlib import Path
from typing import Literal

from attnviz.errors import ModelError, nearest, require

require("torch", "capture")  # says how to install it, where the next import would only fail

from attnviz.models.checkpoints import inner_folder, require_loadable
from attnviz.models.loaded import ADVICE, Batch, LoadedModel, also_unread, classifier_of, head_unread
from attnviz.resources import resource
from attnviz.types import ModelSpec

__all__ = ["Batch", "LoadedModel", "also_unread", "classifier_of", "head_unread", "load", "locate"]

Library = Literal["transformers", "timm"]


def load(spec: ModelSpec, *, generate: int = 0) -> LoadedModel:
    """Load a model, ready to run.

    Parameters
    ----------
    generate
        How many tokens the model is to write after each text (``capture.generate``); it is then loaded with its head.

    Raises
    ------
    ModelError
        If the model, its tokenizer or its image processor cannot be had, or if it cannot write, with what to do.
    MissingExtraError
        If torch, transformers, timm or what the spec's options need is not installed.
    """
    place = inner_folder(locate(spec.id))
    _require_sound(spec, place)
    require_loadable(spec, place)
    library = spec.library or _library_of(spec.id, place)
    if library == "timm":
        require("timm", "capture")
        from attnviz.models import timm_images

        _require_no_writing(spec, generate)
        _require_whole(spec)
        return timm_images.load(spec, place)
    require("transformers", "capture")
    return _of_transformers(spec, place, generate)


def _of_transformers(spec: ModelSpec, place: str, generate: int) -> LoadedModel:
    """Choose the kind of model by its configuration."""
    from transformers import AutoConfig

    from attnviz.models import transformers_images, transformers_mixed, transformers_seq2seq, transformers_text
    from attnviz.models.families import refusal
    from attnviz.models.transformers_files import from_pretrained

    config = from_pretrained(AutoConfig, spec, place)
    if (reason := refusal(config)) is not None:
        raise ModelError(f"{spec.id} is refused: {reason}. `attnviz check --all-families` lists what works.")
    if transformers_mixed.reads_both(config):
        _require_no_writing(spec, generate)
        return transformers_mixed.load(spec, place)
    if transformers_images.reads_images(spec, place):
        _require_no_writing(spec, generate)
        return transformers_images.load(spec, place)
    if getattr(config, "is_encoder_decoder", False):
        return transformers_seq2seq.load(spec, place, generate=generate)
    return transformers_text.load(spec, place, generate=generate)


def _require_sound(spec: ModelSpec, place: str) -> None:
    """Refuse what a hub or a library would ignore, or what would carry a secret into the run."""
    if "://" in spec.id:
        raise ModelError(
            f"A model is named by a hub id such as google/gemma-2-2b, not by an address of {spec.id.partition(':')[0]}. A private "
            "one is read with the token in HF_TOKEN, which is never written into a run."
        )
    if spec.revision and Path(place).is_dir():
        raise ModelError(
            f"{spec.id} is a folder, and a folder has no revision {spec.revision!r}. Leave model.revision out, or give a hub id."
        )


def _require_no_writing(spec: ModelSpec, generate: int) -> None:
    if generate:
        raise ModelError(
            f"{spec.id} reads images, and capture.generate = {generate} is for models of text alone. Set it to 0."
        )


def locate(model: str) -> str:
    """Return what the libraries understand: a folder for ``package:`` and ``builtin:`` names, else ``model`` itself."""
    scheme, _, rest = model.partition(":")
    if scheme == "package":
        return str(_package_folder(model, rest))
    if scheme == "builtin":
        known = [path.name for path in resource("data", "models").iterdir() if path.is_dir()]
        if rest not in known:
            raise ModelError(f"There is no built-in model {rest!r}: {nearest(rest, known)}")
        return str(resource("data", "models", rest))
    _require_there(model)
    return model


def _require_there(model: str) -> None:
    """Refuse a path that leads nowhere: a hub would complain of how it is spelled."""
    is_path = model.startswith(("/", "~", "./", "../")) or "\\" in model or model.count("/") > 1
    if is_path and "://" not in model and not Path(model).exists():
        raise ModelError(f"There is no folder {model}. {ADVICE}")


def _require_whole(spec: ModelSpec) -> None:
    """Refuse for timm what only transformers can do."""
    for name in ("device_map", "quantize"):
        if (value := getattr(spec, name)) is not None:
            raise ModelError(
                f"{spec.id} is a timm model, and model.{name} = {value!r} is for models of transformers. Leave it out."
            )


def _package_folder(model: str, rest: str) -> Path:
    package, _, inner = rest.partition("/")
    spec = importlib.util.find_spec(package)
    folder = Path(spec.origin).parent / inner if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        name = package.replace("_", "-")
        raise ModelError(
            f"{model} needs the installed package {name}, with a folder {inner!r}. Install it with: pip install {name}"
        )
    return folder


def _library_of(model: str, place: str) -> Library:
    """Tell the library by the config's shape, or by the hub's own naming."""
    config = Path(place) / "config.json"
    if not config.is_file():
        return "timm" if model.startswith(("timm/", "hf-hub:timm/", "local-dir:")) else "transformers"
    try:
        fields = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{config} cannot be read ({error}). A model folder needs a config.json of transformers or timm."
        ) from error
    return "timm" if "architecture" in fields else "transformers"
