"""Which tokens queries and keys are of: told by the inputs that they were computed from, not by how many they are.

Receives a module's inputs by name and follows each through what the module does to it; gives the names of the inputs that a
tensor's rows stand for. What is added row by row (words and positions) is of one stream, what attention puts out is of its queries'
stream, and what comes of weights alone (learned queries) is of none that was given.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from attnviz.capturing.contract import Call
from attnviz.errors import InputError
from attnviz.models.torch_module import tensors_in

__all__ = ["LEARNED", "Declared", "Inputs", "Lineage", "declared_streams", "named_streams", "require_used"]

LEARNED = "learned"
"""The stream of queries or keys that no input leads to."""

Declared = Mapping[str, str | Sequence[str]]
"""Patterns of module paths, and the stream of what attends there, or those of its queries and of its keys."""

Inputs = tuple[str, ...]
"""The names of inputs, as they came together."""

_AND = " + "
_PRODUCTS = frozenset({"matmul", "rmatmul", "bmm", "mm", "baddbmm", "einsum"})
_ATTENTIONS = frozenset({"scaled_dot_product_attention", "flex_attention"})
_JOINS = frozenset({"cat", "concat", "concatenate"})


class Lineage(TorchFunctionMode):
    """Follows inputs through a module while it is open.

    A tensor's rows stand for the inputs that went into them row by row: words, and positions where each row has its own. Sets of
    inputs are kept, not one name: positions that source and target share must not make these one.
    """

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self._of: Any = WeakTensorKeyDictionary()  # names of inputs by tensor, for as long as that lives
        self._all: Any = WeakTensorKeyDictionary()  # the same of whatever went into it
        for name, value in inputs.items():
            for inner, tensor in tensors_in(value, name):
                self._of[tensor] = self._all[tensor] = (inner,)

    def of(self, tensor: torch.Tensor) -> Inputs:
        """Return the inputs that a tensor's rows stand for; none, if they come of weights alone."""
        found: Inputs = self._of.get(tensor, ())
        return found

    def masks(self, call: Call) -> Inputs:
        """Return the inputs that what is added to logits comes of."""
        added = self._all.get(call.added, ()) if call.added is not None else ()
        tokens = {name for tensor in (call.query, call.key) for name in self._all.get(tensor, ())}
        of_rows = {*self.of(call.query), *self.of(call.key)}
        return tuple(name for name in added if name not in tokens) or tuple(n for n in added if n not in of_rows)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        output = func(*args, **options)
        name = getattr(func, "__name__", "").strip("_").partition(".")[0]
        result = args[0] if name == "setitem" else output
        made = [tensor for _, tensor in tensors_in(result)] if isinstance(result, torch.Tensor | tuple | list) else []
        if made:
            given = [tensor for _, tensor in tensors_in([args, options])]
            label = self._label(name, args, given, made[0])
            everything = tuple(dict.fromkeys(name for tensor in given for name in self._all.get(tensor, ())))
            for tensor in made if everything else ():
                self._all[tensor] = everything
            for tensor in made if label else ():
                self._of[tensor] = label
        return output

    def _label(self, name: str, args: tuple[Any, ...], given: list[torch.Tensor], made: torch.Tensor) -> Inputs:
        if name in _ATTENTIONS and given:
            return self.of(given[0])
        if name in _PRODUCTS and len(given) > 1:
            first, second = given[-2:] if name != "einsum" else _by_rows(args[0], given)
            return self.of(first if first.dim() > 2 or self.of(first) else second)
        known = [tensor for tensor in given if self.of(tensor)]
        apart = list(dict.fromkeys(map(self.of, known)))
        if len(apart) < 2:
            return apart[0] if apart else ()
        if name in _JOINS and made.shape[-1] == given[0].shape[-1]:
            parts = [part for names in apart for name in names for part in name.split(_AND)]
            return (_AND.join(dict.fromkeys(parts)),)  # one behind the other: a stream of its own
        largest = max(tensor.numel() for tensor in known)  # a smaller one is shared by rows, or by sequences
        rows = [tensor for tensor in known if tensor.numel() == largest]
        return tuple(dict.fromkeys(name for tensor in rows for name in self.of(tensor)))


def named_streams(pairs: Sequence[tuple[Inputs, Inputs]]) -> list[tuple[str, str]]:
    """Name the streams of attentions, whose queries and keys stand for these inputs.

    What stands for some inputs of another is of its stream (queries that positions were added to, keys that they were not). A
    stream has the name of its first input that no other stream has.

    Raises
    ------
    ValueError
        If something stands for what two streams share.
    """
    sets = list(dict.fromkeys(names for pair in pairs for names in pair if names))
    largest = [names for names in sets if not any(set(names) < set(other) for other in sets)]
    streams = list({frozenset(names): names for names in reversed(largest)}.values())[::-1]
    known: dict[Inputs, str] = {(): LEARNED}
    for names in sets:
        fitting = [stream for stream in streams if set(names) <= set(stream)]
        if len(fitting) > 1:
            raise ValueError(" and ".join(map(repr, names)))
        others = {name for stream in streams if stream is not fitting[0] for name in stream}
        known[names] = next((name for name in fitting[0] if name not in others), " & ".join(fitting[0]))
    return [(known[query], known[key]) for query, key in pairs]


def _by_rows(equation: Any, given: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the operands of an einsum, first that whose letter stands for the rows of the result."""
    first, second = given[-2:]
    if not isinstance(equation, str) or "->" not in equation or equation.count(",") != 1:
        return first, second
    letters, _, result = equation.replace(" ", "").partition("->")
    left, right = letters.split(",")
    own = [letter for letter in result[:-1] if (letter in left) != (letter in right)]
    return (first, second) if not own or own[-1] in left else (second, first)


def require_used(declared: Declared | None, names: Sequence[str]) -> None:
    """Make sure that each pattern is of some attention. Raises ``InputError``."""
    for pattern in declared or {}:
        if not fnmatch.filter(names, pattern):
            known = ", ".join(dict.fromkeys(names))
            raise InputError(f"streams[{pattern!r}] fits no attention of the module. It has {known}.")


def declared_streams(declared: Declared | None, name: str) -> tuple[str, str] | None:
    """Return the streams that were declared for an attention; None if none were.

    Raises
    ------
    InputError
        If what was declared is neither one stream nor two.
    """
    for pattern, streams in (declared or {}).items():
        if fnmatch.fnmatchcase(name, pattern):
            pair = (streams, streams) if isinstance(streams, str) else tuple(streams)
            if len(pair) != 2:
                raise InputError(
                    f"streams[{pattern!r}] is {streams!r}: give one stream, or that of the queries and that of the keys."
                )
            return pair[0], pair[1]
    return None
