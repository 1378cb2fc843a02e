"""What is told of an exception that nobody expected, on the page and on the command line: one line of it, and details to report."""

import platform
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Fault", "fault_of"]

LONGEST = 240  # characters of an exception's message in a sentence: the rest is in the details
PACKAGES = ("attnviz", "panel", "bokeh", "numpy", "pandas", "pyarrow", "torch", "transformers", "timm")


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception that nobody expected."""

    place: str  # where it happened, in the words of the page or of the command line
    error: str  # its type and message, on one line
    details: str  # versions, what was shown or asked for, traceback


def fault_of(error: BaseException, about: Mapping[str, str]) -> Fault:
    """Return what is told of an exception; ``about`` says where it happened (``in``) and what was shown."""
    first = " ".join(str(error).split())
    text = _without_paths(f"{type(error).__name__}: {first}" if first else type(error).__name__)
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    said = "\n".join(f"{name}: {_without_paths(value)}" for name, value in about.items())
    trace = _without_paths("".join(traceback.format_exception(error)))
    details = f"{_versions()}, Python {platform.python_version()}, {platform.system()}\n{said}\n\n{trace}"
    return Fault(about["in"], shown, details)


def _versions() -> str:
    """Return what is installed, of what faults depend on."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _without_paths(text: str) -> str:
    """Leave out where on this machine things lie: a traceback is read by others."""
    for folder in sorted({entry for entry in sys.path if len(entry) > 1}, key=len, reverse=True):
        text = text.replace(f"{folder}/", "")
    return text.replace(str(Path.home()), "~") if len(str(Path.home())) > 1 else text
