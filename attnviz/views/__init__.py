"""Views: from a run to the small frames and arrays that a picture needs.

Nothing here draws and nothing here remembers: a function receives a run (or what another view gave) and returns numpy
arrays or a small frame. Text is returned as it came from the user's data; whoever writes HTML escapes it.
"""

from attnviz.views.aggregate import POSITIONS, PositionMean, mean_by_position
from attnviz.views.changes import head_changes, what_differs
from attnviz.views.classes import Prediction, class_probabilities, prediction_phrase, read_prediction
from attnviz.views.coloring import KEPT, Category, Coloring, as_classes, color_points, colorings
from attnviz.views.describe import (
    describe_absence,
    describe_token,
    excerpt,
    layer_name,
    patch_name,
    score_phrases,
    show_text,
    show_token,
    token_names,
)
from attnviz.views.heads_of_sequence import (
    PAIRS,
    Changes,
    Column,
    HeadsOfSequence,
    PairNumbers,
    has_pair,
    has_words,
    join_heads,
    pair_numbers,
    read_heads,
)
from attnviz.views.masks import find_first, find_punctuation
from attnviz.views.nearest import NEAR, nearest_partners, partner_products
from attnviz.views.order import CHANGED, Arrangement, arrange, head_numbers, include, order_labels, read_number
from attnviz.views.search import VOCABULARIES, Vocabulary, count_sequences, match_tokens, read_vocabulary
from attnviz.views.selection import (
    Trait,
    chosen_links,
    count_kinds,
    inside_box,
    inside_outline,
    read_traits,
    selection_table,
)
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
from attnviz.views.sequences import first_token, sequence_table
from attnviz.views.wall import Tile, Wall, in_rows, look_closer, prepare_wall, turn

__all__ = [
    "CHANGED",
    "KEPT",
    "NEAR",
    "PAIRS",
    "PARTNER",
    "POSITIONS",
    "VOCABULARIES",
    "Arrangement",
    "Category",
    "Changes",
    "Coloring",
    "Column",
    "Exchange",
    "HeadsOfSequence",
    "PairNumbers",
    "PositionMean",
    "Prediction",
    "Tile",
    "Trait",
    "Vocabulary",
    "Wall",
    "arrange",
    "as_classes",
    "chosen_links",
    "class_probabilities",
    "color_points",
    "colorings",
    "count_kinds",
    "count_sequences",
    "describe_absence",
    "describe_token",
    "excerpt",
    "find_first",
    "find_punctuation",
    "first_token",
    "has_pair",
    "has_point",
    "has_words",
    "head_changes",
    "head_numbers",
    "in_rows",
    "include",
    "inside_box",
    "inside_outline",
    "join_heads",
    "layer_name",
    "links",
    "look_closer",
    "match_tokens",
    "mean_by_position",
    "nearest_partners",
    "order_labels",
    "pair_numbers",
    "partner_products",
    "patch_grids",
    "patch_name",
    "patch_weights",
    "prediction_phrase",
    "prepare_wall",
    "present_points",
    "read_exchange",
    "read_heads",
    "read_number",
    "read_prediction",
    "read_traits",
    "read_vocabulary",
    "score_phrases",
    "selection_table",
    "sequence_table",
    "show_text",
    "show_token",
    "strongest_lines",
    "token_names",
    "turn",
    "what_differs",
]
