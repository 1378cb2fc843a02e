"""Opening a run: everything that is shown, exported or measured afterwards is read through here.

Files are memory-mapped and read by row group (one per head). Tables are read once and kept; heads are not kept, because one
costs milliseconds and hundreds of them cost memory.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from attnviz.attention import weights
from attnviz.errors import DatasetError, nearest
from attnviz.store import layout
from attnviz.store.columns import Column, to_frame
from attnviz.store.edition import Edition, stamp_of
from attnviz.store.manifest import Manifest, MapInfo, read_manifest, read_map_info
from attnviz.store.older import lacking, with_token_texts
from attnviz.store.points import Points, sequences_of
from attnviz.store.predictions import predicted_columns, with_predictions
from attnviz.store.replacing import recover
from attnviz.store.terms import read_terms
from attnviz.types import KINDS, Attention, FloatArray, LayerInfo, Sequences

__all__ = ["Head", "HeadVectors", "RunDirectory"]

_VECTORS = [*KINDS, "query_norm", "key_norm", "value_norm", "logsumexp"]  # in the order of HeadVectors


@dataclass(frozen=True, slots=True)
class HeadVectors:
    """The stored vectors of one head, aligned with ``RunDirectory.points`` of its layer: with all tokens, in most models."""

    query: FloatArray  # (queries, head_dim)
    key: FloatArray  # (keys, head_dim)
    query_norm: FloatArray  # (queries,)
    key_norm: FloatArray  # (keys,)
    value_norm: FloatArray  # (keys,)
    logsumexp: FloatArray  # (queries,)


class RunDirectory:
    """A run on disk, opened for reading.

    Parameters
    ----------
    path
        The run's folder.
    manifest
        Given by the pipeline while the folder has none yet.

    Raises
    ------
    DatasetError
        If the folder is no complete run, or one of a schema_version that is not read.
    """

    def __init__(self, path: str | Path, manifest: Manifest | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():  # as after a replacement that was killed half way
            recover(self.path)
        before = None if manifest else stamp_of(self.path / layout.MANIFEST_FILE)
        self.manifest: Manifest = manifest or read_manifest(self.path / layout.MANIFEST_FILE)
        self._edition = Edition(self.path, self.manifest, before)
        self._points: dict[tuple[str, str], Points] = {}

    def __repr__(self) -> str:
        shape = f"{len(self.layers)} layers, {self.num_tokens:,} tokens of {self.num_sequences:,} sequences"
        try:
            maps = f"maps {', '.join(self.maps) or 'none'}"
        except DatasetError:
            maps = "replaced since, or damaged"
        return f"<attnviz run {self.name}: {self.manifest.model.id}, {shape}, {maps}>"

    @property
    def name(self) -> str:
        """The run's name."""
        return self.manifest.name

    @cached_property
    def layers(self) -> dict[int, LayerInfo]:
        """The captured layers by their number in the model."""
        return {layer.layer: self._with_terms(layer) for layer in self.manifest.layers}

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the model's streams of tokens; ("",) of most models."""
        return tuple(
            dict.fromkeys(name for layer in self.manifest.layers for name in (layer.query_stream, layer.key_stream))
        )

    @property
    def num_tokens(self) -> int:
        """How many tokens the run holds; a head has twice as many points, or fewer where the model has several streams."""
        return self.manifest.num_tokens

    @property
    def num_sequences(self) -> int:
        """How many sequences the run holds."""
        return self.manifest.num_sequences

    @property
    def maps(self) -> dict[str, MapInfo]:
        """The complete maps by name. Read anew at each call: maps are added to finished runs."""
        files = sorted((self.path / "maps").glob(f"*/{layout.MAP_FILE}"))
        maps = {file.parent.name: read_map_info(file) for file in files}
        self.require_same()
        return maps

    def require_same(self) -> None:
        """Make sure that the folder still holds the run that was opened. Raises ``DatasetError`` if it does not."""
        self._edition.require()

    @cached_property
    def sequences(self) -> pd.DataFrame:
        """One row per sequence, indexed by sequence_id: ours, the user's own (``manifest.attributes``), then predictions.

        Whole numbers with gaps are of pandas' nullable types, nested values of those of Arrow: nothing is rounded.
        """
        return to_frame(self._stored).set_index("sequence_id")

    @cached_property
    def columns(self) -> dict[str, Column]:
        """The user's own columns by name, as they are stored, and what the model predicts."""
        with self._edition.reading(self.path / layout.SEQUENCES_FILE):
            names = *self.manifest.attributes, *predicted_columns(self.manifest.model)
            return {name: Column(name, self._stored[name]) for name in names}

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """One row per token; row ``i`` is token ``i`` everywhere."""
        tokens = self._table(layout.TOKENS_FILE)
        if "stream" not in tokens:  # a run of version 1
            tokens = tokens.assign(stream="", modality=self.manifest.model.modality, is_generated=False)
        return with_token_texts(tokens)

    @property
    def lacks(self) -> str:
        """What a run of an earlier version does not know of its tokens, as a sentence; empty if it knows all."""
        return lacking(self.manifest)

    @cached_property
    def heads(self) -> pd.DataFrame:
        """One row per head: how its vectors were brought into one space. Indexed by (layer, head)."""
        return self._table(layout.HEADS_FILE).set_index(["layer", "head"])

    @cached_property
    def bounds(self) -> NDArray[np.int64]:
        """The first token of each sequence, then the number of tokens, ``(sequences + 1,)``."""
        first: NDArray[np.int64] = self.sequences["first_token"].to_numpy(np.int64)
        return np.append(first, self.num_tokens)

    def points(self, layer: int) -> Points:
        """Return which tokens have a query in a layer, and which a key."""
        info = self._layer(layer)
        if (streams := (info.query_stream, info.key_stream)) not in self._points:
            every = Points.of_all(self.num_tokens)
            query, key = (self._of_stream(name) if name else every.query for name in streams)
            self._points[streams] = Points(query, query if streams[0] == streams[1] else key)
        return self._points[streams]

    def sequences_of(self, layer: int) -> tuple[NDArray[np.int64] | None, Sequences]:
        """Return how a layer's points stand in sequences; see ``points.sequences_of``."""
        positions: NDArray[np.int32] = self.tokens["position"].to_numpy(np.int32)
        return sequences_of(self.points(layer), self.bounds, positions, self._layer(layer))

    def scores(self, name: str) -> pd.DataFrame:
        """Return the scores of a map, one row per head, indexed by (layer, head)."""
        self._require_map(name)
        frames = []
        for layer in self.layers:
            path = layout.scores_file(self.path, name, layer)
            with self._edition.reading(path):
                frames.append(pq.read_table(path, partitioning=None).to_pandas().assign(layer=layer))
        scores: pd.DataFrame = pd.concat(frames).set_index(["layer", "head"])
        return scores

    def head_scores(self) -> pd.DataFrame:
        """Return ``heads`` with the scores of every map beside it, in columns such as ``umap.trustworthiness``."""
        scores = [self.scores(name).add_prefix(f"{name}.") for name in self.maps]
        joined: pd.DataFrame = pd.concat([self.heads, *scores], axis=1)
        return joined

    def head(self, layer: int, head: int) -> "Head":
        """Return one head. Raises ``DatasetError`` if the run has no such layer or head."""
        info = self._layer(layer)
        if not 0 <= head < info.num_heads:
            raise DatasetError(
                f"Layer {layer} of run {self.name} has heads 0 to {info.num_heads - 1}; {head} was asked for."
            )
        return Head(self, info, head)

    def token_slice(self, sequence: int) -> slice:
        """Return the rows of ``tokens`` that belong to a sequence."""
        if not 0 <= sequence < self.num_sequences:
            raise DatasetError(
                f"Run {self.name} has sequences 0 to {self.num_sequences - 1}; {sequence} was asked for."
            )
        rows = self.sequences
        first = int(rows["first_token"].to_numpy()[sequence])
        return slice(first, first + int(rows["num_tokens"].to_numpy()[sequence]))

    def coordinates(self, name: str, layer: int, head: int | None = None) -> FloatArray:
        """Return where a map puts the points: ``(points, dims)`` of one head, or ``(heads, points, dims)`` of a layer.

        The queries of tokens 0…n-1 come first, then their keys. Points that the layer does not have, because it attends in another
        stream of the model, are NaN.
        """
        axes = list("xyz"[: self._require_map(name).spec.dims])
        self._layer(layer)
        return self._read_points(layout.map_file(self.path, name, layer), axes, layer, head)

    def has_faithfulness(self, name: str | None = None) -> bool:
        """Tell whether a map, or any, says how far to trust each of its points; maps of earlier versions do not."""
        return layout.faithfulness_dir(self.path, name).is_dir()

    def faithfulness(self, name: str, layer: int, head: int | None = None) -> FloatArray:
        """Return how far to trust each point of a map: ``(points, 2)`` of one head, or ``(heads, points, 2)`` of a layer.

        The columns are ``neighbors_kept`` and ``attention_kept``, shares from 0 to 1; see ``attnviz.metrics.pointwise``.
        """
        self._require_map(name)
        self._layer(layer)
        if not self.has_faithfulness(name):
            raise DatasetError(
                f"Map {name!r} of run {self.name} does not say how far to trust each point: it was made by an earlier attnviz. "
                f"Delete {layout.map_dir(self.path, name)} and give its `attnviz run` or `attnviz project` command again."
            )
        path = layout.faithfulness_file(self.path, name, layer)
        return self._read_points(path, ["neighbors_kept", "attention_kept"], layer, head)

    def vectors(self, layer: int, head: int, tokens: slice = slice(None)) -> HeadVectors:
        """Return the stored vectors of one head, of all tokens or of a slice of them (read from its shards alone)."""
        info = self._layer(layer)
        start, stop, _ = tokens.indices(self.num_tokens)
        bounds = [*self.manifest.shards, self.num_tokens]
        tables = []
        for shard, (first, last) in enumerate(pairwise(bounds)):
            if first < stop and last > start:
                before, rows = self._rows_of(layer, first, start, min(stop, last))
                tables.append(self._read_shard(layer, head, shard, _VECTORS).slice(before, rows))
        if not tables:
            return HeadVectors(*[np.empty((0, info.head_dim), np.float32)] * 2, *[np.empty(0, np.float32)] * 4)
        table = pa.concat_tables(tables)
        return HeadVectors(
            *(_vectors(table[name], info.head_dim) for name in KINDS),
            *(table[name].drop_null().to_numpy() for name in _VECTORS[2:]),
        )

    def norms(self, layer: int, head: int) -> FloatArray:
        """Return the norms of one head's points, ``(points,)``: the queries, then the keys; NaN where there is no such point."""
        points = self.points(layer)
        names = [f"{kind}_norm" for kind in KINDS]
        table = pa.concat_tables(
            self._read_shard(layer, head, shard, names) for shard in range(len(self.manifest.shards))
        )
        norms = np.concatenate([table[name].drop_null().to_numpy() for name in names])
        return points.scatter(norms[:, None], self.num_tokens)[:, 0]

    def attention(self, layer: int, head: int, sequence: int) -> Attention:
        """Rebuild the attention weights of one head over one sequence.

        Raises
        ------
        DatasetError
            If there is no such sequence, or what the run keeps does not give the model's attention.
        """
        info, rows = self._layer(layer), self.token_slice(sequence)
        if not info.rebuilt:
            raise DatasetError(
                f"Layer {info.label} of run {self.name} keeps vectors from before RoPE, in a way that attention cannot be rebuilt "
                "from. Capture with rope = 'after' to see it."
            )
        points = self.points(layer).within(rows.start, rows.stop)
        vectors = self.vectors(layer, head, rows)
        texts = self.tokens["text"].to_numpy()
        return Attention(
            weights(vectors.query, vectors.key, info.of_head(head)),
            tuple(texts[points.query]),
            tuple(texts[points.key]),
        )

    def image_png(self, sequence: int) -> bytes:
        """Return the picture of a sequence as the model saw it, as PNG bytes. Raises ``DatasetError`` if it is a text."""
        path = self.path / layout.IMAGES_FILE
        with self._edition.reading(path):
            file = pq.ParquetFile(path, memory_map=True)
            group, row = divmod(sequence, file.metadata.row_group(0).num_rows)
            return bytes(file.read_row_group(group, ["image"])["image"][row]["bytes"].as_py())

    def _read_shard(self, layer: int, head: int, shard: int, columns: list[str]) -> pa.Table:
        path = layout.shard_file(self.path, layer, shard)
        first, last = [*self.manifest.shards, self.num_tokens][shard : shard + 2]
        _, rows = self._rows_of(layer, first, first, last)
        with self._edition.reading(path):
            table = pq.ParquetFile(path, memory_map=True).read_row_group(head, columns)
            if table.num_rows != rows:
                raise pa.ArrowInvalid(f"{table.num_rows:,} tokens where {rows:,} belong")
        return table

    def _read_points(self, path: Path, columns: list[str], layer: int, head: int | None) -> FloatArray:
        """Read numbers of the points of a head, or of a layer."""
        heads = self.layers[layer].num_heads
        with self._edition.reading(path):
            file = pq.ParquetFile(path, memory_map=True)
            table = file.read(columns) if head is None else file.read_row_group(head, columns)
            values = np.stack([column.to_numpy() for column in table.columns], axis=-1).astype(np.float32, copy=False)
            points = self.points(layer)
            count = len(points.query) + len(points.key)
            expected = count * (heads if head is None else 1)
            if len(values) != expected:
                raise pa.ArrowInvalid(f"{len(values):,} points where {expected:,} belong")
        return points.scatter(values if head is not None else values.reshape(heads, count, -1), self.num_tokens)

    def _rows_of(self, layer: int, shard: int, start: int, stop: int) -> tuple[int, int]:
        """Return the first row of tokens ``start`` to ``stop - 1`` in a layer's shard that begins at ``shard``, and how many."""
        points = self.points(layer)
        before = points.within(shard, max(start, shard))
        there = points.within(max(start, shard), stop)
        return len(before.tokens), len(there.tokens)

    def _of_stream(self, name: str) -> NDArray[np.int32]:
        tokens: NDArray[np.int32] = np.flatnonzero(self.tokens["stream"].to_numpy() == name).astype(np.int32)
        return tokens

    def _with_terms(self, layer: LayerInfo) -> LayerInfo:
        path = layout.terms_file(self.path, layer.layer)
        if not path.is_file():
            return layer
        with self._edition.reading(path):
            return replace(layer, terms=read_terms(path))

    @cached_property
    def _stored(self) -> pa.Table:
        path = self.path / layout.SEQUENCES_FILE
        with self._edition.reading(path):
            return with_predictions(pq.read_table(path, partitioning=None), self.manifest, self.path, self._edition)

    def _table(self, name: str) -> pd.DataFrame:
        path = self.path / name
        with self._edition.reading(path):
            table: pd.DataFrame = pq.read_table(path, partitioning=None).to_pandas()
        return table

    def _layer(self, layer: int) -> LayerInfo:
        if layer not in self.layers:
            known = ", ".join(map(str, self.layers))
            raise DatasetError(f"Run {self.name} holds layers {known}; layer {layer} was asked for.")
        return self.layers[layer]

    def _require_map(self, name: str) -> MapInfo:
        if name not in (maps := self.maps):
            known = nearest(name, maps) if maps else "It has none yet: make one with `attnviz project`."
            raise DatasetError(f"Run {self.name} has no complete map {name!r}. {known}")
        return maps[name]


