"""Views: from a run to the small frames and arrays that a picture needs.

Nothing here draws and nothing here remembers: a function receives a run (or what another view gave) and returns numpy
arrays or a small frame. Text is returned as it came from the user's data; whoever writes HTML escapes it.
"""

from attnviz.views.coloring import KEPT, Category, Coloring, color_points, colorings
from attnviz.views.describe import (
    describe_absence,
    describe_token,
    excerpt,
    layer_name,
    patch_name,
    score_phrases,
    show_text,
)
from attnviz.views.search import match_tokens
from attnviz.views.sequence import (
    PARTNER,
    Exchange,
    has_point,
    links,
    patch_grids,
    patch_weights,
    present_points,
    read_exchange,
    strongest_lines,
)
from attnviz.views.wall import Tile, Wall, in_rows, prepare_wall, turn

__all__ = [
    "KEPT",
    "PARTNER",
    "Category",
    "Coloring",
    "Exchange",
    "Tile",
    "Wall",
    "color_points",
    "colorings",
    "describe_absence",
    "describe_token",
    "excerpt",
    "has_point",
    "in_rows",
    "layer_name",
    "links",
    "match_tokens",
    "patch_grids",
    "patch_name",
    "patch_weights",
    "prepare_wall",
    "present_points",
    "read_exchange",
    "score_phrases",
    "show_text",
    "strongest_lines",
    "turn",
]
