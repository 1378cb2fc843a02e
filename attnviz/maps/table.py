"""The table of map methods, and the two doors to it: ``parse`` for recipes, ``place`` for pipelines.

Receives a ``MapSpec``; gives its parameters, checked, or the coordinates of a head's points, checked. Everything runs on one
thread, here as in a worker: a matrix product cut into other pieces rounds differently, and the same run must give the same
bytes on every machine with the same libraries.
"""

from typing import Any

import numpy as np

from attnviz.errors import MapError, nearest
from attnviz.maps.attention import ATTENTION
from attnviz.maps.method import MapMethod, read_parameters
from attnviz.maps.neg_tsne import NEG_TSNE
from attnviz.maps.pca import PCA
from attnviz.maps.plan import Layout
from attnviz.maps.threads import single_thread
from attnviz.maps.tsne import TSNE
from attnviz.maps.umap import UMAP
from attnviz.types import FloatArray, Joint, MapSpec, Neighbors

__all__ = ["MAPS", "checked", "num_neighbors", "parse", "place", "plan"]

MAPS: dict[str, MapMethod] = {method.name: method for method in (PCA, UMAP, TSNE, NEG_TSNE, ATTENTION)}
"""Every map method, by name."""


def parse(spec: MapSpec) -> Any:
    """Return the parameters of a map, checked; nothing is computed and no library is loaded.

    Returns
    -------
    Any
        An instance of ``MAPS[spec.method].parameters``.

    Raises
    ------
    MapError
        If the method, its dimensions, or a parameter's name or value is not one that is accepted.
    """
    if spec.method not in MAPS:
        raise MapError(f"Map {spec.name!r} has the method {spec.method!r}: {nearest(spec.method, MAPS)}")
    method = MAPS[spec.method]
    if isinstance(spec.dims, bool) or spec.dims not in method.dims:
        accepted = " or ".join(map(str, method.dims))
        raise MapError(
            f"Map {spec.name!r} has dims = {spec.dims!r}; {spec.method} makes maps of {accepted} dimensions."
        )
    return read_parameters(method, spec.parameters, place=f"Map {spec.name!r}")


def num_neighbors(spec: MapSpec) -> int:
    """Return how many neighbours of each point the map wants. Raises ``MapError`` as ``parse`` does."""
    return MAPS[spec.method].num_neighbors(parse(spec))


def place(spec: MapSpec, joint: Joint, *, neighbors: Neighbors, seed: int = 0) -> FloatArray:
    """Return where a map puts the points of a head, ``(points, dims)``: the queries, then the keys.

    Parameters
    ----------
    spec
        The map.
    joint
        The points, finite.
    neighbors
        Of ``joint.points``, at least ``num_neighbors(spec)`` of each, or all the others. More do not change the map.
    seed
        0 to 2³² - 1. Equal arguments give equal bytes, on one type of processor.

    Returns
    -------
    FloatArray
        float32 and finite. No axis is stretched on its own: distances along x and y mean the same.

    Raises
    ------
    MapError
        If the spec is not valid, if there are too few points or neighbours, or if a number is not finite.
    """
    parameters, used = _ready(spec, joint, neighbors)
    with single_thread():
        placed = MAPS[spec.method].place(joint, used, dims=spec.dims, seed=seed, parameters=parameters)
    return checked(spec, placed)


def plan(spec: MapSpec, joint: Joint, *, neighbors: Neighbors, seed: int = 0) -> Layout | None:
    """Return the layout that ``place`` would carry out, or None if it places the points in another way.

    Parameters are those of ``place``. Raises ``MapError`` as it does.
    """
    parameters, used = _ready(spec, joint, neighbors)
    if (of_method := MAPS[spec.method].plan) is None:
        return None
    with single_thread():
        return of_method(joint, used, dims=spec.dims, seed=seed, parameters=parameters)


def checked(spec: MapSpec, placed: FloatArray) -> FloatArray:
    """Return coordinates as they are stored. Raises ``MapError`` if one is not finite."""
    placed = np.ascontiguousarray(placed, dtype=np.float32)
    if not np.isfinite(placed).all():
        raise MapError(
            f"Map {spec.name!r} ({spec.method}) put points at NaN or infinity. Try another seed or other parameters; if it "
            'stays so, use method = "pca" for this run and report it.'
        )
    return placed


def _ready(spec: MapSpec, joint: Joint, neighbors: Neighbors) -> tuple[Any, Neighbors]:
    """Return the map's parameters, and as many of the neighbours as it wants, all checked."""
    parameters, points = parse(spec), len(joint.query) + len(joint.key)
    wanted = min(MAPS[spec.method].num_neighbors(parameters), points - 1)
    _check(spec, joint, neighbors, wanted=wanted)
    return parameters, Neighbors(neighbors.indices[:, :wanted], neighbors.distances[:, :wanted])


def _check(spec: MapSpec, joint: Joint, neighbors: Neighbors, *, wanted: int) -> None:
    points, least = len(joint.query) + len(joint.key), MAPS[spec.method].min_points
    if points < least:
        raise MapError(
            f"Map {spec.name!r} was given {points} points; {spec.method} needs at least {least}. Give the run more tokens, or "
            'use method = "pca".'
        )
    if not (np.isfinite(joint.query).all() and np.isfinite(joint.key).all()):
        raise MapError(f"Map {spec.name!r} was given NaN or infinity; a map needs finite vectors. Leave this head out.")
    if wanted and (len(neighbors.indices) != points or neighbors.indices.shape[1] < wanted):
        raise MapError(
            f"Map {spec.name!r} was given neighbours {neighbors.indices.shape}; {spec.method} needs ({points}, {wanted}). Make "
            "them with neighbors(joint.points, num_neighbors(spec))."
        )
