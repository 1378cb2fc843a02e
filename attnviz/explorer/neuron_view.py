"""The view of one query and one key: their dimensions as bars, the way to the weight in numbers, other pairs to choose from."""

from html import escape

import numpy as np
import panel as pn
from bokeh.events import MouseLeave, Tap
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.explorer import markup
from attnviz.explorer.choices import Choices
from attnviz.explorer.controls import button, segments
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.model_view import sequence_of
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.view import View
from attnviz.explorer.wires import answer, listen
from attnviz.plots.figure import place_tip
from attnviz.plots.neuron import NeuronFigure, neuron_figure
from attnviz.plots.theme import THEMES
from attnviz.views import describe_absence, patch_name
from attnviz.views.dimension import DIMENSION
from attnviz.views.neuron import Pair, QueryView, choose_pair

__all__ = ["NeuronView", "steps"]

WATCHED = (
    *("run", "layer", "head", "token", "kind", "partner", "theme", "view", "sequence"),
    *("neuron_order", "neuron_dimension"),
)
KEYS = 12
AROUND = 100  # queries to choose from, at either side of the chosen one
RULES = """
:host(:where(.neuron)) { display: grid; }
:host(.neuron) { grid-template-columns: minmax(0, 1fr) 330px; gap: 10px; align-content: start;
  width: 100% !important; height: 100% !important; overflow: hidden auto !important; }
:host(.neuron-row) { flex-flow: row wrap !important; align-items: center; gap: 8px 12px; width: 100% !important;
  padding: 0 0 6px; --av-high: 28px; }
:host(.neuron-row) > * { width: auto !important; align-self: flex-end !important; }
:host(.neuron) > *, :host(.neuron-part) > * { flex: none !important; margin: 0 !important; min-width: 0 !important; }
:host(.neuron-part) { width: 100% !important; gap: 10px; }
:host(.card) h3 { margin-bottom: 6px; }
.steps { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: baseline; font-size: 13px;
  font-variant-numeric: tabular-nums; }
.steps b { font-weight: 600; }
.steps span { color: var(--av-muted); }
.query-and-key { font-size: 15px; font-weight: 600; margin: 0 0 6px; overflow-wrap: anywhere; }
.query-and-key .q { color: var(--av-query); } .query-and-key .k { color: color-mix(in srgb, var(--av-key) 62%, var(--av-ink)); }
@media (max-width: 760px) {
  :host(:where(.neuron)) { display: flex; }
  :host(.neuron) { flex-flow: column nowrap !important; }
  :host(.neuron-part) { height: auto !important; }
}
"""


