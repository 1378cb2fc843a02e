"""Beside a head: the chosen token's sequence as a sentence, a picture or both, and its attention in numbers."""

import numpy as np
import pandas as pd
import panel as pn
from panel.viewable import Viewer

from attnviz.errors import DatasetError
from attnviz.explorer import markup
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.nearest import NearestPanel
from attnviz.explorer.picture import Picture
from attnviz.explorer.selection import SelectionPanel
from attnviz.explorer.sentence import Sentence
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.views import PARTNER, Exchange, describe_absence, links, patch_name, read_exchange

__all__ = ["Beside"]

HINT = "Click a point to see its sequence and where it attends. Arrow keys move to the neighbouring heads."
ROWS = 8  # partners in the table
WATCHED = ("run", "layer", "head", "token", "kind", "theme", "view")


class Beside(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """The panel beside a head."""

    place = "the panel beside the head"

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._facts = pn.pane.HTML(stylesheets=sheet(), css_classes=["card"])
        self._numbers = pn.pane.HTML(stylesheets=sheet(), sizing_mode="stretch_width", margin=0)
        self._exchange: Exchange | None = None
        # Words are there first, in a message of their own; then pictures; then the lists of the panels below.
        follow(state, WATCHED, act=self._tell)
        follow(state, WATCHED, act=self._picture)
        self._pictures: list[Picture | Sentence] = [Picture(state), Sentence(state)]
        self._sheets = [pn.Column(shown, css_classes=["sheet"], stylesheets=sheet()) for shown in self._pictures]
        shown = (
            SelectionPanel(state),
            self._facts,
            self._numbers,
            self._sheets[0],
            NearestPanel(state),
            self._sheets[1],
        )
        self._box = pn.Column(*shown, css_classes=["beside"], stylesheets=sheet())
        attempt(state, act=self._tell)
        attempt(state, act=self._picture)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the panel."""
        return self._box

    def _tell(self) -> None:
        """Say what is chosen and what it attends to. Only texts change: they are seen before the page is laid out anew."""
        self._exchange, numbers = None, ""
        if self.state.view != "head":
            return
        token, kind = self.state.token, self.state.kind_here
        if token is None or kind is None:
            sentence = HINT if token is None else describe_absence(self.state.directory, self.state.layer, token)
            facts = markup.note(sentence)
        else:
            facts = markup.facts(self.state.directory, token, kind, self._norm(token, kind))
            numbers = self._read(token, kind)
        self._facts.object, self._numbers.object = facts, numbers

    def _norm(self, token: int, kind: str) -> float:
        vectors = self.state.directory.vectors(self.state.layer, self.state.head, slice(token, token + 1))
        return float((vectors.query_norm if kind == "query" else vectors.key_norm)[0])

    def _read(self, token: int, kind: str) -> str:
        """Read the attention over a token's sequence; return it in numbers, or why a layer's cannot be rebuilt."""
        run = self.state.directory
        sequence = int(run.tokens["sequence_id"].iloc[token])
        try:
            self._exchange = read_exchange(run, self.state.layer, self.state.head, sequence)
        except DatasetError as error:
            if run.layers[self.state.layer].rebuilt:
                raise
            return markup.card(markup.note(str(error)))
        return markup.card(self._table(self._exchange, token, kind))

    def _table(self, exchange: Exchange, token: int, kind: str) -> str:
        run = self.state.directory
        place = exchange.row_of(token, kind)
        frame, rest = links(exchange.attention, place, kind=kind)
        rest += float(frame["weight"].iloc[ROWS:].sum())
        tokens = exchange.tokens(PARTNER[kind])
        shown = tokens[frame["position"].head(ROWS).to_numpy(np.int64)]
        rows = pd.DataFrame(
            {
                "name": [patch_name(run, int(i)) for i in shown],
                "position": run.tokens["position"].to_numpy()[shown],
                "weight": frame["weight"].head(ROWS),
            }
        )
        special = float(exchange.weights(place, kind)[run.tokens["is_special"].to_numpy()[tokens]].sum())
        return markup.partners(rows, rest, kind, special=special, sink=exchange.sink(place, kind))

    def _picture(self) -> None:
        """Show the patch and the sentence of what is chosen."""
        if self.state.view != "head":
            return
        token, kind, exchange = self.state.token, self.state.kind_here, self._exchange
        for shown, sheet_of in zip(self._pictures, self._sheets, strict=True):
            if exchange is None or token is None or kind is None:
                sheet_of.visible = False
            else:
                sheet_of.visible = shown.show(exchange, token, kind)
