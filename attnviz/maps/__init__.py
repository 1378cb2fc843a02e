"""Place the queries and keys of a head on one 2-D or 3-D map.

Receives a ``Joint`` and its exact neighbours, which every map of a head shares; gives coordinates. ``MAPS`` is the table of
methods: a new one is a file with a ``MapMethod`` and a line in ``maps/table.py``. ``map_heads`` runs whole models.
"""

from attnviz.maps.faiss import neighbors
from attnviz.maps.heads import HeadMaps, HeadWork, head_seed, map_head, map_heads
from attnviz.maps.method import MapMethod, Place, Within
from attnviz.maps.table import MAPS, num_neighbors, parse, place

__all__ = [
    "MAPS",
    "HeadMaps",
    "HeadWork",
    "MapMethod",
    "Place",
    "Within",
    "head_seed",
    "map_head",
    "map_heads",
    "neighbors",
    "num_neighbors",
    "parse",
    "place",
]
