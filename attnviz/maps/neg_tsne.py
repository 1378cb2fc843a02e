"""Neg-t-SNE: t-SNE's affinities, optimised by sampling the points that push instead of reckoning with all of them.

Receives the joint points and their exact neighbours, gives our kernel's layout of the graph of t-SNE's affinities. Damrich,
Böhm, Hamprecht and Kobak (*From t-SNE to UMAP with contrastive learning*, 2022) show what it is: t-SNE's objective with a fixed
normalisation, which looks between t-SNE and UMAP. It is not openTSNE's map, which ``tsne`` makes.

Five kinds of map, MiniLM, 72 heads of 10,000 points, 2026-11-21: trustworthiness of queries and of keys 0.88 and 0.89, where
``umap`` has 0.92 and 0.93 and AttentionViz's t-SNE 0.93 and 0.93 (3 heads). It is here for what t-SNE's users expect, 64 times
faster than scikit-learn's, and not the default of anything.
"""

import math
from dataclasses import dataclass

from attnviz.maps.method import MapMethod, Within, parameter
from attnviz.maps.pca import initial
from attnviz.maps.plan import Layout, laid_out
from attnviz.types import FloatArray, Joint, Neighbors

__all__ = ["NEG_TSNE", "NegTsneParameters"]


@dataclass(frozen=True, slots=True)
class NegTsneParameters:
    """What Neg-t-SNE takes.

    Parameters
    ----------
    perplexity
        How many neighbours, softly counted, a point is held to; three times as many are searched. With fewer points, a third
        of the others.
    n_epochs
        Rounds of optimisation.
    negative_sample_rate
        Points that push for each one that pulls. Larger separates clusters more, and takes longer.
    """

    perplexity: float = parameter(30.0, Within(2, 200, float))
    n_epochs: int = parameter(100, Within(11, 10_000))
    negative_sample_rate: int = parameter(8, Within(1, 100))


def _place(joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: NegTsneParameters) -> FloatArray:
    return laid_out(_plan(joint, neighbors, dims=dims, seed=seed, parameters=parameters))


def _plan(joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: NegTsneParameters) -> Layout:
    from attnviz.maps.graph import edges, perplexity_weights
    from attnviz.maps.kernel import CAUCHY

    points, found = neighbors.indices.shape
    weights = perplexity_weights(neighbors.distances, min(parameters.perplexity, found / 3))
    directed = edges(neighbors.indices, weights, points=points)
    return Layout(
        initial(joint.points, dims, spread=20.0, seed=seed),
        (directed + directed.T).tocsr(),
        CAUCHY,
        epochs=parameters.n_epochs,
        negatives=parameters.negative_sample_rate,
        seed=seed,
    )


NEG_TSNE = MapMethod(
    name="neg_tsne",
    place=_place,
    parameters=NegTsneParameters,
    num_neighbors=lambda parameters: math.ceil(3 * parameters.perplexity),
    summary="t-SNE's neighbourhoods by negative sampling: seconds instead of a minute, clusters more open than UMAP's.",
    plan=_plan,
)
