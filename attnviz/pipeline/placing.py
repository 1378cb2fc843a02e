"""The maps of a run: every head placed and scored, several at a time, written layer by layer.

A layer's map is complete when its coordinates, its scores and the faithfulness of its points are; the next start skips those.
``_map.json`` is written when all layers are. Adding a map touches no other file.
"""

import itertools
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attnviz import schema
from attnviz.errors import DatasetError
from attnviz.maps import SHARED, HeadMaps, HeadWork, choose_device, head_seed, map_heads, parse
from attnviz.metrics import METRICS, NEIGHBORS, Judge, joint_spearman
from attnviz.normalize import Normalize, joint
from attnviz.pipeline.provenance import versions
from attnviz.store import MapInfo, RunDirectory, layout, write
from attnviz.store.manifest import to_json
from attnviz.types import FloatArray, LayerInfo, MapSpec, Progress, Sequences

__all__ = ["LoadHead", "head_table", "head_vectors", "make_maps"]


@dataclass(frozen=True, slots=True)
class LoadHead:
    """Loads one head's queries and keys, and their sequences; small enough to be sent to a worker."""

    path: Path

    def __call__(self, layer: int, head: int) -> tuple[FloatArray, FloatArray, Sequences]:
        """Return queries ``(queries, head_dim)``, keys ``(keys, head_dim)``, and the sequences in which they stand."""
        run = RunDirectory(self.path)
        return head_vectors(run, layer, head)


def head_vectors(run: RunDirectory, layer: int, head: int) -> tuple[FloatArray, FloatArray, Sequences]:
    """Return a head's queries, keys and sequences in the order in which maps are made of them."""
    vectors = run.vectors(layer, head)
    order, sequences = run.sequences_of(layer)
    sequences = replace(sequences, layer=sequences.layer.of_head(head))
    if order is None:
        return vectors.query, vectors.key, sequences
    return vectors.query[order], vectors.key[order], sequences


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds that a map took."""

    by_layer: dict[str, float] = field(default_factory=dict)  # of placing
    shared: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SHARED, 0.0))

    def add(self, name: str, layer: int, placed: Sequence[HeadMaps], *, together: int) -> None:
        """Add a layer's heads, of which ``together`` maps were made at once."""
        self.by_layer[str(layer)] = round(sum(result.seconds[name] for result in placed), 3)
        for stage in SHARED:
            self.shared[stage] += sum(result.seconds[stage] for result in placed) / together


def make_maps(
    run: RunDirectory, specs: Sequence[MapSpec], *, workers: int, progress: Progress, device: str = "auto"
) -> None:
    """Make what is missing of ``specs`` in a run. ``workers`` and ``device`` are those of ``maps.map_heads``.

    Raises
    ------
    DatasetError
        If the run has a map of that name made in another way.
    MapError
        If a map cannot be made.
    """
    done = run.maps
    specs = [_resolved(spec) for spec in specs]
    for spec in specs:
        if spec.name in done and done[spec.name].spec != spec:
            raise DatasetError(
                f"Run {run.name} has a map {spec.name!r} already, made with {_describe(done[spec.name].spec)}; "
                f"{_describe(spec)} was asked for. Give the new one another name."
            )
    todo = [spec for spec in specs if spec.name not in done]
    times = {spec.name: _Times() for spec in todo}
    device = choose_device(device) if todo else device
    work = _missing(run, todo)
    total = sum(info.num_heads for _, layers in work for info in layers)
    count = itertools.count(1)
    for missing, layers in work:
        plan = HeadWork(
            LoadHead(run.path),
            partial(joint, options=Normalize(**run.manifest.normalize)),
            missing,
            Judge,
            run.manifest.seed,
            NEIGHBORS,
        )
        heads = [(info.layer, head) for info in layers for head in range(info.num_heads)]
        with closing(map_heads(heads, plan, workers=workers, device=device)) as results:
            for layer, of_layer in itertools.groupby(results, key=attrgetter("layer")):
                placed = [_told(result, count, total, progress) for result in of_layer]
                for spec in missing:
                    _write_layer(run, spec, layer, placed)
                    times[spec.name].add(spec.name, layer, placed, together=len(missing))
    for spec in todo:
        seconds = times[spec.name]
        info_of_map = MapInfo(
            spec, run.manifest.seed, tuple(METRICS), seconds.by_layer, versions(), seconds.shared, device
        )
        write.write_text(layout.map_dir(run.path, spec.name) / layout.MAP_FILE, to_json(info_of_map))


