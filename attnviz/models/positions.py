"""How many tokens a model has positions for, found by running it on a few.

A table of positions is one that is asked for neighbouring rows: ``o, o + 1, …`` for the first, second, … token. Where it counts
from behind the padding token (RoBERTa, ESM, MPNet and some ten more), ``o`` is 2 and not 0, whatever its configuration is called:
its ``max_position_embeddings`` are more than the tokens it takes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from attnviz.models.loaded import running

__all__ = ["positions_held"]


def positions_held(module: Any, inputs: Mapping[str, torch.Tensor], name: str) -> int | None:
    """Run a model on a few equal tokens; return how many it has positions for, None if no table limits them.

    Parameters
    ----------
    inputs
        What it is given, ``(1, tokens)`` each, of at least three tokens.
    name
        Of the model, for messages.

    Raises
    ------
    ModelError
        If it cannot run on that.
    """
    watch = _Tables(next(iter(inputs.values())).shape[1])
    with running(module, name), watch:
        module(**inputs)
    return min(watch.rooms, default=None)


class _Tables(TorchFunctionMode):
    """Notes for every table that is asked for neighbouring rows how many there are from the first of these."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.rooms: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at a call of torch, and let it happen."""
        if func is torch.nn.functional.embedding:
            given = dict(zip(("input", "weight"), args, strict=False)) | (kwargs or {})
            self._note(given["input"], given["weight"])
        return func(*args, **(kwargs or {}))

    def _note(self, rows: torch.Tensor, table: torch.Tensor) -> None:
        asked = rows.reshape(-1, rows.shape[-1])[0] if rows.ndim else rows
        if asked.numel() == self.tokens and bool((asked.diff() == 1).all()):
            self.rooms.append(table.shape[0] - int(asked[0]))
