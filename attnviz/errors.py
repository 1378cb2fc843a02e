"""Every error that attnviz raises on purpose.

* AttnvizError
  * MissingExtraError   an optional part is not installed
  * RecipeError         a recipe or an override cannot be understood
  * InputError          the user's data cannot be read
  * ModelError          a model or its tokenizer cannot be loaded
    * CaptureError      the model ran, but its queries and keys cannot be had exactly
  * MapError            a map cannot be made of these vectors with these parameters
  * DatasetError        a run directory cannot be opened, read or written

A message says what was given, what is accepted, and what to do next. The command line shows it as one sentence and
exits with 1; anything else that reaches a user as a traceback is a defect of attnviz.
"""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

__all__ = [
    "AttnvizError",
    "CaptureError",
    "DatasetError",
    "InputError",
    "MapError",
    "MissingExtraError",
    "ModelError",
    "RecipeError",
    "nearest",
    "require",
]


class AttnvizError(Exception):
    """Base of every error that attnviz raises on purpose."""


class MissingExtraError(AttnvizError, ImportError):
    """An optional part of attnviz is not installed."""


class RecipeError(AttnvizError, ValueError):
    """A recipe or an override cannot be understood."""


class InputError(AttnvizError, ValueError):
    """The user's data cannot be read."""


class ModelError(AttnvizError):
    """A model or its tokenizer cannot be loaded."""


class CaptureError(ModelError):
    """A model ran, but its queries and keys cannot be had exactly."""


class MapError(AttnvizError, ValueError):
    """A map cannot be made of these vectors with these parameters."""


class DatasetError(AttnvizError):
    """A run directory cannot be opened, read or written."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Raises
    ------
    MissingExtraError
        With the command that installs the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # the module is there and broken: hiding that would send the user to the wrong place
        message = f"This needs {module}, which is not installed. Install it with: pip install 'attnviz[{extra}]'"
        raise MissingExtraError(message) from error


def nearest(given: str, accepted: Iterable[str]) -> str:
    """Return ``accepted`` as a phrase for an error message, the likeliest meaning of ``given`` first."""
    names = sorted(accepted)
    close = difflib.get_close_matches(given, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Accepted: {', '.join(names)}."
