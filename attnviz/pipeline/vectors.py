"""Capture into shards: run the model over the sequences and write every layer's queries and keys.

A shard is complete when the files of all its layers are; the next start skips those. Batches are made within a shard, of
sequences of like length, so that what a sequence is batched with, and with it every bit of its vectors, does not depend on
where a run was interrupted.
"""

import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnviz.capturing import Sink, capture
from attnviz.errors import CaptureError
from attnviz.models import LoadedModel, classifier_of
from attnviz.models.loaded import out_of_memory
from attnviz.pipeline.prepare import Prepared
from attnviz.recipe import CaptureSpec
from attnviz.store import Points, layout, write
from attnviz.store.predictions import prediction_table
from attnviz.types import FloatArray, LayerInfo, LayerVectors, Progress

__all__ = ["Shard", "batches", "capture_shards", "rows_of"]


def capture_shards(
    path: Path,
    model: LoadedModel,
    prepared: Prepared,
    *,
    layers: Sequence[LayerInfo],
    kept: Sequence[LayerInfo],
    spec: CaptureSpec,
    progress: Progress,
) -> tuple[int, ...]:
    """Write what is missing of ``vectors/`` and ``predictions/``, and return the first token of each shard.

    Parameters
    ----------
    layers, kept
        All attention layers of the model, and those to keep.
    """
    bounds = prepared.first_tokens
    shards = prepared.shards(spec.shard_tokens)
    shard = Shard(kept, max(int(bounds[shard.stop] - bounds[shard.start]) for shard in shards), spec.dtype)
    for number, sequences in enumerate(shards):
        first, last = int(bounds[sequences.start]), int(bounds[sequences.stop])
        files = {info.layer: layout.shard_file(path, info.layer, number) for info in kept}
        predictions = [] if classifier_of(model) is None else [layout.predictions_file(path, number)]
        if not all(file.is_file() for file in [*files.values(), *predictions]):
            shard.clear()
            for batch in batches(prepared, sequences, spec.batch_tokens):
                for part in _run(model, prepared, batch, layers, shard, files, spec.dtype):
                    progress("capture", first + part, int(bounds[-1]))
            for info in kept:
                write.write_vectors(files[info.layer], shard.heads(info), shard.points(info), spec.dtype)
            for file in predictions:
                write.write_table(file, prediction_table(model.info, shard.logits))
        progress("capture", last, int(bounds[-1]))
    return tuple(int(bounds[sequences.start]) for sequences in shards)


def _run(
    model: LoadedModel,
    prepared: Prepared,
    batch: list[int],
    layers: Sequence[LayerInfo],
    shard: "Shard",
    only: Container[int],
    dtype: str,
) -> Iterator[int]:
    """Capture a batch, in halves if it does not fit into memory; yield how many tokens the shard holds after each part."""
    sink = shard.expect(rows_of(prepared, batch))
    try:
        inputs = model.collate([prepared.sequences[i] for i in batch])
        names = [prepared.sequences[i].record.reference for i in batch]
        classifier = classifier_of(model)
        forward = None if classifier is None else classifier.run
        ran = capture(model, inputs, layers, sink, only=only, dtype=dtype, names=names, forward=forward)
        if classifier is not None:
            shard.logits |= zip(batch, classifier.logits(ran).float().cpu().numpy(), strict=True)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        shard.forget()
        if prepared.cuts:  # which came as it is, and may hold what all its sequences share
            raise CaptureError(
                f"The batch of {prepared.sequences[batch[0]].record.reference} does not fit into memory while it is captured "
                f"({error}). Give smaller batches."
            ) from error
        if len(batch) == 1:
            raise CaptureError(
                f"A sequence of {len(prepared.sequences[batch[0]]):,} tokens does not fit into memory ({error}). Set "
                "data.max_length lower, or model.dtype = 'bfloat16'."
            ) from error
        logging.getLogger(__name__).warning(
            "A batch of %d sequences does not fit into memory; it runs in halves. A lower capture.batch_tokens avoids this.",
            len(batch),
        )
    else:
        yield shard.filled
        return
    for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
        yield from _run(model, prepared, half, layers, shard, only, dtype)


