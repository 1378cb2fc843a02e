"""The judge of one head's maps: every score, and how far to trust each point.

Receives a head's joint space and neighbours once, then coordinates; gives numbers that a run stores. ``attnviz.maps`` is handed
this class, because maps stand beside metrics and not above them.
"""

from attnviz.metrics.evidence import Evidence, Placement
from attnviz.metrics.points import PointEvidence, pointwise
from attnviz.metrics.table import METRICS, require_placed
from attnviz.types import FloatArray, Joint, Neighbors

__all__ = ["Judge"]


class Judge:
    """What a head's vectors say, ready to judge its maps.

    Parameters
    ----------
    joint, neighbors
        The head, and its exact neighbours: at least ``NEIGHBORS`` of each point.
    seed
        Of the samples.
    """

    def __init__(self, joint: Joint, neighbors: Neighbors, seed: int) -> None:
        self._evidence = Evidence(joint, seed=seed)
        self._points = PointEvidence(joint, neighbors, self._evidence.products)

    def __call__(self, placed: FloatArray) -> tuple[dict[str, float], FloatArray]:
        """Return the scores of a map by name, and ``pointwise`` of it, ``(points, 2)``.

        Raises
        ------
        MapError
            If the coordinates are not those of the head's points, or not finite.
        """
        require_placed(self._evidence.joint, placed)
        placement = Placement(self._evidence, placed)
        scores = {name: metric.score(self._evidence, placement) for name, metric in METRICS.items()}
        return scores, pointwise(self._points, placed)
