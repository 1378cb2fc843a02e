"""Capture into shards: run the model over the sequences and write every layer's queries and keys.

A shard is complete when the files of all its layers are; the next start skips those. Batches are made within a shard, of
sequences of like length, so that what a sequence is batched with, and with it every bit of its vectors, does not depend on
where a run was interrupted.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnviz.capture import capture
from attnviz.errors import CaptureError
from attnviz.models import LoadedModel
from attnviz.pipeline.prepare import Prepared
from attnviz.recipe import CaptureSpec
from attnviz.store import layout, write
from attnviz.types import LayerInfo, LayerVectors, Progress

__all__ = ["capture_shards"]


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
    for number, sequences in enumerate(shards):
        files = {info.layer: layout.shard_file(path, info.layer, number) for info in kept}
        if not all(file.is_file() for file in files.values()):
            shard = _Shard(kept, int(bounds[sequences.stop] - bounds[sequences.start]), spec.dtype)
            for batch in _batches(prepared, sequences, spec.batch_tokens):
                rows = np.concatenate([np.arange(bounds[i], bounds[i + 1]) for i in batch]) - bounds[sequences.start]
                inputs = model.collate([prepared.sequences[i] for i in batch])
                capture(model, inputs, layers, shard.into(rows), only=files)
                progress("capture", int(bounds[sequences.start]) + shard.filled(rows), int(bounds[-1]))
            for info in kept:
                write.write_vectors(files[info.layer], shard.heads(info), int(bounds[sequences.start]), spec.dtype)
        progress("capture", int(bounds[sequences.stop]), int(bounds[-1]))
    return tuple(int(bounds[sequences.start]) for sequences in shards)


def _batches(prepared: Prepared, sequences: range, tokens: int) -> Iterator[list[int]]:
    """Yield sequences of like length, at most ``tokens`` with padding, but at least one."""
    batch: list[int] = []
    for index in sorted(sequences, key=lambda i: -len(prepared.sequences[i])):
        if batch and (len(batch) + 1) * len(prepared.sequences[batch[0]]) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class _Shard:
    """The vectors of some thousand tokens, as they will be stored: one array per layer and column, heads first."""

    def __init__(self, layers: Sequence[LayerInfo], tokens: int, dtype: str) -> None:
        self.columns = {
            info.layer: {
                "query": np.empty((info.num_heads, tokens, info.head_dim), dtype),
                "key": np.empty((info.num_kv_heads, tokens, info.head_dim), dtype),
                "value_norm": np.empty((info.num_kv_heads, tokens), np.float32),
                "logsumexp": np.empty((info.num_heads, tokens), np.float32),
            }
            for info in layers
        }
        self.count = 0

    def into(self, rows: NDArray[np.int64]) -> "_Sink":
        """Return a sink that puts a batch's vectors at ``rows``."""
        return _Sink(self.columns, rows)

    def filled(self, rows: NDArray[np.int64]) -> int:
        """Count ``rows`` as done and return how many are."""
        self.count += len(rows)
        return self.count

    def heads(self, info: LayerInfo) -> list[dict[str, NDArray[np.float32]]]:
        """Return the columns of each query head of a layer; heads that share a kv head share its arrays."""
        columns = self.columns[info.layer]
        shared = {"key", "value_norm"}
        return [
            {name: values[info.kv_head(head) if name in shared else head] for name, values in columns.items()}
            for head in range(info.num_heads)
        ]


class _Sink:
    def __init__(self, columns: dict[int, dict[str, NDArray[np.float32]]], rows: NDArray[np.int64]) -> None:
        self.columns, self.rows = columns, rows

    def __call__(self, vectors: LayerVectors) -> None:
        for name, values in self.columns[vectors.layer].items():
            with np.errstate(over="ignore"):  # said below, with what to do
                values[:, self.rows] = getattr(vectors, name).swapaxes(0, 1)
            if not np.isfinite(values[:, self.rows]).all():
                raise CaptureError(
                    f"Layer {vectors.layer} has {name} values that {values.dtype} cannot hold. Set capture.dtype = 'float32'; if "
                    "it stays so, the model itself gives values that are not finite."
                )
