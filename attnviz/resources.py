"""Where the files that travel with attnviz lie: recipes, sample data, tiny trained models.

Receives the parts of a relative path, gives an existing path. In a checkout the files lie at the top level, where people
look for them; in a wheel they lie in ``attnviz/share`` (see ``force-include`` in pyproject.toml). Everything that needs one
asks here, so that nothing else knows the difference.
"""

from pathlib import Path

from attnviz.errors import InputError

__all__ = ["resource"]

_PACKAGE = Path(__file__).resolve().parent
# The wheel's folder first: beside an installed package, a stranger's `data/` may lie in site-packages.
_ROOTS = (_PACKAGE / "share", _PACKAGE.parent)


def resource(*parts: str) -> Path:
    """Return the path of a file or folder that travels with attnviz, ``resource("data", "sample", "sentences.jsonl")``.

    Raises
    ------
    InputError
        If neither the checkout nor the installed package holds it.
    """
    candidates = [root.joinpath(*parts) for root in _ROOTS]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise InputError(
        f"{'/'.join(parts)} should travel with attnviz, but neither {candidates[0]} nor {candidates[1]} exists. "
        "Install attnviz again, or run it from a complete checkout."
    )
