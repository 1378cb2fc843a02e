"""Before anything is captured: which sequences, what the tables say of them, and whether the model can be trusted.

Receives a recipe and a loaded model; gives tokenised sequences and the tables ``sequences``, ``tokens`` and ``images``. A limit
on tokens draws whole sequences with the seed, never "the first n", and reads few more rows than it takes. A row that cannot be
used is skipped and counted, the first like any other; the run is refused only if no row is left.
"""

import io
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attnviz import schema
from attnviz.capturing import LONG
from attnviz.errors import CaptureError, InputError, nearest, require
from attnviz.inputs import DataOptions, Skip, draw, name_columns, nothing_usable
from attnviz.models import LoadedModel, also_unread, head_unread
from attnviz.pipeline.given_labels import given_labels
from attnviz.recipe import Recipe
from attnviz.store.predictions import GIVEN, predicted_names
from attnviz.types import LayerInfo, Progress, Record, TokenSequence

__all__ = [
    "Prepared",
    "Probes",
    "image_tables",
    "prepare",
    "probe_sequences",
    "select_layers",
    "sequence_table",
    "token_table",
]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The sequences of a run, in order, and what became of the other rows."""

    sequences: tuple[TokenSequence, ...]
    skipped: Mapping[str, int]  # reason: rows that could not be used
    cuts: tuple[int, ...] = ()
    """Where a shard must begin, of sequences that run as one batch; none: wherever it is full."""
    shortened: int = 0  # sequences that were cut to the longest length
    rows: int = 0  # of the data: those used, those skipped, and those not drawn; 0: not known
    examples: Mapping[str, str] = field(default_factory=dict)  # reason: the first row of it, in words
    notes: tuple[str, ...] = ()  # what was assumed of the data, and done to it
    given: pa.Array | None = None  # the user's labels as names of the model's classes

    @property
    def first_tokens(self) -> NDArray[np.int64]:
        """The row of each sequence's first token, and behind the last one the number of all tokens."""
        return np.concatenate([[0], np.cumsum([len(sequence) for sequence in self.sequences])]).astype(np.int64)

    @property
    def longest(self) -> dict[str, int]:
        """Tokens of the longest sequence, by stream."""
        counts: dict[str, int] = {}
        for sequence in self.sequences:
            for name, count in _streams(sequence):
                counts[name] = max(count, counts.get(name, 0))
        return counts

    def shards(self, tokens: int) -> tuple[range, ...]:
        """Cut the sequences into runs of about ``tokens`` tokens; a sequence is never cut."""
        if self.cuts:
            return tuple(range(a, b) for a, b in itertools.pairwise((*self.cuts, len(self.sequences))))
        cuts, held = [0], 0
        for index, sequence in enumerate(self.sequences):
            if held and held + len(sequence) > tokens:
                cuts.append(index)
                held = 0
            held += len(sequence)
        return tuple(range(a, b) for a, b in zip(cuts, [*cuts[1:], len(self.sequences)], strict=True))


def prepare(recipe: Recipe, model: LoadedModel, progress: Progress) -> Prepared:
    """Read the data and tokenise as much of it as the recipe asks for.

    Raises
    ------
    InputError
        If the data cannot be read, or gives no sequence: it says which rows were skipped why, and the first in its own words.
    """
    limits = recipe.data.max_tokens, recipe.data.max_sequences
    options, unread = _readable(recipe, model)
    drawn = draw(recipe.data.source, options=options, seed=recipe.seed, limited=limits != (None, None))
    held = _Held(*limits)

    def use(record: Record) -> TokenSequence | Skip:
        """Return the sequence of a record, or why it is left out."""
        try:
            sequence = model.encode(record, recipe.data.max_length)
        except InputError as error:
            if not held.sequences and drawn.skipped[_UNREAD] >= _HOPELESS:
                raise
            return Skip(_UNREAD, record.reference, str(error))
        held.add(sequence)
        progress("tokenize", *held.progress(drawn.rows))
        return sequence

    sequences = drawn.collect(use, lambda: held.room(drawn.rows))
    if not sequences:
        raise InputError(f"{nothing_usable(drawn)} Check the column, the model and the limits.")
    found = [sequence.record for sequence in sequences]
    given, unfit = given_labels(found, model.info, recipe.data.label_column)
    ours = [*schema.SEQUENCES.names, *predicted_names(model.info), *([] if given is None else [GIVEN])]
    records, renamed = name_columns(found, ours)
    _require_columns(recipe.data.classes, records)
    return Prepared(
        tuple(replace(sequence, record=record) for sequence, record in zip(sequences, records, strict=True)),
        dict(drawn.skipped),
        shortened=sum(sequence.truncated for sequence in sequences),
        rows=drawn.rows,
        examples=dict(drawn.examples),
        notes=(*drawn.notes(), *renamed, *unread, *head_unread(model), *unfit, *_notes(sequences)),
        given=given,
    )