def rows_of(prepared: Prepared, batch: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    """Return which tokens of the run the sequences of a batch have, by stream; "" names all."""
    rows: dict[str, list[NDArray[np.int64]]] = {}
    for index in batch:
        first, sequence = int(prepared.first_tokens[index]), prepared.sequences[index]
        for name, count in (sequence.streams or {"": len(sequence)}).items():
            rows.setdefault(name, []).append(np.arange(first, first + count))
            first += count
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def batches(prepared: Prepared, sequences: range, tokens: int) -> Iterator[list[int]]:
    """Yield sequences of like length, at most ``tokens`` with padding, but at least one; or those that came as one batch."""
    batch: list[int] = []
    if prepared.cuts:
        yield list(sequences)
        return
    for index in sorted(sequences, key=lambda i: -len(prepared.sequences[i])):
        if batch and (len(batch) + 1) * len(prepared.sequences[batch[0]]) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class Shard:
    """The vectors of some thousand tokens in the order in which batches bring them; ``heads`` gives them in that of the run.

    Used for one shard after another: fresh memory costs more than what is written into it (100 ms for 4,096 tokens of
    MiniLM, whose capture takes 30; 2 shared cores, 2026-11-21).

    Parameters
    ----------
    layers
        The layers to hold.
    tokens
        How many tokens a shard has at most.
    dtype
        How vectors will be stored.
    """

    def __init__(self, layers: Sequence[LayerInfo], tokens: int, dtype: str) -> None:
        self.logits: dict[int, FloatArray] = {}  # of each sequence, where the model has a classification head
        self._streams = {name: _Stream(tokens) for info in layers for name in (info.query_stream, info.key_stream)}
        self._streams_of = {info.layer: {"query": info.query_stream, "key": info.key_stream} for info in layers}
        self._columns = {
            info.layer: {
                "query": np.empty((tokens, info.num_heads, info.head_dim), dtype),
                "key": np.empty((tokens, info.num_kv_heads, info.head_dim), dtype),
                "value_norm": np.empty((tokens, info.num_kv_heads), np.float32),
                "logsumexp": np.empty((tokens, info.num_heads), np.float32),
            }
            for info in layers
        }

    @property
    def filled(self) -> int:
        """How many tokens have come since the shard was cleared."""
        return sum(stream.filled for stream in self._streams.values())

    def clear(self) -> None:
        """Forget the last shard."""
        self.logits = {}
        for stream in self._streams.values():
            stream.filled, stream.batch = 0, slice(0)

    def forget(self) -> None:
        """Forget the last batch: it did not come whole."""
        for stream in self._streams.values():
            stream.filled, stream.batch = stream.batch.start or 0, slice(0)

    def expect(self, tokens: Mapping[str, NDArray[np.int64]]) -> Sink:
        """Return the sink of the next batch, whose tokens of each stream are these of the run."""
        for name, stream in self._streams.items():
            stream.batch = slice(stream.filled, stream.filled + len(tokens[name]))
            stream.tokens[stream.batch] = tokens[name]
            stream.filled = stream.batch.stop
        return self._put

    def heads(self, info: LayerInfo) -> list[dict[str, NDArray[np.float32]]]:
        """Return the columns of each query head of a layer; heads that share a kv head have the same keys."""
        columns = self._columns[info.layer]
        return [
            {
                name: values[self._stream(info.layer, name).order, info.kv_head(head) if name in _OF_KEYS else head]
                for name, values in columns.items()
            }
            for head in range(info.num_heads)
        ]

    def points(self, info: LayerInfo) -> Points:
        """Return which tokens of the run a layer has queries and keys of."""
        query, key = (self._stream(info.layer, kind).in_order for kind in ("query", "key"))
        return Points(query, query if info.query_stream == info.key_stream else key)

    def _put(self, vectors: LayerVectors) -> None:
        for name, values in self._columns[vectors.layer].items():
            values[self._stream(vectors.layer, name).batch] = getattr(vectors, name)

    def _stream(self, layer: int, column: str) -> "_Stream":
        return self._streams[self._streams_of[layer]["key" if column in _OF_KEYS else "query"]]


_OF_KEYS = {"key", "value_norm"}


class _Stream:
    """Which tokens of one stream a shard has been given."""

    def __init__(self, tokens: int) -> None:
        self.tokens = np.zeros(tokens, np.int64)  # rows of the run, in the order in which they came
        self.filled = 0
        self.batch = slice(0)

    @property
    def order(self) -> NDArray[np.int64]:
        """What puts them into the order of the run."""
        return np.argsort(self.tokens[: self.filled])

    @property
    def in_order(self) -> NDArray[np.int32]:
        """The tokens, ascending."""
        return np.sort(self.tokens[: self.filled]).astype(np.int32)
