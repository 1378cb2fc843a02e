"""t-SNE by openTSNE: the reference for local structure, and the slowest map.

Receives the joint points and their exact neighbours, gives openTSNE's embedding from a PCA start, seeded, on one thread.
openTSNE interpolates (FFT) in one or two dimensions only, so a 3-D map uses its Barnes-Hut tree, and so does a 2-D map of less
than 10,000 points, where the grid costs more than it saves (300 points: 0.8 s against 10.8 s, 2026-11-21). 20,000 points × 32
dims take 52 s in 2-D, one core.
"""

import math
from dataclasses import dataclass

import numpy as np

from attnviz.errors import require
from attnviz.maps.method import MapMethod, Within, parameter
from attnviz.maps.pca import initial
from attnviz.types import FloatArray, Joint, Neighbors

__all__ = ["TSNE", "TsneParameters"]

_FFT_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class TsneParameters:
    """What t-SNE takes (van der Maaten and Hinton, *Visualizing data using t-SNE*, 2008).

    Parameters
    ----------
    perplexity
        How many neighbours, softly counted, a point is held to; three times as many are searched. With fewer points, a third
        of the others.
    n_iter
        Rounds of optimisation after early exaggeration.
    early_exaggeration_iter
        Rounds in which clusters form, with attraction multiplied by ``early_exaggeration``.
    early_exaggeration
        Larger gathers points of a cluster sooner.
    exaggeration
        The same for the rounds after. Above 1, clusters are tighter and large data sets less crowded.
    """

    perplexity: float = parameter(30.0, Within(2, 200, float))
    n_iter: int = parameter(500, Within(1, 10_000))
    early_exaggeration_iter: int = parameter(250, Within(0, 10_000))
    early_exaggeration: float = parameter(12.0, Within(1, 100, float))
    exaggeration: float = parameter(1.0, Within(1, 100, float))


def _place(joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: TsneParameters) -> FloatArray:
    opentsne = require("openTSNE", "maps")
    precomputed = require("openTSNE.nearest_neighbors", "maps").PrecomputedNeighbors
    total, found = neighbors.indices.shape
    # Affinities do not depend on the unit, but the search for them starts at a bandwidth of 1 and can miss one of 1e20.
    unit = neighbors.distances.mean(dtype=np.float64)
    distances = neighbors.distances / (unit if unit > 0 else 1.0)
    affinities = require("openTSNE.affinity", "maps").PerplexityBasedNN(
        knn_index=precomputed(neighbors.indices, distances),
        perplexity=min(parameters.perplexity, found / 3),
        n_jobs=1,
    )
    tsne = opentsne.TSNE(
        n_components=dims,
        n_iter=parameters.n_iter,
        early_exaggeration_iter=parameters.early_exaggeration_iter,
        early_exaggeration=parameters.early_exaggeration,
        exaggeration=parameters.exaggeration,
        # A wider start would keep the shape of the PCA instead of unfolding it (Kobak and Berens, 2019).
        initialization=initial(joint.points, dims, spread=1e-4, seed=seed).astype(np.float64),
        negative_gradient_method="fft" if dims == 2 and total >= _FFT_POINTS else "bh",
        n_jobs=1,
        random_state=seed,
    )
    return np.asarray(tsne.fit(affinities=affinities), dtype=np.float32)


TSNE = MapMethod(
    name="tsne",
    place=_place,
    parameters=TsneParameters,
    num_neighbors=lambda parameters: math.ceil(3 * parameters.perplexity),
    summary="The nearest neighbours stay nearest; sizes of clusters and gaps between them mean nothing.",
    locks=lambda parameters: True,
)
