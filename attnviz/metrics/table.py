"""The scores of a map: one function and one line of ``METRICS`` each.

Receives ``Evidence`` and ``Placement``, gives a number. Samples are so large that the standard error of a score is 0.01 or less
(0.007 at most, over eight seeds and four maps). Correlations are pooled over pairs: per query they go to −1 as keys shrink.
20,000 points × 32 dims in sequences of 40, one core, medians, 2026-11-21: all 0.21 s a map and 0.29 s once per head, 0.19 GB.
Each by itself, in ms: trustworthiness and knn_preservation 30 each, trust_query and trust_key 20 each, continuity_query and
continuity_key 22 each, attention_recall 9, attention_top1 22, attention_spearman 25, map_spearman 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attnviz.errors import MapError
from attnviz.metrics.evidence import Choice, Evidence, Placement, search_counts
from attnviz.metrics.space import Space, nearest
from attnviz.types import FloatArray, Joint

__all__ = ["HEADLINES", "METRICS", "Metric", "Score", "joint_spearman", "require_placed"]

Score = Callable[[Evidence, Placement], float]
"""Anything that judges a map by what its head's vectors say."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of ``METRICS``. Call it to score one map; ``Judge`` shares the evidence between many."""

    name: str
    score: Score
    low: float
    high: float
    better: Literal["higher", "lower"]
    description: str  # one sentence for a tooltip

    def __call__(self, joint: Joint, placed: FloatArray, *, seed: int = 0) -> float:
        """Return the score of ``placed``, ``(points, dims)``: the queries, then the keys.

        Raises
        ------
        MapError
            If the coordinates are not those of the joint space's points, or not finite.
        """
        require_placed(joint, placed)
        evidence = Evidence(joint, seed=seed)
        return self.score(evidence, Placement(evidence, placed))


def require_placed(joint: Joint, placed: FloatArray) -> None:
    """Raise ``MapError`` unless ``placed`` is finite, ``(points, dims)``, with as many points as the joint space."""
    points = len(joint.query) + len(joint.key)
    if placed.ndim != 2 or len(placed) != points or not np.isfinite(placed).all():
        raise MapError(
            f"A map was given coordinates {placed.shape}; they must be finite ({points}, dims), the queries, then the keys. "
            "Make the map again."
        )


def trustworthiness(evidence: Evidence, placement: Placement) -> float:
    """Return how far the nearest points on a map are near in the joint space: 0 to 1, higher is better, 0.5 is chance.

    Up to 500 sampled points are judged by their 15 nearest on the map (fewer than 31 points: by a half of the others);
    each neighbour's rank in the joint space is counted exactly, against all points. Fewer than 3 points give 1.

    Notes
    -----
    Venna and Kaski, *Neighborhood preservation in nonlinear projection methods* (2001). Equal distances share the best rank.
    """
    return _agreement(placement.all_points, evidence.all_points)


def trust_query(evidence: Evidence, placement: Placement) -> float:
    """Return the trustworthiness of the queries among queries: 0 to 1, higher is better, 0.5 is chance. Sampled alike."""
    return _agreement(placement.queries, evidence.queries)


def trust_key(evidence: Evidence, placement: Placement) -> float:
    """Return the trustworthiness of the keys among keys: 0 to 1, higher is better, 0.5 is chance. Sampled alike."""
    return _agreement(placement.keys, evidence.keys)


def continuity_query(evidence: Evidence, placement: Placement) -> float:
    """Return how far queries that are near in the joint space stay near on a map: 0 to 1, higher is better, 0.5 is chance.

    Up to 500 sampled queries are judged by their 15 nearest queries in the joint space (of fewer than 31: by a half of the
    others); each one's rank on the map is counted exactly, against all queries. Fewer than 3 give 1.

    Notes
    -----
    Venna and Kaski (2001). Equal distances share the best rank, so a map that puts everything on one spot is perfectly
    continuous: read it beside trustworthiness.
    """
    return _agreement(evidence.queries, placement.queries)


def continuity_key(evidence: Evidence, placement: Placement) -> float:
    """Return ``continuity_query`` for the keys among keys: 0 to 1, higher is better, 0.5 is chance."""
    return _agreement(evidence.keys, placement.keys)


def knn_preservation(evidence: Evidence, placement: Placement) -> float:
    """Return the share of the 15 nearest points on a map that are among the 15 nearest in the joint space: 0 to 1.

    Of up to 500 sampled points among all points; higher is better, chance is 15 / points. Points as near in the joint space as
    the fifteenth count as well as it. Fewer than 3 points give 1.
    """
    if (k := evidence.all_points.k) == 0:
        return 1.0
    return float((evidence.all_points.ranks(placement.all_points.near) <= k).mean())


