"""New tokens on a map that exists: where the queries and keys of a user's sentence come to lie, while nothing else moves.

Receives a map, its head's joint points and where they lie; gives a ``Landing``, which takes the vectors of new tokens as they are
captured and returns their places. PCA projects them. The other maps tie a new point to old points as their own graph would,
start it at the mean of those, and let it settle under the map's own forces (``maps/settle.py``). A new point feels old points
only, so its place does not depend on what is placed with it; edges within the new sentence (``in_sequence``) are left out.

Measured on MiniLM, six heads of 10,000 tokens, 2026-11-21, `tests/bench/transform.py`: 2 % of the sequences held out and landed on
a map of the rest, against the same points of a map of everything. Share of a point's 15 nearest old points that are among its 100
nearest in the joint space · share of a query's ten largest q·k among its fifty nearest keys, landed against full; last, how far
from its place an old vector lands, over the distance of two random points (medians):

  umap        0.570 against 0.574 · 0.050 against 0.062 · 0.003
  neg_tsne    0.560 against 0.529 · 0.057 against 0.056 · 0.003
  attention   0.326 against 0.356 · 0.626 against 0.635 · 0.010   it was made for the second: neighbours are the weaker side
  umap-learn  0.645 against 0.635 · 0.151 against 0.163 · 0.004   two heads
  tsne        0.74, 0.45 against 0.75, 0.40 (of 50) · 0.003       two heads of 2,500 tokens

100 new tokens take 15 ms (umap), 24 ms (attention), 23 to 35 ms (others) on free cores, up to 125 ms on busy ones; preparing a
head takes 2 ms, for attention 0.2 to 0.4 s. Left at the mean of their ties, points keep 0.50 of their neighbours instead of 0.68
(umap) and 0.37 of attention instead of 0.63 (attention; three heads).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import MapError
from attnviz.maps.attention import AttentionParameters, strongest_keys
from attnviz.maps.pca import principal
from attnviz.maps.table import num_neighbors, parse
from attnviz.maps.umap import curve_of
from attnviz.types import FloatArray, Joint, MapSpec

__all__ = ["LANDS", "Landing", "prepare_landing"]

Edges = tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]
"""Of each new point: where its edges begin, and the end; to which old points; weights, 0 to 1."""

Land = Callable[[FloatArray, FloatArray], FloatArray]
"""Takes new queries and keys in the joint space, ``(tokens, head_dim)`` each, gives their places, ``(queries + keys, dims)``."""

_MOST = 500  # queries that hold one new key; a hub would have thousands, and 500 at random pull to the same place


@dataclass(frozen=True, slots=True)
class Landing:
    """Places new tokens on one head's map. Made by ``prepare_landing``; keeps the head's points."""

    name: str
    joint: Joint
    dims: int
    land: Land

    def __call__(self, query: FloatArray, key: FloatArray) -> FloatArray:
        """Return where new tokens lie, ``(queries + keys, dims)`` in float32: their queries, then their keys.

        Parameters
        ----------
        query, key
            ``(queries, head_dim)`` and ``(keys, head_dim)``, finite, as captured: scale and shift of the head are applied here.
            Each token has its own place, whatever else is given.

        Raises
        ------
        MapError
            If the vectors have another shape than the head's, or hold NaN or infinity.
        """
        query, key = np.asarray(query, np.float32), np.asarray(key, np.float32)
        self._check(query, key)
        scale = np.float32(self.joint.scale)
        with np.errstate(over="ignore"):  # what overflows is refused below
            query, key = query * scale, key / scale + self.joint.shift
        if not (np.isfinite(query).all() and np.isfinite(key).all()):
            raise MapError(
                f"New tokens for map {self.name!r} hold NaN or infinity, or leave the range of float32; places need finite "
                "vectors. Capture in float32 or bfloat16, or leave these tokens out."
            )
        if not len(query) + len(key):
            return np.empty((0, self.dims), np.float32)
        return np.ascontiguousarray(self.land(query, key), np.float32)

    def _check(self, query: FloatArray, key: FloatArray) -> None:
        head_dim = self.joint.query.shape[1]
        if query.ndim != 2 or key.ndim != 2 or not query.shape[1] == key.shape[1] == head_dim:
            raise MapError(
                f"New queries {query.shape} and keys {key.shape} were given for map {self.name!r}; both must be (tokens, "
                f"{head_dim}). Give the vectors of this layer and head, each query head with the keys of its own kv_head."
            )


@dataclass(frozen=True, slots=True)
class _Old:
    """The points that are on the map, in the random order in which they push."""

    joint: Joint
    placed: FloatArray  # (points, dims), as the map has it
    order: NDArray[np.int64]  # (points,): which point stands where
    rank: NDArray[np.int64]  # (points,): where each point stands
    seed: int


def prepare_landing(spec: MapSpec, joint: Joint, placed: FloatArray, *, seed: int = 0) -> Landing:
    """Return what places new tokens on a map; made once per head.

    Parameters
    ----------
    spec
        How the map was made.
    joint
        The head's points, as the map was made of them.
    placed
        ``(points, dims)``: where the map has them. It is not changed.
    seed
        The head's own. Equal arguments give equal places, on one type of processor.

    Raises
    ------
    MapError
        If the spec is not valid, or the coordinates are not those of the points.
    """
    parameters = parse(spec)
    points = len(joint.query) + len(joint.key)
    if placed.shape != (points, spec.dims) or not np.isfinite(placed).all():
        raise MapError(
            f"Map {spec.name!r} was given coordinates {placed.shape} for {points} points in {spec.dims} dimensions; new tokens "
            f"are placed among finite coordinates ({points}, {spec.dims}). Give what place() or Run.coordinates() returned."
        )
    order = np.random.default_rng(seed).permutation(points)
    old = _Old(joint, placed, order, np.argsort(order), seed)
    return Landing(spec.name, joint, spec.dims, LANDS[spec.method](old, spec, parameters))


def _pca(old: _Old, spec: MapSpec, parameters: Any) -> Land:
    mean, directions = principal(old.joint.points, spec.dims)

    def land(query: FloatArray, key: FloatArray) -> FloatArray:
        """Project new points onto the map's axes."""
        centred = np.concatenate([query, key]) - mean
        placed: FloatArray = np.stack([_products(centred, axis[None]) for axis in directions.T], axis=1).astype(
            np.float32
        )
        return placed

    return land


