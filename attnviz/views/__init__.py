"""Views: from a run to the small frames and arrays that a picture needs.

Nothing here draws and nothing here remembers: a function receives a run (or what another view gave) and returns numpy
arrays or a small frame. Text is returned as it came from the user's data; whoever writes HTML escapes it.
"""

from attnviz.views.coloring import KEPT, Category, Coloring, color_points, colorings
from attnviz.views.describe import describe_token, excerpt, patch_name, score_phrases, show_text
from attnviz.views.search import match_tokens
from attnviz.views.sequence import links, patch_weights, strongest_lines
from attnviz.views.wall import Tile, Wall, prepare_wall, turn

__all__ = [
    "KEPT",
    "Category",
    "Coloring",
    "Tile",
    "Wall",
    "color_points",
    "colorings",
    "describe_token",
    "excerpt",
    "links",
    "match_tokens",
    "patch_name",
    "patch_weights",
    "prepare_wall",
    "score_phrases",
    "show_text",
    "strongest_lines",
    "turn",
]