def map_spearman(evidence: Evidence, placement: Placement) -> float:
    """Return Spearman's correlation of a pair's distance on the map with its q·k: −1 to 1, lower (negative) is better.

    Pooled over 50,000 random query–key pairs (all pairs where there are fewer). 0 where all distances or all q·k are equal.
    """
    return evidence.pairs.correlate(placement)


def attention_recall(evidence: Evidence, placement: Placement) -> float:
    """Return the share of a query's ten largest q·k keys that are among its fifty nearest keys on the map: 0 to 1.

    The mean over up to 1,000 sampled queries, among the keys of all sequences; higher is better, chance is 50 / keys. With 50
    keys or fewer, fifty would be all of them: then the nearest half is searched for the largest tenth (at least one each).
    Keys with the same q·k as the tenth count as well as it.
    """
    top, near_count = search_counts(evidence.num_keys)
    near = nearest(placement.key, placement.query[evidence.sampled_queries], near_count)
    found = evidence.products.reached(evidence.sampled_queries, near, evidence.least_products).sum(axis=1)
    return float(np.minimum(found, top).mean() / top)


def attention_top1(evidence: Evidence, placement: Placement) -> float:
    """Return the share of queries whose nearest key on the map is the one they attend to most: 0 to 1, higher is better.

    Among the keys of its own sequence that a query may see; chance is one over their number. Up to 2,500 sampled queries that
    see two keys or more; 1 if there is none. Keys with the same q·k count alike, and of coincident nearest keys the share.
    """
    choices = evidence.choices
    return float(np.mean([_chosen(choice, placement) for choice in choices])) if choices else 1.0


def attention_spearman(evidence: Evidence, placement: Placement) -> float:
    """Return Spearman's correlation of distance on the map with q·k within a sequence: −1 to 1, lower is better.

    Over the pairs of which the query may see the key, at most 200,000 of all; the mean over up to 400 sampled sequences with at
    least 3 pairs, 0 if there is none.
    """
    values = [pairs.correlate(placement) for pairs in evidence.sequence_pairs]
    return float(np.mean(values)) if values else 0.0


def joint_spearman(joint: Joint, *, seed: int = 0) -> float:
    """Return what ``map_spearman`` would be on a map that kept every distance of the joint space."""
    return METRICS["map_spearman"](joint, joint.points, seed=seed)


def _agreement(near: Space, ranks: Space) -> float:
    """Return 1 for each neighbour in ``near`` that is one in ``ranks`` too, less the further down it stands there."""
    k, (sampled, total) = near.k, near.shape
    if k == 0:
        return 1.0
    excess = int(np.maximum(ranks.ranks(near.near) - k, 0).sum())
    return 1.0 - 2.0 * excess / (sampled * k * (2 * total - 3 * k - 1))


def _chosen(choice: Choice, placement: Placement) -> float:
    distances = ((placement.key[choice.seen] - placement.query[choice.query]) ** 2).sum(axis=1)
    nearest_keys = distances == distances.min()
    return float(choice.best[nearest_keys].mean())


def _entry(score: Score, low: float, better: Literal["higher", "lower"], description: str) -> Metric:
    return Metric(score.__name__, score, low, 1, better, description)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _entry(trustworthiness, 0, "higher", "Near on the map means near in the joint space."),
        _entry(trust_query, 0, "higher", "Queries near each other on the map are near in the joint space."),
        _entry(trust_key, 0, "higher", "Keys near each other on the map are near in the joint space."),
        _entry(continuity_query, 0, "higher", "Queries near each other in the joint space are near on the map."),
        _entry(continuity_key, 0, "higher", "Keys near each other in the joint space are near on the map."),
        _entry(knn_preservation, 0, "higher", "Nearest fifteen on the map found among those of the joint space."),
        _entry(attention_recall, 0, "higher", "Top ten keys found among the fifty nearest."),
        _entry(attention_top1, 0, "higher", "The most attended key of the sequence is the nearest one of it."),
        _entry(attention_spearman, -1, "lower", "Correlation of distance with q·k within a sequence."),
        _entry(map_spearman, -1, "lower", "Correlation of distance with q·k; −1: near means attends."),
    )
}
"""Every metric that is stored for a map, by name."""

HEADLINES = ("trustworthiness", "attention_recall", "attention_top1", "map_spearman")
"""Those to show where there is room for few."""
