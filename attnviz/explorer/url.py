"""The texts that stand for a state's parameters in the address of the page. Whatever comes from there is untrusted."""

from typing import Any

import numpy as np
import param

__all__ = ["fits", "read_value"]

LONGEST = 200  # characters of one value in an address; a longer one is left out
LISTS = {"sentence_hidden": 4000}  # those that may be longer


def fits(name: str, text: str) -> bool:
    """Tell whether an address takes a value; one that does not fit is not cut, as a part of it may mean something else."""
    return len(text) <= LISTS.get(name, LONGEST)


def read_value(parameter: param.Parameter, name: str, text: str) -> Any:
    """Return the value that a text stands for. Raises ``ValueError`` if it stands for none."""
    if not fits(name, text):
        raise ValueError(f"{name} is too long")
    if isinstance(parameter, param.Boolean):
        return {"true": True, "false": False}.get(text.lower(), text)
    if isinstance(parameter, param.Integer):
        return int(text)
    if isinstance(parameter, param.Number):
        value = float(text)
        if not np.isfinite(value):
            raise ValueError(f"{name} {value} is no number")
        return value
    if isinstance(parameter, param.Selector) and text not in parameter.get_range().values():
        raise ValueError(f"{name} {text} is no choice")  # an empty Selector would take anything
    return text
