"""Any torch module that nobody registered, with the batches that its user feeds it.

Receives a module and batches as it takes them; gives a ``LoadedModel`` and its sequences. A batch always runs whole and as it was
given: nothing in it is cut by sequence, so nothing needs to be known of which inputs all sequences share. Which positions hold a
token is learned from the masks that its attentions are given (``capturing.survey``).
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.errors import AttnvizError, InputError, ModelError
from attnviz.models.loaded import Batch, out_of_memory, resolved_dtype, stream_lengths
from attnviz.models.module_sequences import Held, batch_of
from attnviz.types import ModelInfo, Record, TokenSequence

__all__ = [
    "Given",
    "TorchModel",
    "sequences_among",
    "tensors_in",
]

sequences_among: ContextVar[Callable[[int, Container[int]], int] | None] = ContextVar("attnviz_sequences", default=None)
"""How many sequences the batch that is running has, if they share an axis of some length with heads, and so many tokens attend."""


@dataclass(frozen=True, slots=True)
class Given:
    """One batch, as the module takes it."""

    unnamed: tuple[Any, ...]
    named: Mapping[str, Any]

    def inputs(self, module: Any) -> dict[str, Any]:
        """Return all inputs by name; those in order have the names of the module's parameters, where these can be told."""
        names = _parameters(module)
        known = {names[i] if i < len(names) else f"input {i}": value for i, value in enumerate(self.unnamed)}
        return known | dict(self.named)


