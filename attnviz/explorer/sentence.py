"""The sentence beside a head: queries left and keys right, of one stream or of two, and the lines between them.

Patches are left out; they have the picture. Where a sequence is too long for a canvas, each column shows the part around the
chosen token, or around its strongest partner.
"""

import numpy as np
import panel as pn
from bokeh.events import MouseLeave, Tap
from numpy.typing import NDArray
from panel.viewable import Viewer

from attnviz.explorer.state import State
from attnviz.explorer.wires import answer, listen
from attnviz.plots.sentence import HEADINGS, MOST_ROWS, SentenceFigure, line_data, sentence_figure
from attnviz.plots.theme import THEMES
from attnviz.types import KINDS
from attnviz.views import PARTNER, Exchange, show_token, strongest_lines

__all__ = ["Sentence"]

LEAST = 0.05  # weights with a number beside the partner


class Sentence(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """The texts of one sequence under one head."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._theme = ""
        self._pane = pn.pane.Bokeh(sizing_mode="stretch_width", margin=0)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the figure."""
        return self._pane

    def show(self, exchange: Exchange, token: int, kind: str) -> bool:
        """Draw the texts of an exchange with the lines of a token, or tell that either side has none."""
        rows = {side: self._texts(exchange, side) for side in KINDS}
        if not all(len(own) for own in rows.values()):
            return False
        place = exchange.row_of(token, kind)
        strongest = int(np.argmax(exchange.weights(place, kind)))
        self._rows = {kind: _around(rows[kind], place), PARTNER[kind]: _around(rows[PARTNER[kind]], strongest)}
        self._exchange = exchange
        self._weights = exchange.attention.weights[np.ix_(self._rows["query"], self._rows["key"])]
        self._lines = strongest_lines(self._weights)
        if self._theme != self.state.theme:
            self._make()
        self._write()
        self._chosen = kind, _row_of(self._rows[kind], place)
        self._emphasise(*self._chosen)
        self._pane.object = self._figure.plot
        return True

    def _texts(self, exchange: Exchange, kind: str) -> NDArray[np.int64]:
        """Return which rows or columns of the weights are of text."""
        return np.flatnonzero(self.state.directory.tokens["modality"].to_numpy()[exchange.tokens(kind)] == "text")

    def _make(self) -> None:
        """Make the figure. It takes new texts, which is much faster than a new figure."""
        self._figure: SentenceFigure = sentence_figure(THEMES[self.state.theme])
        plot = self._figure.plot
        guard = self.state.guard
        answer(plot, Tap, guard(lambda event: self._tap(event.x, event.y)))
        answer(plot, MouseLeave, guard(lambda event: self._emphasise(*self._chosen)))
        listen(plot, guard(self._hover))
        self._theme = self.state.theme

    def _write(self) -> None:
        run = self.state.directory
        names = run.tokens["text"].to_numpy()
        queries, keys = (
            [show_token(text, longest=15) for text in names[self._exchange.tokens(side)[self._rows[side]]]]
            for side in KINDS
        )
        info = run.layers[self.state.layer]
        titles = zip((info.query_stream, info.key_stream), HEADINGS, strict=True)
        of_queries, of_keys = (f"{stream} {title}".strip() for stream, title in titles)
        self._figure.write(queries, keys, (of_queries, of_keys))

    def _emphasise(self, kind: str, row: int) -> None:
        """Let one token's lines stand out, with its weights beside the partners; a row below 0 is none of these."""
        figure, theme, left = self._figure, THEMES[self._theme], kind == "query"
        chosen = (kind, row) if row >= 0 else None
        figure.lines.data = line_data(self._lines, theme, chosen=chosen)
        marked = [row] if row >= 0 else []
        figure.marks.data = {
            "x": [-0.5 if left else 1.5 for _ in marked],
            "y": [-row for row in marked],
            "color": [theme.query if left else theme.key for _ in marked],
        }
        weights = self._weights[row] if left else self._weights[:, row]
        partners = np.flatnonzero(weights >= LEAST) if marked else np.empty(0, np.int64)
        figure.numbers.data = {
            "x": np.full(len(partners), 2.08 if left else -1.08),
            "y": -partners.astype(float),
            "text": [f"{weights[i] * 100:.0f}%" for i in partners],
            "align": ["right" if left else "left"] * len(partners),
        }

    def _place(self, x: float, y: float) -> tuple[str, int] | None:
        kind, row = "query" if x < 0.5 else "key", round(-y)
        return (kind, row) if 0 <= row < len(self._rows[kind]) else None

    def _hover(self, x: float, y: float) -> None:
        if (place := self._place(x, y)) is not None:
            self._emphasise(*place)

    def _tap(self, x: float, y: float) -> None:
        if (place := self._place(x, y)) is not None:
            kind, row = place
            self.state.select(int(self._exchange.tokens(kind)[self._rows[kind][row]]), kind)


def _around(rows: NDArray[np.int64], place: int) -> NDArray[np.int64]:
    """Return at most ``MOST_ROWS`` of some ascending rows, those around a place."""
    middle = int(np.searchsorted(rows, place))
    start = max(0, min(middle - MOST_ROWS // 2, len(rows) - MOST_ROWS))
    return rows[start : start + MOST_ROWS]


def _row_of(rows: NDArray[np.int64], place: int) -> int:
    """Return where a place stands among some rows, or -1."""
    return int(np.flatnonzero(rows == place)[0]) if place in rows else -1