def _readable(recipe: Recipe, model: LoadedModel) -> tuple[DataOptions, tuple[str, ...]]:
    """Return how to read the data for a model, and what of it the model is not given.

    Raises
    ------
    InputError
        If pictures are named for a model that could read them and is run on text alone: a run without them would look like one
        with them.
    """
    options, info = recipe.data.options(), model.info
    column, more = options.image_column, also_unread(model)
    if info.modality != "text" or (column is None and not more):
        return options, ()
    if column is None:
        return options, (f"{info.id} also reads {', '.join(more)}; it was given texts alone",)
    if more:
        raise InputError(
            f"data.image_column = {column!r} names pictures, but a {info.architecture} is run on text alone here, though it also "
            f"reads {', '.join(more)}. Drop data.image_column to run it on the texts, or choose CLIP, SigLIP or LLaVA."
        )
    return replace(options, image_column=None), (f"the pictures of {column!r} were not read: {info.id} reads text",)


def _require_columns(wanted: Sequence[str], records: Iterable[Record]) -> None:
    """Make sure that columns are there which the recipe speaks of."""
    known = dict.fromkeys(name for record in records for name in record.attributes)
    for name in wanted:
        if name not in known:
            raise InputError(
                f"data.classes names the column {name!r}, which the data does not have: {nearest(name, known)}"
            )


def _notes(sequences: Sequence[TokenSequence]) -> Iterator[str]:
    """Say what was done to the data, and to how many sequences."""
    for note, count in Counter(note for sequence in sequences for note in sequence.record.notes).items():
        yield f"{count:,} × {note}"


_UNREAD = "nothing for the model to read"
_HOPELESS = 1000  # rows that a model cannot read, and none that it can: it is the data, not a row of it


@dataclass(slots=True)
class _Held:
    """How much has been drawn, of how much."""

    max_tokens: int | None
    max_sequences: int | None
    tokens: int = 0
    sequences: int = 0

    def add(self, sequence: TokenSequence) -> None:
        self.tokens += len(sequence)
        self.sequences += 1

    def room(self, rows: int) -> int:
        """Return how many more rows to try: as many as the limit on tokens will likely take, and few more."""
        room = rows if self.max_sequences is None else self.max_sequences - self.sequences
        if self.max_tokens is None or room <= 0:
            return room
        missing = self.max_tokens - self.tokens
        if missing <= 0 or not self.sequences:
            return min(room, _FIRST if missing > 0 else 0)
        return min(room, int(1.1 * missing * self.sequences / self.tokens) + 8)

    def progress(self, rows: int) -> tuple[int, int]:
        """Return how far the draw is, and how far it goes."""
        if self.max_tokens:
            return min(self.tokens, self.max_tokens), self.max_tokens
        return self.sequences, min(rows, self.max_sequences or rows)


_FIRST = 32  # rows, to learn how many tokens a row has


@dataclass(frozen=True, slots=True)
class Probes:
    """What a model is checked on."""

    short: list[TokenSequence]  # whose own attention weights fit beside the model
    long: list[TokenSequence]  # the longest of the run, if it is longer than that

    @property
    def all(self) -> list[TokenSequence]:
        """All of them."""
        return [*self.short, *self.long]


