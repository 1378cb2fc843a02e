"""Seam 3: any torch model that multiplies by hand, ``softmax(q @ k.T …) @ v``; BLOOM, GPT-J, MPNet and timm's Swin do.

A ``TorchFunctionMode`` follows every matrix product through what may happen to logits (factors, a soft-cap, biases, masks,
changes of shape or dtype) to a softmax, and its weights to the product with the values, where ``see`` is called. A softmax
that comes from no product, or never meets values, is not an attention and is passed over. What was added is what the logits
have beyond ``scaling · q · k``, so no model's way of adding it needs to be known; the model's own weights are those that
meet the values, so whatever happens to them after the softmax shows in the check.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from attnviz.capturing.contract import HIDDEN, Call, Own, See
from attnviz.capturing.torch_sdpa import opened_functions
from attnviz.errors import AttnvizError
from attnviz.models.torch_module import sequences_among, tensors_in

__all__ = ["watch"]

_ROUNDING = 1e-6  # of a logit: a smaller difference is the order in which it was computed

_PRODUCTS = frozenset({"matmul", "bmm", "baddbmm", "einsum"})
_FACTORS = frozenset({"mul", "imul", "rmul", "multiply", "div", "divide", "truediv", "itruediv", "true_divide"})
_SAME = frozenset(
    "add iadd radd sub isub where masked_fill max maximum clamp clip nan_to_num dropout to float half bfloat16 double type "
    "type_as contiguous clone detach view reshape view_as unsqueeze squeeze".split()
)
_STEPS = _PRODUCTS | _FACTORS | _SAME | {"tanh", "softmax"}


@dataclass(frozen=True, slots=True)
class _Logits:
    """What was multiplied, ``(…, tokens, head_dim)``, and what was done to the product since."""

    query: torch.Tensor
    key: torch.Tensor
    scaling: float = 1.0
    softcap: float | None = None

    def bare(self) -> torch.Tensor:
        """Return the logits as they were before anything was added."""
        logits = (self.query @ self.key.transpose(-1, -2)) * self.scaling
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


@dataclass(frozen=True, slots=True)
class _Weights:
    """What a softmax was taken of; shapes are ``(batch, heads, tokens, …)``."""

    logits: _Logits
    added: torch.Tensor
    unclear: AttnvizError | None = None  # why the shapes are not these


@contextmanager
def watch(module: torch.nn.Module, see: See, *, own: Own = "output") -> Iterator[None]:
    """Watch any torch model; see ``Backend``."""
    watcher = _Watcher(see, own)
    hooks = []
    try:
        hooks.append(module.register_forward_pre_hook(watcher.begin, with_kwargs=True))
        for name, child in module.named_modules():
            hooks.append(child.register_forward_pre_hook(partial(watcher.enter, name or type(module).__name__)))
            hooks.append(child.register_forward_hook(watcher.end, always_call=True))
        with opened_functions(), watcher:
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _Watcher(TorchFunctionMode):
    def __init__(self, see: See, own: Own) -> None:
        super().__init__()
        self.see, self.own = see, own
        self.stack: list[tuple[str, torch.nn.Module | None]] = [("", None)]
        self.batch = 1
        self.known: Any = WeakTensorKeyDictionary()  # _Logits or _Weights of a tensor, for as long as it lives

    def begin(self, module: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Note how many sequences the model is given: products of three dimensions hold batch and heads in one."""
        self.batch = next((len(given) for _, given in tensors_in([args, options]) if given.dim()), 1)

    def enter(self, name: str, module: torch.nn.Module, *_: Any) -> None:
        """Enter a module."""
        self.stack.append((name, module))

    def end(self, *_: Any) -> None:
        """Leave a module: what follows belongs to the one around it."""
        self.stack.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        output = func(*args, **options)
        name = (
            getattr(func, "__name__", "").partition(".")[0].strip("_")
        )  # in the graph of torch.export: "matmul.default"
        if name in _STEPS and isinstance(output, torch.Tensor):
            self._step(name, args, options, output)
        return output

    def _step(self, name: str, args: tuple[Any, ...], options: dict[str, Any], output: torch.Tensor) -> None:
        """Carry what is known of an operation's inputs over to its output."""
        tensors = _tensors(args, options)
        place, source = next(
            ((i, self.known[given]) for i, given in enumerate(tensors) if given in self.known), (0, None)
        )
        known: _Logits | _Weights | None = None
        if name in _PRODUCTS:
            if isinstance(source, _Weights):
                self._meets(source, _met(name, args, tensors, place), _rows_of(name, args, place, output))
            known = _product(name, args, options, tensors)
        elif isinstance(source, _Weights):
            known = source
        elif isinstance(source, _Logits) and name == "softmax":
            known = self._softmax(source, tensors[0]) if _along_keys(args, options, output) else None
        elif isinstance(source, _Logits):
            known = _followed(name, source, args, place)
        if known is not None:
            self.known[output] = known

    def _softmax(self, logits: _Logits, given: torch.Tensor) -> _Weights | None:
        """Bring everything to four dimensions, and find what was added; None where the shapes are no attention's."""
        batch = next((len(values) for values in (given, logits.query) if values.dim() == 4), None)
        try:
            batch = batch or self._sequences(given)
        except AttnvizError as error:  # which matters if it meets values
            return _Weights(logits, given, error)
        if any(len(values.flatten(0, -3)) % batch for values in (logits.query, logits.key, given)):
            return None
        split = replace(logits, query=_split(logits.query, batch), key=_split(logits.key, batch))
        bare, given = split.bare().float(), _split(given, batch).float()
        if bare.shape != given.shape:
            return None
        added = given - bare
        rounding = added.abs() <= _ROUNDING * bare.abs()
        return _Weights(split, added.masked_fill(rounding, 0.0).masked_fill(added <= HIDDEN, -torch.inf))

    def _sequences(self, given: torch.Tensor) -> int:
        """Return how many sequences logits are of whose first axis holds batch and heads in one."""
        running = self.stack[-1][1]
        if isinstance(running, torch.nn.MultiheadAttention):
            return max(1, len(given) // int(running.num_heads))
        told = sequences_among.get()
        return self.batch if told is None else told(len(given), given.shape[-2:])

    def _meets(
        self, source: _Weights, operands: tuple[torch.Tensor, torch.Tensor] | None, output: torch.Tensor | None
    ) -> None:
        """Hand over an attention whose weights are multiplied with values."""
        if operands is None:
            return
        if source.unclear is not None:
            raise source.unclear
        weights, value = operands
        logits, batch = source.logits, len(source.added)
        self.see(
            Call(
                name=self.stack[-1][0],
                query=logits.query,
                key=logits.key,
                value=_split(value.transpose(-1, -2), batch),
                scaling=logits.scaling,
                softcap=logits.softcap,
                added=source.added,
                weights=weights.reshape(source.added.shape) if self.own == "weights" else None,
                output=None if output is None else _split(output, batch),
            )
        )


def _tensors(args: tuple[Any, ...], options: Mapping[str, Any]) -> list[torch.Tensor]:
    return [given for given in (*args, *options.values()) if isinstance(given, torch.Tensor)]


def _split(values: torch.Tensor, batch: int) -> torch.Tensor:
    """Return ``(batch, heads, tokens, …)`` of what may hold batch and heads in one, or windows besides."""
    return values if values.dim() == 4 else values.reshape(batch, -1, *values.shape[-2:])


def _along_keys(args: tuple[Any, ...], options: Mapping[str, Any], output: torch.Tensor) -> bool:
    return options.get("dim", args[1] if len(args) > 1 else None) in (-1, output.dim() - 1)


def _product(
    name: str, args: tuple[Any, ...], options: Mapping[str, Any], tensors: list[torch.Tensor]
) -> _Logits | None:
    """Return what logits come from, if this product may be logits."""
    operands = _operands(name, args, tensors)
    if operands is None:
        return None
    if name == "einsum":
        letters, result = args[0].replace(" ", "").split("->")
        first, second = letters.split(",")
        shared = "".join(letter for letter in first if letter in second and letter in result)
        if result[:-2] != shared:
            return None
        operands = operands[::-1] if result[-2] in second else operands
    return _Logits(*operands, scaling=float(options.get("alpha", 1.0)))


def _operands(
    name: str, args: tuple[Any, ...], tensors: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return both operands of a product as ``(…, rows, inner)``, the inner dimension being what is summed over."""
    if len(tensors) != 2 + (name == "baddbmm") or min(tensor.dim() for tensor in tensors[-2:]) < 3:
        return None
    first, second = tensors[-2:]
    return _arranged(args[0], first, second) if name == "einsum" else (first, second.transpose(-1, -2))


def _met(
    name: str, args: tuple[Any, ...], tensors: list[torch.Tensor], place: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the operands of a product of weights, weights first; None where it is not summed over keys."""
    operands = _operands(name, args, tensors)
    if name == "einsum" and operands is not None:
        given, _, result = args[0].replace(" ", "").partition("->")
        if given.split(",")[place][-1] in result:
            return None
        return (operands[1], operands[0]) if place else operands
    return None if place else operands


def _rows_of(name: str, args: tuple[Any, ...], place: int, output: torch.Tensor) -> torch.Tensor | None:
    """Return the product of weights and values as ``(…, rows, value_dim)``; None where it cannot be told."""
    if name != "einsum":
        return output
    letters, _, result = args[0].replace(" ", "").partition("->")
    own = letters.split(",")
    rows = [letter for letter in result if letter in own[place] and letter not in own[1 - place]]
    last = [letter for letter in result if letter in own[1 - place] and letter not in own[place]]
    shared = [letter for letter in own[place] if letter in own[1 - place] and letter in result]
    if len(rows) != 1 or len(last) != 1 or len(shared) + 2 != len(result):
        return None
    return output.permute([result.index(letter) for letter in (*shared, *rows, *last)])


def _arranged(equation: str, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the operands of an einsum as ``_operands`` does; None where it is no batched matrix product."""
    given, _, result = equation.replace(" ", "").partition("->")
    letters = given.split(",")
    both = [letter for letter in letters[0] if letter in letters[1]]
    inner = [letter for letter in both if letter not in result]
    shared = [letter for letter in both if letter in result]
    rows = [[letter for letter in own if letter not in both] for own in letters]
    if "." in equation or [len(inner), *map(len, rows)] != [1, 1, 1]:
        return None
    orders = [[own.index(letter) for letter in (*shared, *row, *inner)] for own, row in zip(letters, rows, strict=True)]
    return first.permute(orders[0]), second.permute(orders[1])


def _followed(name: str, source: _Logits, args: tuple[Any, ...], place: int) -> _Logits | None:
    """Return what is known of logits after an operation; None where it is nothing that logits go through."""
    if name == "tanh":
        return replace(source, softcap=1.0) if source.softcap is None else None
    if name in _SAME:
        return source if place == 0 or "sub" not in name else None
    divided = "div" in name
    if len(args) != 2 or (divided and place):
        return None
    return _times(source, 1 / args[1] if divided else args[1 - place], args[place].shape)


def _times(source: _Logits, factor: Any, shape: torch.Size) -> _Logits | None:
    """Multiply logits of some shape by a number, or by numbers of heads or queries, which go into the queries."""
    if isinstance(factor, torch.Tensor) and factor.numel() == 1:
        factor = factor.item()
    if not isinstance(factor, torch.Tensor):
        softcap = None if source.softcap is None else source.softcap * factor
        return replace(source, scaling=source.scaling * factor, softcap=softcap)
    if ((factor == 0) | (factor == 1)).all():
        return source  # a mask, which shows in what was added
    if factor.shape[-1] != 1 or source.softcap is not None or source.query[..., 0].numel() != shape[:-1].numel():
        return None
    return replace(source, query=source.query.reshape(*shape[:-1], -1) * factor)
