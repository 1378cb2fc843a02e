"""UMAP by umap-learn: the reference that our own engine is compared with.

Receives the joint points and their exact neighbours, gives umap-learn's layout from a PCA start, seeded, on one thread:
20,000 points × 32 dims take 7.6 s, and 7 s more for the first map of a process, when numba compiles (2026-11-21). umap-learn
counts the point itself among its neighbours, so one less is asked for. Below 4,096 points it does not shorten a longer list,
so it is handed exactly what it uses. It stretches each axis of the start to 0…10 by itself; the layout that follows is not
stretched.
"""

import warnings
from types import ModuleType

import numpy as np

from attnviz.errors import require
from attnviz.maps.pca import initial
from attnviz.types import FloatArray, Neighbors

__all__ = ["umap_learn"]


def umap_learn(
    points: FloatArray,
    neighbors: Neighbors,
    *,
    dims: int,
    seed: int,
    n_epochs: int | None,
    negative_sample_rate: int,
    min_dist: float,
    spread: float,
) -> FloatArray:
    """Return umap-learn's map, ``(points, dims)``; its own words for the parameters."""
    umap = _library()
    indices, distances = _with_self(neighbors)
    reducer = umap.UMAP(
        n_neighbors=indices.shape[1],
        n_components=dims,
        n_epochs=n_epochs,
        min_dist=min_dist,
        spread=spread,
        negative_sample_rate=negative_sample_rate,
        init=initial(points, dims, spread=1.0, seed=seed),
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(indices, distances),
    )
    with warnings.catch_warnings():
        # True, and of no concern: our own transform places new points.
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