def probe_sequences(prepared: Prepared) -> Probes:
    """Choose what the model is checked on: the longest sequence that fits, the shortest, two between them; and the longest of all.

    Where none fits, the start of the shortest stands for them.
    """
    order = sorted(prepared.sequences, key=len)
    fitting = [sequence for sequence in order if len(sequence) <= LONG] or [order[0].cut(LONG), order[0].cut(LONG // 2)]
    picks = {0, len(fitting) // 3, 2 * len(fitting) // 3, len(fitting) - 1}
    for stream in fitting[0].streams:  # as far as a bias of distances must be known
        picks.add(max(range(len(fitting)), key=lambda index: fitting[index].streams.get(stream, 0)))
    return Probes(
        [fitting[index] for index in sorted(picks, reverse=True)], order[-1:] if len(order[-1]) > LONG else []
    )


def select_layers(layers: Sequence[LayerInfo], wanted: int | tuple[int, ...] | None) -> tuple[LayerInfo, ...]:
    """Choose layers as timm does: None all, a number the last so many, a list these (negatives count from the end).

    Raises
    ------
    CaptureError
        If the model has no such layer.
    """
    if wanted is None:
        return tuple(sorted(layers, key=attrgetter("layer")))
    if isinstance(wanted, int):
        if not 1 <= wanted <= len(layers):
            raise CaptureError(f"capture.layers asks for the last {wanted} layers; the model has {len(layers)}.")
        return tuple(sorted(layers, key=attrgetter("layer"))[-wanted:])
    by_number = {info.layer: info for info in layers}
    numbers = sorted(by_number)
    chosen = set()
    for number in wanted:
        if number not in by_number and not -len(numbers) <= number < 0:
            raise CaptureError(f"capture.layers asks for layer {number}; the model has {', '.join(map(str, numbers))}.")
        chosen.add(number if number >= 0 else numbers[number])
    return tuple(by_number[number] for number in sorted(chosen))


def sequence_table(prepared: Prepared, own: Mapping[str, pa.Array]) -> pa.Table:
    """Return ``sequences.parquet``: the text or file of each sequence, then the user's ``own`` columns."""
    records = [sequence.record for sequence in prepared.sequences]
    table = pa.table(
        {
            "sequence_id": np.arange(len(records), dtype=np.int32),
            "reference": [record.reference for record in records],
            "text": [record.text for record in records],
            "pair": [record.pair for record in records],
            "num_tokens": np.array([len(sequence) for sequence in prepared.sequences], np.int32),
            "first_token": prepared.first_tokens[:-1],
        },
        schema=schema.SEQUENCES,
    )
    for name, column in own.items():
        table = table.append_column(name, column)
    return table


def token_table(prepared: Prepared) -> pa.Table:
    """Return ``tokens.parquet``."""
    sequences = prepared.sequences
    lengths = [len(sequence) for sequence in sequences]
    tokens = [token for sequence in sequences for token in sequence.tokens]
    streams = [stream for sequence in sequences for stream in _streams(sequence)]
    named = list(dict.fromkeys(name for name, _ in streams))
    codes = np.repeat([named.index(name) for name, _ in streams], [count for _, count in streams])

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(sequence, name) for sequence in sequences])

    def nullable(name: str) -> pa.Array:
        values = joined(name)
        return pa.array(values, mask=values < 0)

    texts = np.array([token.text for token in tokens], dtype=object)
    columns = {
        "sequence_id": np.repeat(np.arange(len(sequences), dtype=np.int32), lengths),
        "position": np.concatenate([np.arange(count, dtype=np.int32) for _, count in streams]),
        "text": texts,
        "vocab_id": nullable("input_ids"),
        "is_special": joined("is_special"),
        "segment": joined("segment"),
        "patch_row": nullable("patch_row"),
        "patch_col": nullable("patch_col"),
        "frequency": _frequency(texts, joined("input_ids"), joined("patch_row") >= 0),
        "stream": _labels(named, codes),
        "modality": _labels(("text", "image"), np.concatenate([_is_image(sequence) for sequence in sequences])),
        "is_generated": np.concatenate([_is_generated(sequence) for sequence in sequences]),
    }
    columns |= {name: [getattr(token, name) for token in tokens] for name in _SAID}
    return pa.table(columns, schema=schema.TOKENS)


_SAID = ("plain", "starts_word", "is_punctuation", "character", "part", "byte_values")
"""Columns that are fields of a ``TokenText``."""


def _frequency(texts: NDArray[Any], ids: NDArray[np.int32], is_patch: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return how often each token of the vocabulary occurs; patches, and what else has no number, are counted by their text."""
    found = np.empty(len(ids), np.int32)
    by_text = is_patch | (ids < 0)
    for chosen, names in ((by_text, texts), (~by_text, ids)):
        _, inverse, counts = np.unique(names[chosen], return_inverse=True, return_counts=True)
        found[chosen] = counts[inverse]
    return found


def _streams(sequence: TokenSequence) -> list[tuple[str, int]]:
    """Return name and tokens of each stream of a sequence; most have one, without a name."""
    return list(sequence.streams.items()) or [("", len(sequence))]


def _is_image(sequence: TokenSequence) -> NDArray[np.bool_]:
    """Tell which tokens stand for a part of an image: those of an image alone have no vocabulary id."""
    return sequence.input_ids < 0 if sequence.is_image is None else sequence.is_image


def _is_generated(sequence: TokenSequence) -> NDArray[np.bool_]:
    return np.zeros(len(sequence), bool) if sequence.is_generated is None else sequence.is_generated


def _labels(names: Sequence[str], codes: NDArray[Any]) -> pa.Array:
    """Return a column of few different strings."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(names, pa.string()))


def image_tables(prepared: Prepared, model: LoadedModel, rows: int) -> Iterator[pa.Table]:
    """Yield ``media/images.parquet`` in pieces of ``rows``: each picture as the model sees it, as PNG. Nothing for texts."""
    pillow = require("PIL.Image", "capture")
    for first in range(0, len(prepared.sequences), rows):
        piece = []
        for offset, sequence in enumerate(prepared.sequences[first : first + rows]):
            if (shown := model.picture(sequence)) is None:
                return
            buffer = io.BytesIO()
            pillow.fromarray(shown).save(buffer, "PNG")
            image = {"bytes": buffer.getvalue(), "path": sequence.record.reference}
            piece.append({"sequence_id": first + offset, "image": image})
        yield pa.Table.from_pylist(piece, schema=schema.IMAGES)
