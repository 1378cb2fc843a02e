"""UMAP: neighbours stay neighbours. By our own engine, or by umap-learn.

Receives the joint points and their exact neighbours, gives UMAP's layout of their fuzzy graph, from a PCA start whose aspect
ratio is kept. Our engine takes 0.4 s for 20,000 points × 32 dims where umap-learn takes 4 to 8, and its maps are at least as
trustworthy; what was tried stands in ``maps/kernel.py``.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from attnviz.errors import MapError, require
from attnviz.maps.method import MapMethod, OneOf, Within, parameter
from attnviz.maps.pca import initial
from attnviz.maps.plan import Layout, laid_out
from attnviz.maps.umap_learn import umap_learn
from attnviz.types import FloatArray, Joint, Neighbors

__all__ = ["UMAP", "UmapParameters", "curve_of"]

START = 20.0  # standard deviation of the start along its widest axis
_FEW = 10_000  # up to so many points there is time for more rounds


@dataclass(frozen=True, slots=True)
class UmapParameters:
    """What UMAP takes (McInnes, Healy and Melville, *UMAP*, 2018).

    Parameters
    ----------
    n_neighbors
        How many points, itself included, a point is held to. Larger shows the coarse shape, smaller the fine grain.
    min_dist
        How close points may lie. Smaller packs clusters; larger spreads them so that single points can be told apart.
    spread
        How far clusters lie apart, in the same unit; at least ``min_dist``.
    n_epochs
        Rounds of optimisation; ``"auto"``: 200 up to 10,000 points and 75 above, or umap-learn's own choice.
    negative_sample_rate
        Points that push for each one that pulls. Larger separates clusters more, and takes longer; ``"auto"``: 8, or
        umap-learn's 5.
    curve
        How a pull fades with distance: ``"umap"`` follows ``min_dist`` and ``spread``; ``"cauchy"`` is t-SNE's, close to the
        former at UMAP's own ``min_dist`` and ``spread``, and three times as fast; ``"auto"``: ``"cauchy"`` there,
        ``"umap"`` elsewhere and for umap-learn.
    engine
        ``"attnviz"``, or ``"umap-learn"`` for the reference.
    """

    n_neighbors: int = parameter(15, Within(2, 500))
    min_dist: float = parameter(0.1, Within(0, 1, float))
    spread: float = parameter(1.0, Within(0.1, 10, float))
    n_epochs: int | None = parameter(None, Within(11, 10_000, automatic=True))
    negative_sample_rate: int | None = parameter(None, Within(1, 100, automatic=True))
    curve: str = parameter("auto", OneOf(("auto", "umap", "cauchy")))
    engine: str = parameter("attnviz", OneOf(("attnviz", "umap-learn")))

    def __post_init__(self) -> None:
        """Refuse what cannot go together."""
        if self.spread < self.min_dist:
            raise MapError(f"spread = {self.spread:g} is less than min_dist = {self.min_dist:g}; make spread larger.")
        plain = (self.min_dist, self.spread) == (0.1, 1.0)
        if self.curve == "cauchy" and (self.engine == "umap-learn" or not plain):
            raise MapError(
                'curve = "cauchy" has no min_dist and no spread, and umap-learn does not know it. Leave curve out, or those.'
            )


def _place(joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: UmapParameters) -> FloatArray:
    if plan := _plan(joint, neighbors, dims=dims, seed=seed, parameters=parameters):
        return laid_out(plan)
    return umap_learn(
        joint.points,
        neighbors,
        dims=dims,
        seed=seed,
        n_epochs=parameters.n_epochs,
        negative_sample_rate=parameters.negative_sample_rate or 5,
        min_dist=parameters.min_dist,
        spread=parameters.spread,
    )


def _plan(joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: UmapParameters) -> Layout | None:
    if parameters.engine == "umap-learn":
        return None
    from attnviz.maps.graph import fuzzy
    from attnviz.maps.kernel import Curve

    return Layout(
        initial(joint.points, dims, spread=START, seed=seed),
        fuzzy(neighbors),
        Curve(*curve_of(parameters)),
        epochs=parameters.n_epochs or (200 if len(neighbors.indices) <= _FEW else 75),
        negatives=parameters.negative_sample_rate or 8,
        seed=seed,
    )


def curve_of(parameters: UmapParameters) -> tuple[float, float]:
    """Return a and b of the curve 1 / (1 + a d^(2b)) that a map is laid out with."""
    plain = parameters.engine == "attnviz" and (parameters.min_dist, parameters.spread) == (0.1, 1.0)
    if parameters.curve == "cauchy" or (parameters.curve == "auto" and plain):
        return 1.0, 1.0
    return fit(parameters.min_dist, parameters.spread)


@lru_cache
def fit(min_dist: float, spread: float) -> tuple[float, float]:
    """Return a and b for which 1 / (1 + a d^(2b)) is nearest to 1 up to ``min_dist`` and exp((min_dist - d) / spread) beyond."""
    distances = np.linspace(0, 3 * spread, 300)
    wanted = np.where(distances < min_dist, 1.0, np.exp((min_dist - distances) / spread))
    (a, b), _ = require("scipy.optimize", "maps").curve_fit(
        lambda d, a, b: 1 / (1 + a * d ** (2 * b)), distances, wanted
    )
    return float(a), float(b)


UMAP = MapMethod(
    name="umap",
    place=_place,
    parameters=UmapParameters,
    num_neighbors=lambda parameters: parameters.n_neighbors - 1,
    summary="Neighbours stay together, clusters stand apart; distances between clusters mean little.",
    plan=_plan,
    locks=lambda parameters: parameters.engine == "umap-learn",
)