class NeuronView(View):
    """One query and one key of a head."""

    framed = False  # its parts have frames of their own

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._seen: QueryView | None = None
        self._rows: dict[str, NDArray[np.int64]] = {}
        self._build()
        follow(state, WATCHED, act=self._redraw)
        attempt(state, act=self._redraw)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return figure, numbers and choices."""
        return self._box

    def _build(self) -> None:
        state = self.state
        self._pane = pn.pane.Bokeh(sizing_mode="stretch_width", margin=0, css_classes=["canvas-of-pair"])
        self._numbers = pn.pane.HTML("", css_classes=["card"], stylesheets=[*sheet(), RULES])
        self._color = button(
            "Colour the map",
            state.guard(self._color_map),
            "Open the head with its points coloured by the chosen dimension.",
        )
        controls = _part("neuron-row", segments(state, "neuron_order"), self._color)
        self._queries = Choices(title="Queries", choose=state.guard(lambda place: self._choose("query", place)))
        self._keys = Choices(title="Keys", bars=True, choose=state.guard(lambda place: self._choose("key", place)))
        self._key_title = pn.pane.HTML("", stylesheets=sheet(), margin=0)
        self._parts = [
            _part("card", controls, self._pane),
            _part(
                "neuron-part",
                _part("card", self._key_title, self._keys),
                _part(
                    "card",
                    pn.pane.HTML("<h3>Queries of this sequence</h3>", stylesheets=sheet(), margin=0),
                    self._queries,
                ),
            ),
        ]
        left = _part("neuron-part", self._numbers, self._parts[0])
        self._box = _part("neuron", left, self._parts[1])

    def _redraw(self) -> None:
        """Take the pair from the state and show it; where there is none, say why."""
        state = self.state
        if state.view != "neuron":
            return
        run, place = state.directory, (state.layer, state.head)
        self._seen, sentence = None, ""
        try:
            found = choose_pair(run, place, state.token, state.kind, state.partner, sequence=sequence_of(state))
        except DatasetError as error:
            if run.layers[state.layer].rebuilt:
                raise
            found, sentence = None, str(error)
        for part in self._parts:
            part.visible = found is not None
        if found is None:
            missing = describe_absence(run, state.layer, state.token) if state.token is not None else ""
            self._numbers.object = markup.note(sentence or missing or "This sequence has no query in this layer.")
            return
        self._pair: Pair = found[0].pair(found[1])
        self._seen, self._key = found
        self._show()

    def _show(self) -> None:
        assert self._seen is not None
        state, seen = self.state, self._seen
        self._figure: NeuronFigure = neuron_figure(
            self._pair, THEMES[state.theme], by=state.neuron_order, chosen=state.neuron_dimension
        )
        plot = self._figure.plot
        guard = state.guard
        answer(plot, Tap, guard(lambda event: self._tap(event.x)))
        answer(plot, MouseLeave, guard(lambda event: self._leave()))
        listen(plot, guard(self._point))
        self._pane.object = plot
        names = tuple(patch_name(state.directory, token) for token in (seen.token, self._key))
        self._numbers.object = steps(self._pair, (names[0], names[1]))
        chosen = self._dimension()
        self._color.text = f"Colour the map by dimension {chosen}"
        self._list_keys()
        self._list_queries()

    def _dimension(self) -> int:
        """Return the chosen dimension, or the one that adds most."""
        chosen = self.state.neuron_dimension
        known = chosen is not None and chosen < len(self._pair.query)
        return int(chosen) if known else int(self._pair.order("contribution")[0])

    def _list_keys(self) -> None:
        assert self._seen is not None
        seen, run = self._seen, self.state.directory
        places = seen.strongest(KEYS)
        own = np.flatnonzero(seen.points.key == self._key)
        places = places if own[0] in places else np.append(places[:-1], own)
        self._rows["key"] = seen.points.key[places].astype(np.int64)
        most = max(float(seen.weights[places].max()), 1e-12)
        self._keys.items = [
            (patch_name(run, token), f"{weight * 100:.2f} %", weight / most, token == self._key)
            for token, weight in zip(self._rows["key"].tolist(), seen.weights[places].tolist(), strict=True)
        ]
        shown = float(seen.weights[places].sum())
        rest = f", {shown * 100:.0f} % of its weight" if len(places) < len(seen.points.key) else ""
        self._key_title.object = f"<h3>Keys of this query{rest}</h3>"

    def _list_queries(self) -> None:
        assert self._seen is not None
        seen, run = self._seen, self.state.directory
        start = max(0, seen.place - AROUND)
        self._rows["query"] = seen.points.query[start : seen.place + AROUND + 1].astype(np.int64)
        positions = run.tokens["position"].to_numpy()[self._rows["query"]].tolist()
        self._queries.items = [
            (patch_name(run, token), f"position {position}", 0.0, token == seen.token)
            for token, position in zip(self._rows["query"].tolist(), positions, strict=True)
        ]

    def _choose(self, kind: str, place: int) -> None:
        """Take another key for this query, or another query for this key."""
        assert self._seen is not None
        token = int(self._rows[kind][place])
        query, key = (token, self._key) if kind == "query" else (self._seen.token, token)
        self.state.param.update(token=query, kind="query", partner=key)

    def _place(self, x: float) -> int | None:
        return int(x) if 0 <= x < len(self._figure.order) else None

    def _tap(self, x: float) -> None:
        place = self._place(x)
        if place is not None:
            self.state.neuron_dimension = int(self._figure.order[place])

    def _point(self, x: float, y: float) -> None:
        """Say the numbers of the dimension under the pointer."""
        place = self._place(x)
        if place is None:
            self._leave()
            return
        number, pair = int(self._figure.order[place]), self._pair
        total = float(np.cumsum(pair.product[self._figure.order], dtype=np.float64)[place])
        lines = [
            f"dimension {number}",
            f"q {pair.query[number]:.4f}, k {pair.key[number]:.4f}",
            f"q∘k {pair.product[number]:+.4f}",
            f"sum up to here {total:.4f}",
        ]
        ranges = self._figure.plot.x_range, self._figure.plot.y_range
        bounds = tuple(end for limits in ranges for end in (limits.start, limits.end))
        self._figure.tip.data = place_tip(lines, x, y, bounds=bounds)

    def _leave(self) -> None:
        self._figure.tip.data = {name: [] for name in self._figure.tip.data}

    def _color_map(self) -> None:
        if self._seen is not None:
            number = self._dimension()
            self.state.offer_color(f"{DIMENSION}{number}")
            self.state.param.update(color=f"{DIMENSION}{number}", neuron_dimension=number, view="head")

    def fit(self) -> None:
        """Go back to the key that the query attends to most, by what each dimension contributes."""
        self.state.param.update(partner=None, neuron_order="contribution", neuron_dimension=None)

    def summary(self) -> str:
        """Return one sentence that says what the canvas shows."""
        if self._seen is None:
            return ""
        query, key = (patch_name(self.state.directory, token) for token in (self._seen.token, self._key))
        pair = self._pair
        return (
            f"Query “{query}” and key “{key}” in {len(pair.query)} dimensions: q·k {pair.dot:.4f}, "
            f"weight {pair.weight * 100:.2f} %."
        )


def steps(pair: Pair, names: tuple[str, str]) -> str:
    """Return the way from q·k to the weight as HTML."""
    query, key = map(escape, names)
    parts = [f"q·k <b>{pair.dot:.4f}</b>", f"× {pair.scaling:.4g} = <b>{pair.scaled:.4f}</b>"]
    if pair.capped is not None:
        parts.append(f"soft-capped at {pair.softcap:g} <b>{pair.capped:.4f}</b>")
    if pair.bias is not None:
        parts.append(f"bias <b>{pair.bias:+.4f}</b>")
    if not np.isfinite(pair.logit):
        parts.append("hidden by the mask")
    elif pair.capped is not None or pair.bias is not None:
        parts.append(f"logit <b>{pair.logit:.4f}</b>")
    parts.append(f"after softmax <b>{pair.weight * 100:.2f} %</b>")
    chain = "<span>→</span>".join(f"<div>{part}</div>" for part in parts)
    title = f'<span class="q">{query}</span> looks at <span class="k">{key}</span>'
    return f'<p class="query-and-key">{title}</p><div class="steps">{chain}</div>'


def _part(name: str, *items: object) -> pn.Column:
    return pn.Column(*items, css_classes=[name], stylesheets=[*sheet(), RULES], margin=0)
