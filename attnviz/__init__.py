"""attnviz: the global query-key explorer of transformer attention.

``import attnviz`` loads nothing heavy; the public names are resolved when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnviz.api import Run, capture, open, run
    from attnviz.errors import AttnvizError
    from attnviz.recipe import Recipe, load_recipe
    from attnviz.types import Attention

__all__ = ["Attention", "AttnvizError", "Recipe", "Run", "__version__", "capture", "load_recipe", "open", "run"]

_HOME = {
    "Attention": "types",
    "AttnvizError": "errors",
    "Recipe": "recipe",
    "Run": "api",
    "capture": "api",
    "load_recipe": "recipe",
    "open": "api",
    "run": "api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("attnviz")
    if name not in _HOME:
        raise AttributeError(f"module 'attnviz' has no attribute {name!r}")
    return getattr(importlib.import_module(f"attnviz.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