def _umap(old: _Old, spec: MapSpec, parameters: Any) -> Land:
    from attnviz.maps.graph import memberships

    negatives = parameters.negative_sample_rate or (5 if parameters.engine == "umap-learn" else 8)
    return _joined(old, num_neighbors(spec), memberships, curve=curve_of(parameters), negatives=negatives)


def _tsne(old: _Old, spec: MapSpec, parameters: Any) -> Land:
    from attnviz.maps.graph import perplexity_weights

    k = min(num_neighbors(spec), len(old.placed) - 1)

    def weigh(distances: FloatArray) -> FloatArray:
        return perplexity_weights(distances, min(parameters.perplexity, k / 3))

    return _joined(old, k, weigh, negatives=getattr(parameters, "negative_sample_rate", 8))


def _joined(
    old: _Old,
    k: int,
    weigh: Callable[[FloatArray], FloatArray],
    *,
    curve: tuple[float, float] = (1.0, 1.0),
    negatives: int,
) -> Land:
    """Tie each new point to its ``k`` nearest of both kinds."""
    points = old.joint.points

    return lambda query, key: _settle(old, _nearest(np.concatenate([query, key]), points, k, weigh), curve, negatives)


def _attention(old: _Old, spec: MapSpec, parameters: AttentionParameters) -> Land:
    """Tie a new query to its strongest keys, a new key to the queries whose strongest it would be, both to their own kind."""
    from attnviz.maps.graph import memberships

    joint, split = old.joint, len(old.joint.query)
    queries = old.order[old.order < split]  # in random order: what holds a hub is a sample of its queries
    keys, thresholds = joint.original_key, _thresholds(joint, parameters.n_keys)[queries]
    query_at_random = joint.query[queries]
    n_same = max(parameters.n_same, 1)  # nothing else may hold a new key

    def land(query: FloatArray, key: FloatArray) -> FloatArray:
        """Tie new queries to their strongest keys, new keys to their queries, both to their own kind, and let them settle."""
        strongest = _strongest(query, keys, parameters.n_keys, first=split)
        starts, held, ones = _holding(key - joint.shift, query_at_random, thresholds)
        same = [_nearest(new, there, n_same, memberships) for new, there in ((query, joint.query), (key, joint.key))]
        shifted = same[1][0], same[1][1] + split, same[1][2]
        edges = _below(_beside(strongest, same[0]), _beside((starts, queries[held], ones), shifted))
        return _settle(old, edges, (1.0, 1.0), parameters.negative_sample_rate)

    return land


