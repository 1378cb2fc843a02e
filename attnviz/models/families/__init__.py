"""Tiny models of every family that can be checked: ``attnviz check --all-families`` runs them, and so do the tests.

Each is built from a configuration, not downloaded, with weights drawn large enough that its attention is not flat.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import torch

from attnviz.models.loaded import LoadedModel
from attnviz.models.timm_layouts import REFUSED as REFUSED_TIMM
from attnviz.models.transformers_layouts import REFUSED as REFUSED_VISION

__all__ = ["REFUSED", "Family", "Kind", "Library", "Refusal", "families", "quietly", "refusal", "refusals"]

Kind = Literal["encoder", "decoder", "encoder-decoder", "vision", "pair"]
Library = Literal["transformers", "timm"]


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture of one library, and how to make a tiny model of it."""

    name: str  # what the library calls it
    library: Library
    kind: Kind
    build: Callable[[], LoadedModel]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What cannot be captured, and why."""

    name: str  # a model type; of timm, ``file.Class`` of the part that is at fault
    library: Library
    kind: Literal["text", "vision"]
    reason: str


def families() -> dict[str, Family]:
    """Return the families that the installed libraries have, by name."""
    tables = [import_module(f"{__name__}.{name}") for name in ("language", "pairs", "vision", "timm_vision")]
    return {family.name: family for table in tables for family in table.FAMILIES}


def refusals() -> tuple[Refusal, ...]:
    """Return all that is refused by name."""
    return (
        *(Refusal(name, "transformers", "text", reason) for name, reason in REFUSED.items()),
        *(Refusal(name, "transformers", "vision", reason) for name, reason in REFUSED_VISION.items()),
        *(Refusal(name, "timm", "vision", reason) for name, reason in REFUSED_TIMM.items()),
    )


def refusal(config: Any) -> str | None:
    """Return why models of a transformers configuration are refused; None if they are not."""
    for part in (config, config.get_text_config()):
        name = getattr(part, "model_type", None)
        option, value = _UNLESS.get(name, (None, None))
        if name in REFUSED and (option is None or getattr(part, option, None) != value):
            return REFUSED[name]
    return None


@contextmanager
def quietly() -> Iterator[None]:
    """Let torch run on one thread and transformers keep its advice: neither is meant for models as small as these.

    With two threads on a busy machine each took 1.5 s instead of 0.05 s.
    """
    from transformers.utils import logging

    threads, verbosity = torch.get_num_threads(), logging.get_verbosity()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        logging.set_verbosity(verbosity)


_NO_ATTENTION = "it has no softmax attention"
_APPROXIMATE = "its attention is an approximation that has no weight for every pair of tokens"
_BLOCKS = "its attention runs in blocks and on a shorter sequence than its tokens"
_UNSEEN = "its encoder attends in blocks or windows that it cuts itself, which no watcher sees"
_POSITIONS = "its position terms depend on the queries and keys, so no single query and key give its logits"
_BEFORE_SINKS = "it hands out the weights that it had before its sinks, so there is nothing to check ours against"

REFUSED: dict[str, str] = {
    **dict.fromkeys(["falcon_mamba", "fnet", "mamba", "mamba2", "rwkv", "xlstm"], _NO_ATTENTION),
    **dict.fromkeys(["mra", "reformer", "yoso"], _APPROXIMATE),
    **dict.fromkeys(["canine", "longformer", "perceiver"], _BLOCKS),
    **dict.fromkeys(["bigbird_pegasus", "led", "longt5", "pegasus_x"], _UNSEEN),
    **dict.fromkeys(["deberta", "deberta-v2", "funnel", "inkling_text", "inkling2_text", "prophetnet", "xlnet"], _POSITIONS),
    **dict.fromkeys(["granite_swa", "granitemoe_swa"], _BEFORE_SINKS),
    "deepseek_v4": "it attends to merged tokens, and a second network chooses which of them a query sees",
    "doge": "its mask is computed from the values, so it does not follow from queries and keys",
    "lilt": "it adds the attention of the layout to that of the text, so no single query and key give its logits",
}  # fmt: skip
"""Model types of language whose attention cannot be rebuilt from one query and one key, and why."""

_UNLESS: dict[Any, tuple[str | None, Any]] = dict.fromkeys(["deberta", "deberta-v2"], ("relative_attention", False))
"""Where a refusal holds for one setting of the configuration alone: the option, and the value with which it does not."""
