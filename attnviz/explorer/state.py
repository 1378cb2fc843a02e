"""The one home of what a session shows. Widgets are made from these parameters, and so is the address of the page.

Whatever comes from an address is untrusted: a run is chosen by its name among those the server was started with, and a
value that does not fit is left out, the rest applied.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

import param

from attnviz.errors import DatasetError
from attnviz.explorer.library import map_names
from attnviz.plots.theme import THEMES
from attnviz.store import RunDirectory
from attnviz.types import KINDS
from attnviz.views import PARTNER, colorings, has_point, in_rows

__all__ = ["State"]

LONGEST = 200  # characters of one value in an address


class State(param.Parameterized):  # type: ignore[misc]  # param publishes no usable types
    """What is seen. ``token`` is a row of ``tokens`` or None; ``kind`` says which of its two points was chosen."""

    run = param.Selector(label="Run")
    map = param.Selector(label="Map")
    color = param.Selector(label="Colour")
    search = param.String(default="", doc="Search tokens")
    whole = param.Boolean(default=False, label="Whole token")
    case = param.Boolean(default=False, label="Match case")
    kinds = param.Selector(default="both", objects={"Both": "both", "Queries": "query", "Keys": "key"})
    hide_special = param.Boolean(default=False, label="Hide special tokens")
    alike = param.Boolean(
        default=False,
        label="Turn tiles alike",
        doc="Turn and flip each head to lie like the one to its left, so that tiles can be compared. Distances stay.",
    )
    azimuth = param.Integer(default=30, bounds=(-180, 180), label="Turn")
    elevation = param.Integer(default=20, bounds=(-90, 90), label="Tilt")
    theme = param.Selector(default="light", objects=list(THEMES))
    view = param.Selector(default="all", objects={"All heads": "all", "One head": "head"})
    layer = param.Integer(default=0)
    head = param.Integer(default=0)
    token = param.Integer(default=None, allow_None=True)
    kind = param.Selector(default="query", objects=list(KINDS))
    problem = param.String(default="", doc="A sentence to show instead of a picture")

    ADDRESS = (
        *("run", "map", "color", "search", "whole", "case", "kinds", "hide_special", "alike"),
        *("azimuth", "elevation", "theme", "view", "layer", "head", "token", "kind"),
    )
    """What the address of the page carries, in the order in which it is applied: a map belongs to a run."""

    def __init__(self, runs: Mapping[str, RunDirectory]) -> None:
        self._runs = dict(runs)
        super().__init__()
        self.param.run.objects = list(runs)
        self.run = next(iter(runs))

    @property
    def directory(self) -> RunDirectory:
        """The chosen run."""
        return self._runs[self.run]

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
    def _follow_run(self) -> None:
        """Offer what the new run has; keep the names it shares with the old one, and drop the token."""
        run = self.directory
        maps, problem = self._readable_maps(run)
        with param.parameterized.batch_call_watchers(self):
            self.problem = problem
            self.token = None
            self._offer("map", maps)
            self._offer("color", {title: name for name, title in colorings(run).items()})
            if self.layer not in run.layers:
                self.layer = next(iter(run.layers))
            self.head = min(self.head, run.layers[self.layer].num_heads - 1)

    @param.depends("map", "color", "layer", "head", watch=True)  # type: ignore[untyped-decorator]
    def _forget_problem(self) -> None:
        """Try again: what could not be drawn before may be drawable now."""
        if self.map is not None:
            self.problem = ""

    @staticmethod
    def _readable_maps(run: RunDirectory) -> tuple[list[str], str]:
        try:
            return map_names(run), ""
        except DatasetError as error:
            return [], str(error)

    def select(self, token: int | None, kind: str = "query") -> None:
        """Choose a point, or none."""
        self.param.update(token=token, kind=kind)

    def open_head(self, layer: int, head: int) -> None:
        """Show one head; the chosen token stays."""
        self.param.update(layer=layer, head=head, view="head")

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
        defaults = {name: self.param[name].default for name in self.ADDRESS} | {"color": "kind"}
        kept = {name: v for name, v in plain.items() if name in always or v != defaults[name]}
        texts = {name: str(v).lower() if isinstance(v, bool) else v for name, v in kept.items() if v is not None}
        return f"?{urlencode(texts)}"

    def restore(self, address: str) -> list[str]:
        """Apply an address; return the names whose values did not fit and were left out."""
        query = parse_qs(address.removeprefix("?"), keep_blank_values=True)
        refused = []
        for name in self.ADDRESS:
            try:
                self._apply(name, query[name][0][:LONGEST]) if name in query else None
            except ValueError:
                refused.append(name)
        return refused

    def _apply(self, name: str, text: str) -> None:
        parameter = self.param[name]
        value: Any = text
        if isinstance(parameter, param.Boolean):
            value = {"true": True, "false": False}.get(text.lower(), text)
        elif isinstance(parameter, param.Integer):
            value = int(text)
        elif isinstance(parameter, param.Selector) and value not in parameter.get_range().values():
            raise ValueError(f"{name} {value} is no choice")  # an empty Selector would take anything
        self._require_place(name, value)
        setattr(self, name, value)

    def _require_place(self, name: str, value: Any) -> None:
        """Refuse a layer, head or token that the run does not have."""
        run = self.directory
        places = {
            "layer": run.layers,
            "head": range(run.layers[self.layer].num_heads),
            "token": range(run.num_tokens),
        }
        if name in places and value not in places[name]:
            raise ValueError(f"{name} {value} is not in run {run.name}")

    def _offer(self, name: str, choices: Any) -> None:
        names = list(choices.values()) if isinstance(choices, dict) else list(choices)
        self.param[name].objects = choices
        if getattr(self, name) not in names:
            setattr(self, name, names[0] if names else None)
