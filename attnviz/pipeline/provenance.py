"""What a run was made with: the versions of the libraries that its numbers depend on."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["versions"]

_LIBRARIES = (
    "attnviz",
    "torch",
    "transformers",
    "timm",
    "numpy",
    "scikit-learn",
    "umap-learn",
    "openTSNE",
    "numba",
)


def versions() -> dict[str, str]:
    """Return the installed versions of the libraries that decide a run's numbers."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
