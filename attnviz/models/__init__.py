"""Loading a model with what turns a user's record into its tokens: the only place that knows hubs, files and processors.

Receives ``ModelSpec``; gives a ``LoadedModel`` that encodes records, collates batches and runs. Three kinds are known:
language models and vision models of transformers, and vision models of timm. A model may be named by hub id, by local
folder, as ``package:NAME/FOLDER`` (weights carried by an installed Python package) or as ``builtin:NAME`` (ours).
"""

import importlib.util
import json
from pathlib import Path
from typing import Literal

from attnviz.errors import ModelError, nearest, require

require("torch", "capture")  # says how to install it, where the next import would only fail

from attnviz.models.loaded import Batch, LoadedModel
from attnviz.resources import resource
from attnviz.types import ModelSpec

__all__ = ["Batch", "LoadedModel", "load", "locate"]

Library = Literal["transformers", "timm"]


def load(spec: ModelSpec) -> LoadedModel:
    """Load a model, ready to run.

    Raises
    ------
    ModelError
        If the model, its tokenizer or its image processor cannot be had, with what to do.
    MissingExtraError
        If torch, transformers or timm is not installed.
    """
    place = locate(spec.id)
    library = spec.library or _library_of(spec.id, place)
    if library == "timm":
        require("timm", "capture")
        from attnviz.models import timm_images

        return timm_images.load(spec, place)
    require("transformers", "capture")
    from attnviz.models import transformers_images, transformers_text

    if transformers_images.reads_images(spec, place):
        return transformers_images.load(spec, place)
    return transformers_text.load(spec, place)


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
    return model


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