class TorchModel:
    """A torch module and the batches to run it on.

    Parameters
    ----------
    module
        As its user has it: on its device, with its weights. It is put into evaluation mode while it is watched.
    batches
        What it takes: a tensor, a list of inputs in order, inputs by name, or any one object that its ``forward`` reads.
    name
        What to call it.
    batch_axis
        Which axis of its inputs is the batch, where that must be known.

    Raises
    ------
    InputError
        If there is no batch, or an empty one.
    """

    max_length: int | None = None
    windows: Mapping[str, NDArray[np.int32]] = MappingProxyType({})

    def __init__(
        self, module: torch.nn.Module, batches: Iterable[Any], name: str, *, batch_axis: int | None = None
    ) -> None:
        self.module: Any = getattr(module, "_orig_mod", module)  # what torch.compile wraps cannot be seen into
        self.batches = [_given(batch, self.module) for batch in batches]
        self.batch_axis = batch_axis
        self._is_batch_second = any(getattr(child, "batch_first", True) is False for child in self.module.modules())
        self.held: list[Held] = []  # of each batch, once it was surveyed
        _require_filled(self)
        self.info = ModelInfo(
            id=name,
            library="torch",
            architecture=type(self.module).__name__,
            modality="text",
            dtype=resolved_dtype(self.module),
            num_parameters=sum(weight.numel() for weight in self.module.parameters()),
        )

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Refuse: what this module reads is known in its own batches alone."""
        raise InputError(f"{self.info.id} is a torch module: it reads the batches that it was given, and nothing else.")

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Return the batch whose sequences these are: all of it, and in its order.

        Raises
        ------
        InputError
            If they are not just the sequences of one batch.
        """
        number = batch_of(sequences[0])
        held = self.held[number]
        wanted = [f"batch {number}, row {row}" for row in range(len(next(iter(held.values()))))]
        if [sequence.record.reference for sequence in sequences] != wanted:
            raise InputError(
                "The sequences of a torch module run in the batches that they came in, whole and in order."
            )
        return Batch(
            {"batch": self.batches[number]},
            stream_lengths(sequences),
            {stream: places.shape[1] for stream, places in held.items()},
            {stream: places for stream, places in held.items() if not _is_first(places)},
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the module; return the first tensor of what it returns."""
        return _first(self.call(batch.inputs["batch"]))

    def call(self, given: Given) -> Any:
        """Call the module in evaluation mode. Its flags are as they were afterwards, whatever happens.

        Raises
        ------
        ModelError
            If the module itself fails, with its own words.
        """
        training = {child: child.training for child in self.module.modules()}
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one kernel for a whole layer, which cannot be seen into
        try:
            with torch.no_grad(), _uncompiled(), _told(partial(self._sequences, given)):
                with suppress(NotImplementedError):  # what torch.export made has one mode
                    self.module.eval()
                return self.module(*given.unnamed, **given.named)
        except AttnvizError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            number = self._number(given)
            said = " ".join(str(error).split())
            raise ModelError(f"{self.info.id} fails on batch {number}: {type(error).__name__}: {said}") from error
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for child, was in training.items():
                child.training = was

    def _sequences(self, given: Given, shared: int, tokens: Container[int]) -> int:
        """Return how many sequences a batch has, whose product has one axis for sequences and heads.

        Parameters
        ----------
        shared
            How long that axis is.
        tokens
            How many queries and keys there are.

        Raises
        ------
        InputError
            If either of the first axes of the inputs may be the batch.
        """
        number = self._number(given)
        if number < len(self.held):
            return len(next(iter(self.held[number].values())))
        if self.batch_axis is not None:
            return self.size(given)
        name, tensor = next(tensors_in(given.inputs(self.module)))
        first, second, *_ = map(int, (*tensor.shape, 0, 0))
        fitting = {
            size for size, other in ((first, second), (second, first)) if size and not shared % size and other in tokens
        }
        if not fitting and not self._is_batch_second and first and not shared % first:
            return first  # its tokens are made of all else, as patches are
        if len(fitting) == 1:
            return fitting.pop()
        raise InputError(
            f"{self.info.id} multiplies {shared} sequences and heads in one axis. Which axis of {name} of shape "
            f"{tuple(tensor.shape)} in batch {number} is the batch cannot be told. Say it with batch_axis=0 or batch_axis=1."
        )

    def size(self, given: Given) -> int:
        """Return how long the first tensor of a batch is along ``batch_axis``. Raises ``InputError`` if it has no such axis."""
        axis = self.batch_axis or 0
        name, tensor = next(tensors_in(given.inputs(self.module)))
        if axis >= tensor.dim():
            raise InputError(
                f"batch_axis is {axis}, but {name} of batch {self._number(given)} is of shape {tuple(tensor.shape)}."
            )
        return int(tensor.shape[axis])

    def _number(self, given: Given) -> int:
        return next((place for place, batch in enumerate(self.batches) if batch is given), len(self.batches))

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return None: what the inputs look like is not known."""
        return None


def _is_first(places: NDArray[np.bool_]) -> bool:
    """Tell whether in every row the tokens come first."""
    return not (np.diff(places.astype(np.int8), axis=1) > 0).any()


def _uncompiled() -> AbstractContextManager[Any]:
    """Let parts that torch.compile wrapped run as they were written; what it made of them cannot be seen into."""
    loaded = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if loaded else nullcontext()


@contextmanager
def _told(sequences: Callable[[int, Container[int]], int]) -> Iterator[None]:
    token = sequences_among.set(sequences)
    try:
        yield
    finally:
        sequences_among.reset(token)


def tensors_in(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of an input, however it is wrapped, by a name."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from tensors_in(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, tuple | list):
        for key, inner in enumerate(value):
            yield from tensors_in(inner, f"{name}.{key}" if name else str(key))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)


def _given(batch: Any, module: Any) -> Given:
    """Tell how a module takes what was given: inputs by name, in order, or one object."""
    if isinstance(batch, Given):
        return batch
    if isinstance(batch, Mapping):
        named = {str(name): value for name, value in batch.items()}
        return Given((), named) if _takes(module, named) else Given((batch,), {})
    if isinstance(batch, tuple | list) and not hasattr(batch, "_fields"):
        return Given(tuple(batch), {})
    if isinstance(batch, torch.Tensor) or next(tensors_in(batch), None) is not None:
        return Given((batch,), {})
    raise InputError(
        "A batch is a tensor, a list of inputs or named inputs, as the module takes them; "
        f"{type(batch).__name__} was given."
    )


def _takes(module: Any, named: Mapping[str, Any]) -> bool:
    """Tell whether a module takes inputs of these names, rather than one mapping."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(**named)
    except TypeError:
        needed = [one for one in signature.parameters.values() if one.default is one.empty and one.kind in _IN_ORDER]
        return len(needed) != 1 or needed[0].name in named
    return True


_IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _parameters(module: Any) -> list[str]:
    try:
        return [one.name for one in inspect.signature(module.forward).parameters.values() if one.kind in _IN_ORDER]
    except (TypeError, ValueError):
        return []


def _require_filled(model: TorchModel) -> None:
    """Refuse batches in which there is nothing."""
    if not model.batches:
        raise InputError("No batch was given. Give at least one, as the module takes it.")
    for number, batch in enumerate(model.batches):
        found = list(tensors_in([batch.unnamed, dict(batch.named)]))
        if not found or all(tensor.numel() == 0 for _, tensor in found):
            raise InputError(f"Batch {number} is empty: it holds no tensor with anything in it. Leave it out.")


def _first(output: Any) -> torch.Tensor:
    """Return the first tensor in whatever a module returns."""
    found = next((tensor for _, tensor in tensors_in([output, getattr(output, "__dict__", None)])), None)
    if found is None:
        raise ModelError(
            f"The module returned {type(output).__name__}, in which there is no tensor to see whether capturing changes it. Let "
            "its forward return what it computes: a tensor, or any list, mapping or object that holds one."
        )
    return found