@dataclass(frozen=True, slots=True)
class Head:
    """One head of a run."""

    run: RunDirectory
    layer: LayerInfo
    head: int

    def vectors(self) -> HeadVectors:
        """Return the stored queries and keys of all tokens, with norms."""
        return self.run.vectors(self.layer.layer, self.head)

    def map(self, name: str) -> pd.DataFrame:
        """Return a map as a table: one row per point with ``token``, ``kind``, coordinates and the token's columns."""
        placed = self.run.coordinates(name, self.layer.layer, self.head)
        points = self.run.points(self.layer.layer)
        token = np.concatenate([points.query, points.key])
        counts = len(points.query), len(points.key)
        placed = placed[np.concatenate([points.query, points.key + self.run.num_tokens])]
        frame = self.run.tokens.iloc[token].reset_index(drop=True)
        kind = pd.Categorical(np.repeat(KINDS, counts), categories=KINDS)
        frame.insert(0, "token", token)
        frame.insert(1, "kind", pd.Series(kind))
        for axis, values in reversed(list(zip("xyz", placed.T, strict=False))):
            frame.insert(2, axis, values)
        return frame

    def attention(self, sequence: int) -> Attention:
        """Rebuild this head's attention weights over one sequence."""
        return self.run.attention(self.layer.layer, self.head, sequence)


def _vectors(column: pa.ChunkedArray, head_dim: int) -> FloatArray:
    vectors: FloatArray = (
        column.drop_null().combine_chunks().flatten().to_numpy().reshape(-1, head_dim).astype(np.float32)
    )
    return vectors
