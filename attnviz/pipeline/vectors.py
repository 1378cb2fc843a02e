"""Capture into shards: run the model over the sequences and write every layer's queries and keys.

A shard is complete when the files of all its layers are; the next start skips those. Batches are made within a shard, of
sequences of like length, so that what a sequence is batched with, and with it every bit of its vectors, does not depend on
where a run was interrupted.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnviz.capture import Sink, capture
from attnviz.models import LoadedModel
from attnviz.pipeline.prepare import Prepared
from attnviz.recipe import CaptureSpec
from attnviz.store import layout, write
from attnviz.types import LayerInfo, LayerVectors, Progress

__all__ = ["Shard", "batches", "capture_shards"]


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
    """Write what is missing of ``vectors/`` and return the first token of each shard.

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
        if not all(file.is_file() for file in files.values()):
            shard.clear()
            for batch in batches(prepared, sequences, spec.batch_tokens):
                inputs = model.collate([prepared.sequences[i] for i in batch])
                rows = np.concatenate([np.arange(bounds[i], bounds[i + 1]) for i in batch]) - first
                capture(model, inputs, layers, shard.expect(rows), only=files, dtype=spec.dtype)
                progress("capture", first + shard.filled, int(bounds[-1]))
            for info in kept:
                write.write_vectors(files[info.layer], shard.heads(info), first, spec.dtype)
        progress("capture", last, int(bounds[-1]))
    return tuple(int(bounds[sequences.start]) for sequences in shards)


def batches(prepared: Prepared, sequences: range, tokens: int) -> Iterator[list[int]]:
    """Yield sequences of like length, at most ``tokens`` with padding, but at least one."""
    batch: list[int] = []
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
        self.filled = 0
        self._rows = np.zeros(tokens, np.int64)  # where in the run each token that came belongs
        self._batch = slice(0)
        self._columns = {
            info.layer: {
                "query": np.empty((tokens, info.num_heads, info.head_dim), dtype),
                "key": np.empty((tokens, info.num_kv_heads, info.head_dim), dtype),
                "value_norm": np.empty((tokens, info.num_kv_heads), np.float32),
                "logsumexp": np.empty((tokens, info.num_heads), np.float32),
            }
            for info in layers
        }

    def clear(self) -> None:
        """Forget the last shard."""
        self.filled = 0

    def expect(self, rows: NDArray[np.int64]) -> Sink:
        """Return the sink of the next batch, whose tokens belong at ``rows`` of the shard."""
        self._batch = slice(self.filled, self.filled + len(rows))
        self._rows[self._batch] = rows
        self.filled += len(rows)
        return self._put

    def heads(self, info: LayerInfo) -> list[dict[str, NDArray[np.float32]]]:
        """Return the columns of each query head of a layer; heads that share a kv head have the same keys."""
        columns, order = self._columns[info.layer], np.argsort(self._rows[: self.filled])
        of_keys = {"key", "value_norm"}
        return [
            {name: values[order, info.kv_head(head) if name in of_keys else head] for name, values in columns.items()}
            for head in range(info.num_heads)
        ]

    def _put(self, vectors: LayerVectors) -> None:
        for name, values in self._columns[vectors.layer].items():
            values[self._batch] = getattr(vectors, name)
