"""Map all heads of a layer at once on one device: what ``map_head`` does for one, with the two long parts batched.

Receives a layer, its heads and what is done to them; gives ``HeadMaps`` in the order of the heads. Neighbours are found and graphs
laid out on the device, all heads together. Loading, graphs, PCA and judging stay on the CPU's threads, and so do the attention
map's own searches and whole maps by umap-learn and openTSNE, which have no batched way.
"""

import itertools
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np

from attnviz.errors import MapError
from attnviz.maps.heads import HeadMaps, HeadWork, explained, head_seed, judged, timed
from attnviz.maps.plan import Layout
from attnviz.maps.table import MAPS, checked, num_neighbors, parse, place, plan
from attnviz.maps.torch import layout, neighbors
from attnviz.maps.workers import in_threads
from attnviz.types import FloatArray, Joint, MapSpec, Neighbors

__all__ = ["map_layer", "map_layers"]


@dataclass(slots=True)
class _Head:
    """One head on its way."""

    joint: Joint
    near: Neighbors | None = None
    plans: dict[str, Layout] = field(default_factory=dict)  # by map name, of those that the device lays out
    coordinates: dict[str, FloatArray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def map_layers(
    pairs: Iterable[tuple[int, int]], work: HeadWork, *, workers: int = 1, device: str = "cuda"
) -> Generator[HeadMaps]:
    """Map heads, neighbouring pairs of one layer together. Arguments and errors are those of ``map_heads``."""
    for layer, of_layer in itertools.groupby(pairs, key=itemgetter(0)):
        yield from map_layer(layer, [head for _, head in of_layer], work, workers=workers, device=device)


def map_layer(
    layer: int, heads: Sequence[int], work: HeadWork, *, workers: int = 1, device: str = "cuda"
) -> Generator[HeadMaps]:
    """Map heads of one layer together. A head's result does not depend on the others.

    Parameters
    ----------
    layer, heads
        Which. All have the same number of tokens.
    work
        What is done to each.
    workers
        Threads, for what is done head by head.
    device
        ``"cuda"``, or ``"cpu"`` for the same arithmetic without a GPU.

    Raises
    ------
    MapError
        As ``map_head`` does; also if heads differ in their tokens.
    """
    pairs = tuple((layer, head) for head in heads)
    found = dict(zip(pairs, in_threads(lambda layer, head: _loaded(layer, head, work), pairs, workers), strict=True))
    with explained(f"layer {layer}"):
        _search(layer, list(found.values()), work, device)
    alone = any(MAPS[spec.method].locks(parse(spec)) for spec in work.specs)
    for _ in in_threads(
        lambda layer, head: _prepare(layer, head, found[layer, head], work), pairs, 1 if alone else workers
    ):
        pass
    for spec in work.specs:
        with explained(f"layer {layer}"):
            _lay_out(spec, [head for head in found.values() if spec.name in head.plans], device)
    yield from in_threads(lambda layer, head: _judge(layer, head, found.pop((layer, head)), work), pairs, workers)


def _loaded(layer: int, head: int, work: HeadWork) -> _Head:
    with explained(f"layer {layer}, head {head}"):
        return _Head(work.normalize(*work.load(layer, head)))


def _search(layer: int, heads: Sequence[_Head], work: HeadWork, device: str) -> None:
    """Find the neighbours of all heads."""
    shapes = {head.joint.query.shape for head in heads}
    if len(shapes) > 1:
        raise MapError(
            f"Heads of layer {layer} have queries {sorted(shapes)}; all must have the same (tokens, head_dim) to be mapped "
            'together. Use device = "cpu", which maps each alone.'
        )
    k, start = max([work.least_neighbors, *map(num_neighbors, work.specs)]), time.perf_counter()
    found = neighbors(np.stack([head.joint.points for head in heads]), k, device)
    for head, near in zip(heads, found, strict=True):
        head.near = near
        head.seconds["neighbors"] = (time.perf_counter() - start) / len(heads)


def _prepare(layer: int, number: int, head: _Head, work: HeadWork) -> None:
    """Make what the device lays out, and the maps that it does not."""
    assert head.near is not None, "neighbours are found first"
    seed = head_seed(work.seed, layer, number)
    for spec in work.specs:
        with explained(f"layer {layer}, head {number}"), timed(head.seconds, spec.name):
            planned = plan(spec, head.joint, neighbors=head.near, seed=seed)
            if planned is None:
                head.coordinates[spec.name] = place(spec, head.joint, neighbors=head.near, seed=seed)
            else:
                head.plans[spec.name] = planned


def _lay_out(spec: MapSpec, heads: Sequence[_Head], device: str) -> None:
    """Make one map of all heads on the device."""
    if not heads:
        return
    start = time.perf_counter()
    plans = [head.plans.pop(spec.name) for head in heads]
    placed = layout(
        np.stack([planned.start for planned in plans]),
        [planned.graph for planned in plans],
        plans[0].curve,
        epochs=plans[0].epochs,
        negatives=plans[0].negatives,
        seeds=[planned.seed for planned in plans],
        device=device,
    )
    for head, of_head in zip(heads, placed, strict=True):
        head.coordinates[spec.name] = checked(spec, of_head)
        head.seconds[spec.name] += (time.perf_counter() - start) / len(heads)


def _judge(layer: int, number: int, head: _Head, work: HeadWork) -> HeadMaps:
    assert head.near is not None, "neighbours are found first"
    ordered = {spec.name: head.coordinates[spec.name] for spec in work.specs}
    with explained(f"layer {layer}, head {number}"):
        return judged(layer, number, work, head.joint, head.near, ordered, head.seconds)
