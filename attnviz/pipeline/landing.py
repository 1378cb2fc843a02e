"""New tokens on the maps of a run: from a head's stored vectors and coordinates to what places more beside them.

Receives a run and the name of a head's map, gives a ``Landing``. Vectors are read and brought into one space as when the map was
made, so that a token of the run lands at its own place. Nothing of the run is changed.
"""

import numpy as np

from attnviz.maps import Landing, head_seed, prepare_landing
from attnviz.normalize import Normalize, joint
from attnviz.pipeline.placing import head_vectors
from attnviz.store import RunDirectory

__all__ = ["landing"]


def landing(run: RunDirectory, name: str, layer: int, head: int) -> Landing:
    """Return what places new tokens on a head's map.

    Raises
    ------
    DatasetError
        If the run has no such map, layer or head.
    """
    run.head(layer, head)  # refuses what there is not
    placed, made = run.coordinates(name, layer, head), run.maps[name]
    points, (order, _) = run.points(layer), run.sequences_of(layer)
    placed = placed[np.concatenate([points.query, points.key + run.num_tokens])]
    if order is not None:
        placed = placed[np.concatenate([order, order + len(order)])]
    space = joint(*head_vectors(run, layer, head), options=Normalize(**run.manifest.normalize))
    return prepare_landing(made.spec, space, placed, seed=head_seed(made.seed, layer, head))
