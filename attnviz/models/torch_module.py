"""Any torch module that nobody registered, with the batches that its user feeds it.

Receives a module and batches as it takes them; gives a ``LoadedModel`` and its sequences. Tokens have no text unless it is given:
they are named by their position.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnviz.errors import InputError, ModelError
from attnviz.models.loaded import Batch, resolved_dtype, stream_lengths
from attnviz.token_text import guessed
from attnviz.types import ModelInfo, Record, TokenSequence

__all__ = ["TorchModel", "sequences_of_batches"]

Given = Mapping[str, torch.Tensor] | Sequence[torch.Tensor] | torch.Tensor
"""What a module takes: named tensors, tensors in order, or one tensor; the first axis of each is the batch."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One sequence of a batch."""

    batch: int
    row: int


class TorchModel:
    """A torch module and the batches to run it on.

    Parameters
    ----------
    module
        As its user has it: on its device, with its weights. It is put into evaluation mode while it is watched.
    batches
        What it takes. Sequences of one batch stay together, because only they have inputs of one shape.
    name
        What to call it.
    """

    max_length: int | None = None
    windows: Mapping[str, NDArray[np.int32]] = MappingProxyType({})

    def __init__(self, module: torch.nn.Module, batches: Iterable[Given], name: str) -> None:
        self.module: Any = module
        self.batches = [_named(batch) for batch in batches]
        self.info = ModelInfo(
            id=name,
            library="torch",
            architecture=type(module).__name__,
            modality="text",
            dtype=resolved_dtype(module),
            num_parameters=sum(weight.numel() for weight in module.parameters()),
        )

    def encode(self, record: Record, max_length: int | None = None) -> TokenSequence:
        """Refuse: what this module reads is known in its own batches alone."""
        raise InputError(f"{self.info.id} is a torch module: it reads the batches that it was given, and nothing else.")

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Return the rows of one batch that belong to these sequences.

        Raises
        ------
        InputError
            If they are of different batches.
        """
        places = [_place(sequence) for sequence in sequences]
        if len({place.batch for place in places}) > 1:
            raise InputError("Sequences of different batches of a torch module cannot run together.")
        rows = [place.row for place in places]
        inputs = {name: values[rows] for name, values in self.batches[places[0].batch].items()}
        return Batch(inputs, stream_lengths(sequences))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the module; return the first tensor of what it returns."""
        return _first(self.call(batch.inputs))

    def call(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Call the module, in evaluation mode, with inputs by name, or in order where they have none."""
        unnamed = [value for name, value in inputs.items() if name.startswith("#")]
        named = {name: value for name, value in inputs.items() if not name.startswith("#")}
        training = [child for child in self.module.modules() if child.training]
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one kernel for a whole layer, which cannot be seen into
        try:
            with torch.inference_mode():
                return self.module.eval()(*unnamed, **named)
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for child in training:
                child.training = True

    def picture(self, sequence: TokenSequence) -> NDArray[np.uint8] | None:
        """Return None: what the inputs look like is not known."""
        return None


def sequences_of_batches(
    model: TorchModel, widths: Sequence[int], tokens: Sequence[Sequence[str]] | None = None
) -> list[TokenSequence]:
    """Return the sequences of a module's batches, in order.

    Parameters
    ----------
    widths
        How many positions each batch attends over.
    tokens
        The texts of each sequence's tokens, whose marks tell words and punctuation; without them an ``attention_mask`` says how
        many there are, and all count where there is none.

    Raises
    ------
    InputError
        If there are not as many texts as sequences, or more tokens than positions.
    """
    places = [
        (_Row(number, row), _held(batch, row, widths[number]))
        for number, batch in enumerate(model.batches)
        for row in range(len(next(iter(batch.values()))))
    ]
    if tokens is not None and len(tokens) != len(places):
        raise InputError(f"tokens holds the texts of {len(tokens)} sequences; the batches hold {len(places)}.")
    sequences = []
    for index, (place, held) in enumerate(places):
        texts = tuple(map(str, range(held))) if tokens is None else tuple(map(str, tokens[index]))
        if not 0 < len(texts) <= widths[place.batch]:
            raise InputError(
                f"Sequence {index} has {len(texts)} tokens; its batch attends over {widths[place.batch]} positions. Give at least "
                "one text, and no more than that."
            )
        sequences.append(_sequence(place, texts))
    return sequences


def _sequence(place: _Row, texts: tuple[str, ...]) -> TokenSequence:
    count = len(texts)
    nowhere = np.full(count, -1, np.int16)
    record = Record(f"batch {place.batch}, row {place.row}", text=" ".join(texts), attributes={"batch": place.batch})
    return TokenSequence(
        record=record,
        tokens=guessed(texts),
        input_ids=np.full(count, -1, np.int32),
        is_special=np.zeros(count, bool),
        segment=np.zeros(count, np.int8),
        patch_row=nowhere,
        patch_col=nowhere,
        is_image=np.zeros(count, bool),
    )


def _place(sequence: TokenSequence) -> _Row:
    batch, row = (int(part.rsplit(" ", 1)[1]) for part in sequence.record.reference.split(", "))
    return _Row(batch, row)


def _named(given: Given) -> dict[str, torch.Tensor]:
    if isinstance(given, Mapping):
        return dict(given)
    values = [given] if isinstance(given, torch.Tensor) else list(given)
    if not values or not all(isinstance(value, torch.Tensor) for value in values):
        raise InputError(
            "A batch is a tensor, a list of tensors or named tensors, as the module takes them; "
            f"{type(given).__name__} was given."
        )
    return {f"#{number}": value for number, value in enumerate(values)}


def _held(batch: Mapping[str, torch.Tensor], row: int, width: int) -> int:
    mask = batch.get("attention_mask")
    return int(mask[row].sum()) if mask is not None and mask.ndim == 2 else width


def _first(output: Any) -> torch.Tensor:
    """Return the first tensor in whatever a module returns."""
    if isinstance(output, torch.Tensor):
        return output
    inner = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    for value in inner:
        try:
            return _first(value)
        except ModelError:
            continue
    raise ModelError(f"The module returned {type(output).__name__}, in which there is no tensor.")
