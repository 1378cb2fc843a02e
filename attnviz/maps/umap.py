"""UMAP by umap-learn: the reference that faster engines are compared with.

Receives the joint points and their exact neighbours, gives umap-learn's layout from a PCA start, seeded, on one thread:
20,000 points × 32 dims take 7.6 s, and 7 s more for the first map of a process, when numba compiles (2026-11-21). umap-learn
counts the point itself among its neighbours, so one less is asked for. Below 4,096 points it does not shorten a longer list,
so it is handed exactly what it uses. It stretches each axis of the start to 0…10 by itself; the layout that follows is not
stretched.
"""

import warnings
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from attnviz.errors import require
from attnviz.maps.method import MapMethod, Within, parameter
from attnviz.maps.pca import initial
from attnviz.types import FloatArray, Joint, Neighbors

__all__ = ["UMAP", "UmapParameters"]


@dataclass(frozen=True, slots=True)
class UmapParameters:
    """What UMAP takes (McInnes, Healy and Melville, *UMAP*, 2018).

    Parameters
    ----------
    n_neighbors
        How many points, itself included, a point is held to. Larger shows the coarse shape, smaller the fine grain.
    min_dist
        How close points may lie. Smaller packs clusters; larger spreads them so that single points can be told apart.
    n_epochs
        Rounds of optimisation; ``"auto"`` is umap-learn's choice: 500 up to 10,000 points, 200 above.
    negative_sample_rate
        Points pushed away for each one pulled near. Larger separates clusters more, and takes longer.
    """

    n_neighbors: int = parameter(15, Within(2, 500))
    min_dist: float = parameter(0.1, Within(0, 1, float))
    n_epochs: int | None = parameter(None, Within(11, 10_000, automatic=True))
    negative_sample_rate: int = parameter(5, Within(1, 100))


def _place(joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: UmapParameters) -> FloatArray:
    umap = _library()
    points = joint.points
    indices, distances = _with_self(neighbors)
    reducer = umap.UMAP(
        n_neighbors=indices.shape[1],
        n_components=dims,
        n_epochs=parameters.n_epochs,
        min_dist=parameters.min_dist,
        negative_sample_rate=parameters.negative_sample_rate,
        init=initial(points, dims, spread=1.0, seed=seed),
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(indices, distances),
    )
    with warnings.catch_warnings():
        # True, and of no concern: nothing is placed into this map later.
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\] \(knn_search_index\) is not an NNDescent")
        placed: FloatArray = reducer.fit_transform(points)
    return placed


def _library() -> ModuleType:
    with warnings.catch_warnings():
        # Its variant that needs TensorFlow is not used here.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        return require("umap", "maps")


def _with_self(neighbors: Neighbors) -> tuple[np.ndarray, FloatArray]:
    """Return indices and distances with each point as its own first neighbour, as umap-learn wants them."""
    total = len(neighbors.indices)
    others = slice(0, total - 2)  # umap-learn takes at most all points but one, the point itself included
    indices = np.concatenate([np.arange(total, dtype=np.int32)[:, None], neighbors.indices[:, others]], axis=1)
    return indices, np.concatenate([np.zeros((total, 1), np.float32), neighbors.distances[:, others]], axis=1)


UMAP = MapMethod(
    name="umap",
    place=_place,
    parameters=UmapParameters,
    num_neighbors=lambda parameters: parameters.n_neighbors - 1,
    summary="Neighbours stay together, clusters stand apart; distances between clusters mean little.",
)
