"""Place the queries and keys of a head on one 2-D or 3-D map.

Receives a ``Joint`` and its exact neighbours, which every map of a head shares; gives coordinates. ``MAPS`` is the table of
methods: a new one is a file with a ``MapMethod`` and a line in ``maps/table.py``. ``map_heads`` runs whole models.
"""

from attnviz.maps.align import align_heads, turned
from attnviz.maps.heads import SHARED, HeadMaps, HeadWork, head_seed, map_head, map_heads
from attnviz.maps.method import MapMethod, OneOf, Place, Within
from attnviz.maps.nearest import neighbors
from attnviz.maps.table import MAPS, num_neighbors, parse, place
from attnviz.maps.torch import choose_device, idle_gpu
from attnviz.maps.transform import Landing, prepare_landing

__all__ = [
    "MAPS",
    "SHARED",
    "HeadMaps",
    "HeadWork",
    "Landing",
    "MapMethod",
    "OneOf",
    "Place",
    "Within",
    "align_heads",
    "choose_device",
    "head_seed",
    "idle_gpu",
    "map_head",
    "map_heads",
    "neighbors",
    "num_neighbors",
    "parse",
    "place",
    "prepare_landing",
    "turned",
]