LANDS: dict[str, Callable[[_Old, MapSpec, Any], Land]] = {
    "pca": _pca,
    "umap": _umap,
    "tsne": _tsne,
    "neg_tsne": _tsne,
    "attention": _attention,
}
"""How each method's maps take new points."""


def _nearest(new: FloatArray, points: FloatArray, k: int, weigh: Callable[[FloatArray], FloatArray]) -> Edges:
    """Tie each new point to its nearest; weighed one by one, because the weights of many share a unit."""
    from attnviz.maps.settle import closest

    indices, distances = closest(new, points, k)
    rows = [weigh(row[None]) for row in distances.astype(np.float32)]
    return _rows(indices, np.concatenate(rows))


def _strongest(query: FloatArray, keys: FloatArray, k: int, *, first: int) -> Edges:
    from attnviz.maps.settle import closest

    indices, _ = closest(query, keys, k, by_product=True)
    return _rows(indices + first, np.ones(indices.shape, np.float32))


def _rows(indices: NDArray[Any], weights: FloatArray) -> Edges:
    """Return neighbours and weights, ``(new, k)`` each, as edges."""
    starts = np.arange(len(indices) + 1) * indices.shape[1]
    return starts, indices.ravel().astype(np.int64), weights.ravel()


def _thresholds(joint: Joint, n_keys: int) -> NDArray[np.float64]:
    """Return the least product with which a key is among each query's strongest, ``(tokens,)``."""
    keys = strongest_keys(joint, n_keys)
    products = np.stack([_products(joint.query, joint.original_key[column]) for column in keys.T], axis=1)
    least: NDArray[np.float64] = np.where(keys >= 0, products, -np.inf).min(axis=1)
    return least


def _products(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    """Return the products of rows in pairs, each in the same order of adding whatever the number of rows."""
    total = np.zeros(len(left))
    for column in range(left.shape[1]):
        total += left[:, column].astype(np.float64) * right[:, column]
    return total


def _holding(keys: FloatArray, query: FloatArray, thresholds: NDArray[np.float64]) -> Edges:
    """Tie each new key to the queries that it is strong enough for, to the first ``_MOST`` of them."""
    products = keys.astype(np.float64) @ query.T.astype(np.float64)
    holds = products >= thresholds
    # What a matrix product rounds depends on its size; on the edge that would decide.
    new, old = np.nonzero(np.abs(products - thresholds) <= 1e-9 * np.abs(thresholds))
    holds[new, old] = _products(keys[new], query[old]) >= thresholds[old]
    found = [np.flatnonzero(row)[:_MOST] for row in holds]
    starts = np.concatenate([[0], np.cumsum([len(each) for each in found])])
    indices = np.concatenate(found)
    return starts, indices, np.ones(len(indices), np.float32)


def _beside(left: Edges, right: Edges) -> Edges:
    """Return the edges of the same new points from two sources."""
    starts = left[0] + right[0]
    owner = np.concatenate([np.repeat(np.arange(len(starts) - 1), np.diff(edges[0])) for edges in (left, right)])
    order = np.argsort(owner, kind="stable")
    indices, weights = (np.concatenate([left[i], right[i]])[order] for i in (1, 2))
    return starts, indices, weights


def _below(upper: Edges, lower: Edges) -> Edges:
    """Return the edges of some new points, then those of others."""
    starts = np.concatenate([upper[0], lower[0][1:] + upper[0][-1]])
    return starts, np.concatenate([upper[1], lower[1]]), np.concatenate([upper[2], lower[2]])


def _settle(old: _Old, edges: Edges, curve: tuple[float, float], negatives: int) -> FloatArray:
    """Start each new point at the mean of those it is tied to, and let it come to rest."""
    from attnviz.maps.kernel import Curve
    from attnviz.maps.settle import settle

    starts, indices, weights = edges
    shuffled = starts, old.rank[indices], weights
    return settle(old.placed[old.order], shuffled, Curve(*curve), negatives=negatives, seed=old.seed)
