"""What the help says: the keys, what each view shows and how it is used, what each of its controls does, and the words.

A control's sentence is the doc of its parameter in ``State``, so that it is said once.
"""

from dataclasses import dataclass
from importlib.metadata import version

from attnviz.explorer.image_choices import ImageChoices
from attnviz.explorer.state import State

__all__ = ["ABOUT", "HINT", "SHORTCUTS", "VIEW_HELP", "WORDS", "Section", "ViewHelp", "help_sections"]

Section = tuple[str, list[tuple[str, str]]]
"""A title, and rows of a term and what is said of it; the term may be empty."""


@dataclass(frozen=True, slots=True)
class ViewHelp:
    """What is said of a view."""

    shows: str
    use: tuple[tuple[str, str], ...]
    controls: tuple[str, ...] = ()
    """Parameters of ``State`` that this view's own controls set; those of the side bar are said for all."""


ABOUT = f"attnviz {version('attnviz')} shows which queries and keys of a transformer's attention heads lie together."
HINT = (
    "Each small map is one attention head: blue points are queries, orange ones are keys.",
    "Near points go together; on the attention map, a query lies near the keys it attends to.",
    "Click a map to open its head, then click a point to see where it attends.",
)
SIDEBAR = ("run", "map", "alike", "color", "search", "where", "how", "case", "kinds")
MASKS = ("hide_special", "hide_punctuation", "hide_first")
SHORTCUTS = (
    ("← → ↑ ↓", "The neighbouring head, or layer; in All heads and Model, Enter opens it."),
    ("Esc", "Clear what is selected; once more: back to all heads."),
    ("/", "Go to the search field."),
    ("1 – 7", "The views, from left to right."),
    ("m  b  l", "In One head, a drag moves the map, draws a box or a lasso."),
    ("0  Home", "Reset the view."),
    ("t", "Light or dark."),
    ("?", "This help."),
)
WORDS = (
    (
        "query, key",
        "Two vectors of each token in each head. A query looks for keys; q·k, their product, says how well they fit.",
    ),
    ("attention", "Softmax turns a query's products with all keys into weights. They add up to 100 %."),
    (
        "map",
        "A picture of a head's vectors. Before it is made, keys are moved onto the queries, which changes no weight.",
    ),
    (
        "attention map",
        "Places a query near the keys with the largest q·k. UMAP, t-SNE and PCA place like vectors together.",
    ),
    ("predicted, given", "The class that the model's classification head finds most likely, and your own label."),
    ("trustworthiness", "How many neighbours on the map are neighbours in the head too: 1 is all of them."),
    ("attention recall", "Share of a query's ten largest q·k whose keys are among its fifty nearest on the map."),
    ("attention top1", "How often the most attended key of a sequence is the nearest of that sequence on the map."),
    ("map spearman", "How distance on the map goes with q·k: −1 is best, 0 is chance."),
)
OF_A_FIGURE = ("Touch", "Drag with one finger to move. Tap for what a click does.")
VIEW_HELP = {
    "all": ViewHelp(
        "Every head of the model as a small map, layers down and heads across.",
        (
            ("Rest on a point", "reads its token and lights that token in every head."),
            ("Click", "opens the head."),
            (
                "Drag, scroll",
                "moves and zooms all heads; with “Same window in all heads”, the part of each head that is seen.",
            ),
            OF_A_FIGURE,
        ),
        ("order", "ascending", "local", "only_layers", "only_heads"),
    ),
    "head": ViewHelp(
        "One head: its points, and the attention of the chosen token as lines. Circles are queries, diamonds are keys.",
        (
            (
                "Click a point",
                "chooses it: its sequence is marked, the lines lead to what it attends to. Numbers stand beside.",
            ),
            (
                "Drag, scroll",
                "moves and zooms; few points become marks with their words. Or a drag selects, by box or lasso.",
            ),
            OF_A_FIGURE,
        ),
        ("drag", "compare", "top_k", "threshold", "size_by_norm", "density"),
    ),
    "model": ViewHelp(
        "Every head's attention over one sequence: queries down, keys across, darker is more weight.",
        (
            ("Rest on a cell", "names the head, the query, the key and the weight."),
            ("Click", "opens the head."),
            ("Drag, scroll", "moves and zooms."),
            OF_A_FIGURE,
        ),
        ("only_layers", "only_heads"),
    ),
    "neuron": ViewHelp(
        "One query and one key, number by number: how each dimension adds to q·k, and how that becomes a weight.",
        (
            ("Click a query or key", "takes it for the pair."),
            ("Click a bar", "chooses its dimension; the button above colours the map by it."),
            ("Touch", "Tap for what a click does."),
        ),
        ("neuron_order",),
    ),
    "sentence": ViewHelp(
        "The heads of a layer over one sequence, or their mean over all: lines from queries to keys, or a matrix.",
        (
            ("Rest on a token or cell", "shows its lines alone, and q·k, logit and weight beside."),
            ("Click a token", "hides or selects it."),
            ("Click a square", "shows or hides its head; twice, or with Shift: that head alone."),
            ("Touch", "Tap for what a click does."),
        ),
        (
            *("sequence", "sentence_scope", "sentence_form", "sentence_join", "sentence_pairs", "sentence_click"),
            *("sentence_words", "sentence_values"),
        ),
    ),
    "image": ViewHelp(
        "Where the patches of an image look: the picture under each head's attention.",
        (
            ("Rest on a patch", "names it, and its weight."),
            ("Click a patch", "chooses it, as a query or as a key."),
            ("Touch", "Tap for what a click does."),
        ),
        tuple(ImageChoices.IMAGES),
    ),
    "sequences": ViewHelp(
        "All sequences of the run as a table. A narrow screen leaves out the last columns.",
        (
            ("Click a row", "opens the sequence. With the keyboard: Tab to a row, then Enter."),
            ("Click a title", "sorts by that column."),
        ),
        ("find",),
    ),
}


def help_sections(state: State) -> list[Section]:
    """Return the help for what is shown now, part by part."""
    named = {name: title for title, name in state.param.view.objects.items()}
    view = VIEW_HELP[state.view]
    return [
        (named[state.view], [("", view.shows), *view.use]),
        ("Controls of this view", _controls(state, view.controls)),
        ("Keys", list(SHORTCUTS)),
        ("Side bar", _controls(state, (*SIDEBAR, *MASKS))),
        ("Words and scores", list(WORDS)),
        ("About", [("", ABOUT)]),
    ]


def _controls(state: State, names: tuple[str, ...]) -> list[tuple[str, str]]:
    shared = [("Reset view", "Show everything again."), ("Save", "Keep what is shown as a picture, a page or a link.")]
    said = [(state.param[name].label, state.param[name].doc) for name in names]
    return said if names[:1] == SIDEBAR[:1] else [*said, *shared]