def head_table(run: RunDirectory, progress: Progress) -> pa.Table:
    """Return ``heads.parquet``: how every head's vectors are brought into one space."""
    options = Normalize(**run.manifest.normalize)
    pairs = [(info, head) for info in run.layers.values() for head in range(info.num_heads)]
    rows = []
    for done, (info, head) in enumerate(pairs, 1):
        vectors = run.vectors(info.layer, head)
        space = joint(*head_vectors(run, info.layer, head), options=options)
        seed = head_seed(run.manifest.seed, info.layer, head)
        rows.append(
            {
                "layer": info.layer,
                "head": head,
                "kv_head": info.kv_head(head),
                "head_dim": info.head_dim,
                "query_norm": float(np.median(vectors.query_norm)),
                "key_norm": float(np.median(vectors.key_norm)),
                "scale": space.scale,
                "shift": space.shift,
                "joint_spearman": joint_spearman(space, seed=seed),
            }
        )
        progress("normalize", done, len(pairs))
    return pa.Table.from_pylist(rows, schema=schema.HEADS)


def _resolved(spec: MapSpec) -> MapSpec:
    """Write out the defaults, so that ``_map.json`` tells everything even after a default has changed."""
    return replace(spec, parameters=asdict(parse(spec)))


def _missing(run: RunDirectory, todo: Sequence[MapSpec]) -> list[tuple[tuple[MapSpec, ...], list[LayerInfo]]]:
    """Group the layers by the maps that they lack, so that heads of one group share their neighbours."""
    groups: dict[tuple[str, ...], tuple[tuple[MapSpec, ...], list[LayerInfo]]] = {}
    for info in run.layers.values():
        lacking = tuple(spec for spec in todo if not all(file.is_file() for file in _files(run, spec, info.layer)))
        if lacking:
            names = tuple(spec.name for spec in lacking)
            groups.setdefault(names, (lacking, []))[1].append(info)
    return list(groups.values())


def _files(run: RunDirectory, spec: MapSpec, layer: int) -> tuple[Path, Path, Path]:
    """Return the files of a layer's coordinates, scores and faithfulness."""
    files = layout.map_file, layout.scores_file, layout.faithfulness_file
    coordinates, scores, faithfulness = (file(run.path, spec.name, layer) for file in files)
    return coordinates, scores, faithfulness


def _told(result: HeadMaps, count: Iterable[int], total: int, progress: Progress) -> HeadMaps:
    progress("map", next(iter(count)), total)
    return result


def _write_layer(run: RunDirectory, spec: MapSpec, layer: int, placed: Sequence[HeadMaps]) -> None:
    coordinates, scores, faithfulness = _files(run, spec, layer)
    points, (order, _) = run.points(layer), run.sequences_of(layer)
    write.write_coordinates(
        coordinates, [_reordered(result.coordinates[spec.name], order) for result in placed], points
    )
    write.write_scores(scores, [{**result.scores[spec.name], "neighbors_recall": result.recall} for result in placed])
    write.write_faithfulness(
        faithfulness, [_reordered(result.faithfulness[spec.name], order) for result in placed], points
    )


def _reordered(values: FloatArray, order: NDArray[np.int64] | None) -> FloatArray:
    """Return what was made of points in an order as it is in the order of the run, ``(points, columns)``."""
    if order is None:
        return values
    back = np.empty_like(values)
    back[np.concatenate([order, order + len(order)])] = values
    return back


def _describe(spec: MapSpec) -> str:
    parameters = "".join(f", {name}={value}" for name, value in spec.parameters.items())
    return f"{spec.method}, dims={spec.dims}{parameters}"
