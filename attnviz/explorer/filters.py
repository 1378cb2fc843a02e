"""What a session leaves out, finds and puts in order: the part of ``State`` that is about many points or heads at once."""

import param

from attnviz.explorer.guard import Guard

__all__ = ["ARRANGES", "SCENE", "Filters"]

SCENE = (
    *("color", "as_classes", "kinds", "search", "how", "where", "case"),
    *("hide_special", "hide_punctuation", "hide_first", "hidden"),
)
"""What decides which points are shown, and in which colours: the parameters that ``make_scene`` reads."""

ARRANGES = ("order", "ascending", "least", "most", "only_layers", "only_heads")


class Filters(param.Parameterized):  # type: ignore[misc]  # param publishes no usable types
    """Search, masks, the legend's switches, the order of heads, and the window that all tiles share."""

    how = param.Selector(
        default="contains",
        label="Match",
        objects={"contains": "contains", "exactly": "exact", "begins with": "prefix", "pattern": "regex"},
        doc="A pattern is a regular expression of RE2, such as ^un.*ed$. A blank before or behind a token need not be typed.",
    )
    where = param.Selector(
        default="tokens",
        label="Search in",
        objects={"tokens": "tokens", "words": "words", "sequences": "sequences", "labels": "labels"},
        doc="In tokens; in words, each found in all its tokens; in the text of their sequence; or in the columns you gave for it.",
    )
    hide_punctuation = param.Boolean(
        default=False, label="Hide punctuation", doc="Leave out tokens of punctuation, on the maps and in sentences."
    )
    hide_first = param.Boolean(
        default=False,
        label="Hide first position",
        doc="Leave out the first token of each sequence, on which many heads put what they have no use for.",
    )
    as_classes = param.Boolean(
        default=False,
        label="Numbers are classes",
        doc="Take the whole numbers of this column as names of classes, each with a colour of its own, and not as a scale.",
    )
    hidden = param.String(
        default="", regex=r"^(\d{1,3}(,\d{1,3})*)?$", doc="Numbers of the legend's entries that are left out"
    )
    order = param.Selector(
        default="",
        objects={"Layer and head": ""},
        label="Order of heads",
        doc="Lay the heads out by a number, row by row. Those of the shown map say how faithful it is to each head.",
    )
    ascending = param.Boolean(default=False, label="Lowest first", doc="Begin with the lowest number, not the highest.")
    least = param.Number(default=None, allow_None=True, doc="Heads below it are left out")
    most = param.Number(default=None, allow_None=True, doc="Heads above it are left out")
    only_layers = param.String(
        default="", label="Layers", doc="Numbers and ranges, as 0-3,8: only these layers are shown. Empty: all."
    )
    only_heads = param.String(
        default="",
        label="Heads",
        doc="Numbers and ranges, as 0-3,8: only these heads of each layer are shown. Empty: all.",
    )
    find = param.String(
        default="", label="Find a sequence", doc="Keep the sequences that have this text in any of their columns."
    )
    local = param.Boolean(
        default=False,
        label="Same window in all heads",
        doc="Drag and scroll inside the tiles: every tile shows the same part of its head.",
    )
    near_x = param.Number(default=0.0, bounds=(-0.5, 0.5), doc="The middle of the window that all tiles share")
    near_y = param.Number(default=0.0, bounds=(-0.5, 0.5))
    near_zoom = param.Number(default=1.0, bounds=(1.0, 1000.0))

    FILTERS = (
        *("how", "where", "hide_punctuation", "hide_first", "as_classes", "hidden"),
        *ARRANGES,
        *("find", "local", "near_x", "near_y", "near_zoom"),
    )
    """What of it the address of the page carries."""

    guard: Guard
    place = "the page"

    def __init__(self) -> None:
        self.arrival: tuple[float, float, float, float] | None = None  # which part of a head to show when it is opened
        super().__init__()
        self.param.watch(self.guard(lambda *events: self.param.update(hidden="")), ["run", "color", "as_classes"])
        self.param.watch(self.guard(lambda *events: self.param.update(least=None, most=None)), ["run", "order"])

    @property
    def hidden_entries(self) -> frozenset[int]:
        """The numbers of the legend's entries whose points are left out."""
        return frozenset(int(number) for number in self.hidden.split(",") if number)

    def show_entry(self, number: int, shown: bool) -> None:
        """Take the points of an entry of the legend in, or leave them out."""
        hidden = self.hidden_entries - {number} if shown else self.hidden_entries | {number}
        self.hidden = ",".join(map(str, sorted(hidden)))
