"""The attention map: a query lies near the keys with which its product is largest.

Receives the joint points, gives our kernel's layout of the attention graph: each query is tied to its strongest keys by q·k
(``n_keys``, all equally), each point to its nearest of the same kind (``n_same``, as UMAP weighs them). A key that no query is
drawn to is held by its own kind alone. A causal query is not tied to keys of its own sequence that it cannot see.

Measured on MiniLM, 12 heads of 6 layers, 5,000 tokens of documentation, 2026-11-21. Means of: a query's ten strongest keys
among its fifty nearest · its most attended key of the sequence is the nearest of it · trustworthiness of queries · of keys.
AttentionViz's recipes reach 0.08 · 0.12 · 0.88 · 0.88. 100 rounds unless told otherwise:

  7 keys a query, 7 queries a key, 7 same (the prototype)    0.47 · 0.33 · 0.87 · 0.91
  15 keys, 15 queries, 7 same                                0.49 · 0.40 · 0.85 · 0.90
  15 keys, 5 queries, 5 same                                 0.54 · 0.43 · 0.84 · 0.90
  15 keys, no queries, 5 same                                0.63 · 0.51 · 0.84 · 0.92   tying keys to queries costs most
  the same, 1 query · 2 at a third of the weight             0.58 · 0.47 ·;· 0.63 · 0.49
  10 keys · 20 · 30                                          0.61 · 0.39 ·;· 0.61 · 0.56 ·;· 0.56 · 0.61
  3 same · 10 same                                           0.62 · 0.50 · 0.83 · 0.88 ·;· 0.62 · 0.51 · 0.85 · 0.93
  same with equal weights · at half the weight               0.62 · 0.48 · 0.86 · 0.93 ·;· 0.63 · 0.52 · 0.82 · 0.91
  keys by rank^-1/2 · as UMAP weighs distances               0.59 · 0.41 · 0.87 · 0.92 ·;· 0.56 · 0.32 · 0.88 · 0.92
  hub keys weighed down, (15 / their queries)^¼ · ^½ · ^1    0.57 · 0.53 ·;· 0.48 · 0.47 ·;· 0.33 · 0.37   hubs are the attention
  edges of the sequence at weight 0.1 · 1 · 3                0.65 · 0.57 ·;· 0.50 · 0.50 ·;· 0.37 · 0.52   (0.1: 200 rounds)
  queries begin at the mean of their keys                    0.49 · 0.56   (200 rounds) worse than the joint PCA
  start 2.5 wide (with the prototype) · 20 · 40              0.42 · 0.37 ·;· 0.65 · 0.41 ·;· 0.68 · 0.34
  UMAP's own curve (with the prototype)                      0.46 · 0.26   and three times as slow
  15 keys, 7 same, 200 rounds                                0.66 · 0.58 · 0.84 · 0.93   worst head 0.57 · 0.15 · 0.75 · 0.87
  the same, 400 rounds                                       0.67 · 0.62 · 0.84 · 0.93   worst head 0.56 · 0.12 · 0.74

All of the above before the kernel let the points push after every eighth pull: until then a hub, with thousands of pulls, was
thrown far out of the map by as many pushes at once. Since then, 6 heads, 5,000 tokens, 200 rounds · 10,000 tokens, 100 rounds:
  15 keys, 7 same: the default        0.72 · 0.65 · 0.84 · 0.94    0.64 · 0.52 · 0.84 · 0.94
  15 keys, 15 same                    0.71 · 0.71 · 0.85 · 0.94    0.64 · 0.52 · 0.85 · 0.94
  10 keys, 7 same                     0.75 · 0.53 · 0.85 · 0.94    0.67 · 0.43 · 0.85 · 0.94
  20 keys, 15 same                    0.69 · 0.73 · 0.84 · 0.94    0.58 · 0.55 · 0.84 · 0.94
The scaling c cancels in q·k and in neighbours of one kind: it can only touch the start.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnviz.attention import Reach, within_sequences
from attnviz.maps.method import MapMethod, Within, parameter
from attnviz.maps.nearest import neighbors as nearest
from attnviz.maps.nearest import strongest
from attnviz.maps.pca import initial
from attnviz.maps.plan import Layout, laid_out
from attnviz.normalize import unit
from attnviz.types import FloatArray, Joint, Neighbors

__all__ = ["ATTENTION", "AttentionParameters", "strongest_keys"]

START = 10.0  # standard deviation of the start along its widest axis
_ROWS = 256  # of products at once
_FEW = 10_000  # up to so many points there is time for more rounds


@dataclass(frozen=True, slots=True)
class AttentionParameters:
    """What the attention map takes.

    Parameters
    ----------
    n_keys
        To how many of its strongest keys a query is tied. More favour the order within a sequence, fewer the very strongest.
    n_same
        To how many points of its own kind a point is tied: what keeps alike queries, and alike keys, together.
    in_sequence
        Weight of the edges that the model really used: from each query to each key of its sequence, times the attention. It
        brings a token's own context nearer, and costs the picture of all keys.
    n_epochs
        Rounds of optimisation; ``"auto"``: 200 up to 10,000 points and 100 above.
    negative_sample_rate
        Points that push for each one that pulls.
    """

    n_keys: int = parameter(15, Within(1, 500))
    n_same: int = parameter(7, Within(0, 500))
    in_sequence: float = parameter(0.0, Within(0, 1, float))
    n_epochs: int | None = parameter(None, Within(11, 10_000, automatic=True))
    negative_sample_rate: int = parameter(8, Within(1, 100))


def strongest_keys(joint: Joint, k: int) -> NDArray[np.int32]:
    """Return for each query the keys with the largest q·k, ``(queries, k)``, largest first; -1 where there are too few.

    Keys of a query's own sequence that its layer hides from it are left out; keys of other sequences are not, because nothing
    but the batch keeps them from it.
    """
    count, layer = len(joint.key), joint.sequences.layer
    masked = layer.causal or layer.window is not None or layer.chunk is not None
    query, key = (unit(vectors)[0] for vectors in (joint.query, joint.original_key))
    found = strongest(query, key, min(4 * k if masked else k, count)).indices
    if masked:
        found = _visible_first(found, joint)[:, :k]
        lacking = np.flatnonzero((found < 0).any(axis=1))
        found[lacking] = _strongest_visible(query, key, joint, lacking, found.shape[1])
    return np.pad(found[:, :k], ((0, 0), (0, max(k - found.shape[1], 0))), constant_values=-1)


def _strongest_visible(
    query: FloatArray, key: FloatArray, joint: Joint, rows: NDArray[np.int64], k: int
) -> NDArray[np.int32]:
    """Return the strongest keys of some queries, ``(rows, k)``, told from all products: of long sequences most may be hidden."""
    reach, bounds = Reach.of(joint.sequences), joint.sequences.key_bounds
    sequence = np.searchsorted(joint.sequences.bounds, rows, side="right") - 1
    result = np.full((len(rows), k), -1, np.int32)
    wide = key.astype(np.float64)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        # Float64, rounded: equal keys have equal products, as in ``strongest``, whatever the matrix product rounds.
        products = (query[rows[part]].astype(np.float64) @ wide.T).astype(np.float32)
        for place, (row, of_row, own) in enumerate(zip(products, rows[part], sequence[part], strict=True), start):
            row[bounds[own] : reach.first[of_row]] = -np.inf
            row[reach.stop[of_row] : bounds[own + 1]] = -np.inf
            largest = np.flatnonzero(row >= np.partition(row, -k)[-k])
            chosen = largest[np.argsort(-row[largest], kind="stable")[:k]]
            result[place] = np.where(np.isfinite(row[chosen]), chosen, -1)
    return result


def _visible_first(found: NDArray[np.int32], joint: Joint) -> NDArray[np.int32]:
    """Move keys that the query of each row may not see to the end of the row, as -1."""
    reach = Reach.of(joint.sequences)
    sequence = np.searchsorted(joint.sequences.key_bounds, np.arange(len(joint.key)), side="right")
    own = np.searchsorted(joint.sequences.bounds, np.arange(len(found)), side="right")
    hidden = (found < reach.first[:, None]) | (found >= reach.stop[:, None])
    hidden &= sequence[found] == own[:, None]
    order = np.argsort(hidden, axis=1, kind="stable")
    kept: NDArray[np.int32] = np.take_along_axis(np.where(hidden, -1, found), order, axis=1)
    return kept


def _graph(joint: Joint, parameters: AttentionParameters) -> Any:
    """Return the attention graph, ``(points, points)``, symmetric."""
    from scipy.sparse import block_array, coo_array

    from attnviz.maps.graph import edges, memberships, union

    shape = len(joint.query), len(joint.key)
    keys = strongest_keys(joint, min(parameters.n_keys, shape[1]))
    rows, columns = np.nonzero(keys >= 0)
    ones = np.ones(len(rows), np.float32)
    attends = coo_array((ones, (rows, keys[rows, columns])), shape).tocsr()
    if parameters.in_sequence:
        attends = attends.maximum(parameters.in_sequence * _in_sequence(joint))
    same = [nearest(points, parameters.n_same) for points in (joint.query, joint.key)]
    alike = [edges(near.indices, memberships(near.distances), points=len(near.indices)) for near in same]
    return union(block_array([[alike[0], attends], [None, alike[1]]], format="csr"))


def _in_sequence(joint: Joint) -> Any:
    """Return the attention within every sequence, ``(queries, keys)``, where it is more than a hundredth."""
    from scipy.sparse import coo_array

    rows, columns, values = [], [], []
    for queries, keys, given in within_sequences(joint.query, joint.original_key, joint.sequences):
        row, column = np.nonzero(given > 0.01)
        rows.append(row + queries.start)
        columns.append(column + keys.start)
        values.append(given[row, column])
    where = np.concatenate(rows), np.concatenate(columns)
    return coo_array((np.concatenate(values), where), (len(joint.query), len(joint.key))).tocsr()


def _place(joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: AttentionParameters) -> FloatArray:
    return laid_out(_plan(joint, neighbors, dims=dims, seed=seed, parameters=parameters))


def _plan(joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: AttentionParameters) -> Layout:
    from attnviz.maps.kernel import CAUCHY

    return Layout(
        initial(joint.points, dims, spread=START, seed=seed),
        _graph(joint, parameters),
        CAUCHY,
        epochs=parameters.n_epochs or (200 if len(joint.points) <= _FEW else 100),
        negatives=parameters.negative_sample_rate,
        seed=seed,
    )


ATTENTION = MapMethod(
    name="attention",
    place=_place,
    parameters=AttentionParameters,
    num_neighbors=lambda parameters: 0,
    summary="A query lies near the keys that it attends to most; alike queries, and alike keys, lie together.",
    min_points=2,
    plan=_plan,
)
