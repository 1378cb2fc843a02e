"""How faithful a map is to the vectors and to attention: numbers per head, shares per point, seeded, exact within the sample.

Receives a ``Joint``, its neighbours and the coordinates of its points. What the vectors say is found once per head
(``Evidence``, ``PointEvidence``), and every map of the head is held against it (``Judge``). ``METRICS`` is the table of scores.
"""

from attnviz.metrics.evidence import Evidence, Placement
from attnviz.metrics.judge import Judge
from attnviz.metrics.points import PointEvidence, pointwise
from attnviz.metrics.space import NEIGHBORS
from attnviz.metrics.table import HEADLINES, METRICS, Metric, Score, joint_spearman

__all__ = [
    "HEADLINES",
    "METRICS",
    "NEIGHBORS",
    "Evidence",
    "Judge",
    "Metric",
    "Placement",
    "PointEvidence",
    "Score",
    "joint_spearman",
    "pointwise",
]
