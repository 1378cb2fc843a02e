"""The one home of what a session shows. Widgets are made from these parameters, and so is the address of the page.

Whatever comes from an address is untrusted: a run is chosen by its name among those the server was started with, and a
value that does not fit is left out, the rest applied.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

import numpy as np
import pandas as pd
import param
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.explorer.acts import Acts
from attnviz.explorer.filters import ARRANGES, Filters
from attnviz.explorer.guard import Guard, guarded
from attnviz.explorer.image_choices import ImageChoices
from attnviz.explorer.library import map_names, number, numbers
from attnviz.explorer.run_changes import RunChanges
from attnviz.explorer.url import fits, read_value
from attnviz.plots.theme import THEMES
from attnviz.store import RunDirectory
from attnviz.types import KINDS
from attnviz.views import PAIRS, PARTNER, colorings, has_point, in_rows, order_labels
from attnviz.views.dimension import dimension_title
from attnviz.views.image_flows import has_images

__all__ = ["State"]

NOTHING: NDArray[np.int64] = np.empty(0, np.int64)


class State(Filters, ImageChoices):
    """What is seen. ``token`` is a row of ``tokens`` or None; ``kind`` says which of its two points was chosen."""

    run = param.Selector(label="Run", doc="Which captured model and data are shown.")
    map = param.Selector(
        label="Map",
        doc="How points are placed. On the attention map near means a large q·k, on others that vectors are alike.",
    )
    color = param.Selector(
        label="Colour", doc="What the colour of a point stands for; the legend below can hide points."
    )
    search = param.String(default="", doc="Light the points whose token, word, sequence or label has this text.")
    case = param.Boolean(default=False, label="Match case", doc="Tell capital letters from small ones.")
    kinds = param.Selector(
        default="both",
        objects={"Both": "both", "Queries": "query", "Keys": "key"},
        label="Points shown",
        doc="Show queries, keys, or both.",
    )
    hide_special = param.Boolean(
        default=False, label="Hide special tokens", doc="Leave out tokens such as [CLS], on the maps and in sentences."
    )
    alike = param.Boolean(
        default=False,
        label="Turn tiles alike",
        doc="Turn and flip each head to lie like the one to its left, so that tiles can be compared. Distances stay.",
    )
    azimuth = param.Integer(default=30, bounds=(-180, 180), label="Turn", doc="Turn a map of three dimensions.")
    elevation = param.Integer(default=20, bounds=(-90, 90), label="Tilt", doc="Tilt a map of three dimensions.")
    theme = param.Selector(default="light", objects=list(THEMES))
    view = param.Selector(
        default="all",
        objects={
            "All heads": "all",
            "One head": "head",
            "Model": "model",
            "Neuron": "neuron",
            "Sentence": "sentence",
            "Image": "image",
            "Sequences": "sequences",
        },
        label="View",
        doc="All heads at once, one of them, or another way to look at the same run.",
    )
    layer = param.Integer(default=0)
    head = param.Integer(default=0)
    token = param.Integer(default=None, allow_None=True)
    kind = param.Selector(
        default="query",
        objects={kind.capitalize(): kind for kind in KINDS},
        label="Direction",
        doc="Query: what a token gives to the keys. Key: what it gets from the queries.",
    )
    compare = param.Selector(
        default="",
        objects={"no other map": ""},
        label="Compare with",
        doc="Show a second map of the same head beside the first. Both light the same point.",
    )
    top_k = param.Integer(
        default=20, bounds=(1, 50), label="Lines", doc="The most attention lines that one point gets, strongest first."
    )
    threshold = param.Number(
        default=0.05, bounds=(0.0, 1.0), label="Least weight", doc="Attention below this weight gets no line."
    )
    size_by_norm = param.Boolean(
        default=False,
        label="Size by norm",
        doc="The longer the vector, the larger its mark. Seen where fewer than 10,000 points are in view; zoom in for it.",
    )
    density = param.Boolean(
        default=False, label="Density", doc="Shade how densely the points lie, instead of each point's colour."
    )
    drag = param.Selector(
        default="move",
        objects={"Move": "move", "Box": "box", "Lasso": "lasso"},
        label="A drag",
        doc="Move the map, or select the points inside a box or a lasso. Shift adds to the selection, Escape clears it.",
    )
    partner = param.Integer(default=None, allow_None=True, doc="The token whose key is held against the chosen query")
    neuron_order = param.Selector(
        default="contribution",
        objects={"By contribution": "contribution", "By dimension": "dimension"},
        label="Order",
        doc="By contribution: what adds most to q·k stands left, what takes most away stands right. "
        "By dimension: as the model counts them. Click a bar to choose its dimension.",
    )
    neuron_dimension = param.Integer(default=None, allow_None=True, bounds=(0, None), label="Dimension")
    hover = param.Integer(default=None, allow_None=True, doc="The point under the pointer, for maps side by side")
    selection = param.Integer(default=0, doc="Counts the changes of ``selected``")
    sequence = param.Integer(
        default=0, label="Sequence", doc="Which sequence is read as a whole; the chosen token is always of it."
    )
    sentence_heads = param.String(default="", label="Heads", doc="Numbers and ranges, as 0-3,8; none given: all")
    sentence_scope = param.Selector(
        default="one",
        objects={"This sequence": "one", "Mean over all sequences": "mean"},
        label="Attention of",
        doc="The chosen sequence, or the mean weight from position to position over all sequences that have both positions, "
        "for the first 64 positions.",
    )
    sentence_form = param.Selector(
        default="lines",
        objects={"Lines": "lines", "Matrix": "matrix"},
        label="Shown as",
        doc="Lines between the queries on the left and the keys on the right, or a matrix with a row for each query.",
    )
    sentence_join = param.Selector(
        default="each",
        objects={"Each head": "each", "Sum": "sum", "Mean": "mean"},
        label="Heads as",
        doc="Show each head by itself, or the sum or the mean of their weights as one.",
    )
    sentence_pairs = param.Selector(
        default="all",
        objects=dict(zip(PAIRS.values(), PAIRS, strict=True)),
        label="Texts",
        doc="Of a pair of texts A and B, keep the queries of one and the keys of the other. Rows are not scaled up again.",
    )
    sentence_words = param.Boolean(
        default=False,
        label="Whole words",
        doc="Join the pieces of a word. It is given what its pieces are given together, and gives what they give on average.",
    )
    sentence_values = param.Boolean(
        default=False,
        label="Weigh by value norm",
        doc="Multiply each weight by the length of the key's value vector. Each row keeps its sum, so only its shares change.",
    )
    sentence_hidden = param.String(default="", doc="Hidden tokens: numbers and ranges, as 0-3,8")
    sentence_click = param.Selector(
        default="hide",
        objects={"Hides": "hide", "Selects": "select"},
        label="A click on a token",
        doc="Hide a token, as if it were not there, or bring it back; or select tokens, whose weights are added up.",
    )
    problem = param.String(default="", doc="A sentence to show instead of a picture")

    ADDRESS = (
        *("run", "map", "color", "search", "case", "kinds", "hide_special", "alike"),
        *("azimuth", "elevation", "theme", "view", "layer", "head", "token", "kind"),
        *("compare", "top_k", "threshold", "size_by_norm", "density"),
        *("partner", "neuron_order", "neuron_dimension"),
        *("sequence", "sentence_heads", "sentence_scope", "sentence_form", "sentence_join", "sentence_pairs"),
        *("sentence_words", "sentence_values", "sentence_hidden"),
        *Filters.FILTERS,
        *ImageChoices.IMAGES,
    )
    """What the address of the page carries, in the order in which it is applied: a map belongs to a run."""

    def __init__(self, runs: Mapping[str, RunDirectory]) -> None:
        self._runs = dict(runs)
        self._opened = self._trouble = ""
        self.selected = NOTHING
        self.acts = Acts()  # what follows it
        self.guard = Guard(self._tell_problem, self._about)
        self.guard.raises = True
        super().__init__()
        self.param.run.objects = list(runs)
        self._open_first()
        every = [name for name in self.param if name not in ("name", "problem", "hover")]
        self.param.watch(lambda *events: self.guard.changed(), every)
        for follows in (self._follow_run, self._follow_token, self._follow_sequence):
            self.guard.repeat(follows, follows)
        self.guard.raises = False

    @property
    def directory(self) -> RunDirectory:
        """The chosen run; while it cannot be read, and ``problem`` says why, the one before."""
        return self._runs[self._opened]

    def head_number(self) -> "pd.Series":
        """Return the number that heads are ordered by."""
        return number(self.directory, self.order, self.map, self._runs)

    @property
    def kind_here(self) -> str | None:
        """Which point of the chosen token is seen: that of ``kind`` if the layer has it, or the other, or none.

        A token of an encoder has a key in cross attention, and no query. What was chosen stays as it is, so that a way through
        the layers and back ends where it began.
        """
        if self.token is None:
            return None
        kinds = (self.kind, PARTNER[self.kind])
        return next((kind for kind in kinds if has_point(self.directory, self.layer, self.token, kind)), None)

    @param.depends("run", watch=True)  # type: ignore[untyped-decorator]
    @guarded
    def _follow_run(self) -> None:
        """Offer what the new run has; keep the names it shares with the old one, and drop the token."""
        run = self._runs[self.run]
        try:
            choices, problem = self._choices(run)
        except Exception as error:
            if self._opened:
                expected = isinstance(error, DatasetError)
                self.problem = self._trouble = str(error) if expected else f"Run {run.name} cannot be shown."
            raise
        self._opened, self._trouble = self.run, problem
        self.changes = RunChanges(run)
        with param.parameterized.batch_call_watchers(self):
            self.problem = problem
            self.token = self.hover = self.partner = None
            self.sequence, self.sentence_hidden = 0, ""
            self.choose(NOTHING)
            for name, offered in choices.items():
                self._offer(name, offered)
            if self.layer not in run.layers:
                self.layer = next(iter(run.layers))
            self.head = min(self.head, run.layers[self.layer].num_heads - 1)

    def _choices(self, run: RunDirectory) -> tuple[dict[str, Any], str]:
        """Return what a run offers for each parameter, and what is wrong with its maps.

        Raises
        ------
        DatasetError
            If what every view needs cannot be read.
        """
        problem, maps = "", list[str]()
        for table in (run.sequences, run.tokens, run.layers):
            if not len(table):
                raise DatasetError(f"Run {run.name} is empty. Give its `attnviz run` command again.")
        try:
            maps = map_names(run)
        except DatasetError as error:
            problem = str(error)
        views = type(self).param.view.objects
        self.numbers = {} if problem else numbers(run, self._runs)
        return {
            "map": maps,
            "view": {title: name for title, name in views.items() if name != "image" or has_images(run)},
            "compare": {"no other map": ""} | {name: name for name in maps},
            "order": {"Layer and head": ""} | {label: name for name, label in order_labels(self.numbers).items()},
            "color": {title: name for name, title in colorings(run).items()},
        }, problem

    def _open_first(self) -> None:
        """Choose the first run that can be read."""
        *before, last = self._runs
        for name in before:
            try:
                self.run = name
                return
            except DatasetError:  # it is told when it is chosen
                continue
        self.run = last

    @param.depends("token", watch=True)  # type: ignore[untyped-decorator]
    @guarded
    def _follow_token(self) -> None:
        """Keep the sequence in step with the chosen token."""
        if self.token is not None:
            self.sequence = int(self.directory.tokens["sequence_id"].iloc[self.token])

    @param.depends("sequence", watch=True)  # type: ignore[untyped-decorator]
    @guarded
    def _follow_sequence(self) -> None:
        """Drop a token of another sequence."""
        if self.token is not None and self.sequence != int(self.directory.tokens["sequence_id"].iloc[self.token]):
            self.token = None

    @param.depends("map", "color", "layer", "head", "sequence", *ARRANGES, watch=True)  # type: ignore[untyped-decorator]
    def _forget_problem(self) -> None:
        """Try again: what could not be drawn before may be drawable now; what is wrong with the run itself stays."""
        self.problem = self._trouble

    def _tell_problem(self, sentence: str) -> None:
        self.problem = sentence

    def _about(self) -> dict[str, str]:
        """Return what a report of a fault says: what was shown, never where it lies."""
        titles = {name: title for title, name in self.param.view.objects.items()}
        return {"view": titles.get(self.view, self.view), "run": str(self.run), "shown": self.address()}

    def select(self, token: int | None, kind: str = "query") -> None:
        """Choose a point, or none."""
        self.param.update(token=token, kind=kind)

    def choose(self, rows: NDArray[np.int64], *, add: bool = False) -> None:
        """Select points, instead of what is selected or besides it; a point is ``token``, or ``token + num_tokens`` for a key."""
        chosen = np.union1d(self.selected, rows) if add else np.unique(rows)
        if len(chosen) or len(self.selected):
            self.selected = chosen
            self.selection += 1

    def clear(self) -> None:
        """Select nothing."""
        self.select(None)
        self.choose(NOTHING)

    def open_head(self, layer: int, head: int) -> None:
        """Show one head; the chosen token stays."""
        self.param.update(layer=layer, head=head, view="head")

    def offer_color(self, name: str) -> None:
        """Let points be coloured by ``dimension:<d>``, which no run offers by itself; any other name changes nothing."""
        if (title := dimension_title(self.directory, name)) is not None:
            self._offer("color", {**self.param.color.objects, title: name})

    def step(self, layers: int, heads: int) -> None:
        """Go to a neighbouring head of the wall, staying at its edge."""
        run = self.directory
        known = [info.layer for info in in_rows(run)]
        row = min(max(known.index(self.layer) + layers, 0), len(known) - 1)
        layer = known[row]
        head = min(max(self.head + heads, 0), run.layers[layer].num_heads - 1)
        self.param.update(layer=layer, head=head)

    def address(self) -> str:
        """Return what the address of the page should carry: run and map, and what differs from the default."""
        plain = {name: getattr(self, name) for name in self.ADDRESS}
        always = {"run", "map"} | ({"layer", "head"} if self.view == "head" else set())
        defaults = self._defaults()
        kept = {name: v for name, v in plain.items() if name in always or v != defaults[name]}
        texts = {name: str(v).lower() if isinstance(v, bool) else str(v) for name, v in kept.items() if v is not None}
        return f"?{urlencode({name: text for name, text in texts.items() if fits(name, text)})}"

    def restore(self, address: str) -> list[str]:
        """Apply an address; return the names whose values did not fit and were left out."""
        query = parse_qs(address.removeprefix("?"), keep_blank_values=True)
        refused = []
        for name in self.ADDRESS:
            try:
                self._apply(name, query[name][0]) if name in query else None
            except ValueError:
                refused.append(name)
        return refused

    def return_to(self, address: str) -> None:
        """Apply an address of before; what it does not name is as it was at first."""
        named = {"run", "map", *parse_qs(address.removeprefix("?"), keep_blank_values=True)}
        self.param.update({name: value for name, value in self._defaults().items() if name not in named})
        self.restore(address)

    def _defaults(self) -> dict[str, Any]:
        return {name: self.param[name].default for name in self.ADDRESS} | {"color": "kind"}

    def _apply(self, name: str, text: str) -> None:
        if name == "color" and fits(name, text):
            self.offer_color(text)
        value = read_value(self.param[name], name, text)
        self._require_place(name, value)
        setattr(self, name, value)

    def _require_place(self, name: str, value: Any) -> None:
        """Refuse a layer, head or token that the run does not have."""
        run = self.directory
        places = {
            "layer": run.layers,
            "head": range(run.layers[self.layer].num_heads),
            "token": range(run.num_tokens),
            "partner": range(run.num_tokens),
            "sequence": range(run.num_sequences),
        }
        if name in places and value not in places[name]:
            raise ValueError(f"{name} {value} is not in run {run.name}")

    def _offer(self, name: str, choices: Any) -> None:
        names = list(choices.values()) if isinstance(choices, dict) else list(choices)
        self.param[name].objects = choices
        if getattr(self, name) not in names:
            setattr(self, name, names[0] if names else None)
