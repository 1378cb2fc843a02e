"""Beside a head: the chosen token's sequence as a sentence or a picture, and its attention in numbers."""

from typing import Any

import numpy as np
import panel as pn
from bokeh.events import MouseLeave, Tap
from panel.viewable import Viewer

from attnviz.explorer import markup
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.thumbnails import pixels
from attnviz.explorer.wires import listen
from attnviz.plots.picture import heat_pixels, image_data, picture_figure
from attnviz.plots.sentence import MOST_ROWS, SentenceFigure, line_data, sentence_figure
from attnviz.plots.theme import THEMES
from attnviz.types import Attention, FloatArray
from attnviz.views import links, patch_name, patch_weights, show_text, strongest_lines

__all__ = ["Beside"]

HINT = "Click a point to see its sequence and where it attends. Arrow keys move to the neighbouring heads."
ROWS = 8  # partners in the table
WATCHED = ("run", "layer", "head", "token", "kind", "theme", "view")


class Beside(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """The panel beside a head."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._facts = pn.pane.HTML(stylesheets=sheet(), css_classes=["card"])
        self._numbers = pn.pane.HTML(stylesheets=sheet(), css_classes=["card"])
        self._canvas = pn.pane.Bokeh(sizing_mode="stretch_width", margin=0)
        self._sheet = pn.Column(self._canvas, css_classes=["sheet"], stylesheets=sheet())
        self._box = pn.Column(self._facts, self._numbers, self._sheet, css_classes=["beside"], stylesheets=sheet())
        follow(state, WATCHED, act=self._show)
        attempt(state, act=self._show)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the panel."""
        return self._box

    def _show(self) -> None:
        if self.state.view != "head":
            return
        token = self.state.token
        self._numbers.visible = self._sheet.visible = token is not None
        if token is None:
            self._facts.object = markup.note(HINT)
            return
        run = self.state.directory
        self._sequence = int(run.tokens["sequence_id"].iloc[token])
        self._first = run.token_slice(self._sequence).start
        self._attention: Attention = run.attention(self.state.layer, self.state.head, self._sequence)
        self._show_numbers(token)
        image = run.manifest.model.modality == "image"
        (self._show_picture if image else self._show_sentence)(token - self._first)

    def _show_numbers(self, token: int) -> None:
        run, kind = self.state.directory, self.state.kind
        vectors = run.vectors(self.state.layer, self.state.head, slice(token, token + 1))
        norm = float((vectors.query_norm if kind == "query" else vectors.key_norm)[0])
        self._facts.object = markup.facts(run, token, kind, norm)
        position = token - self._first
        frame, rest = links(self._attention, position, kind=kind)
        names = [patch_name(run, self._first + int(i)) for i in frame["position"].head(ROWS)]
        rest += float(frame["weight"].iloc[ROWS:].sum())
        special = run.tokens["is_special"].iloc[run.token_slice(self._sequence)].to_numpy()
        shares = float(self._weights(position)[special].sum())
        self._numbers.object = markup.partners(frame.head(ROWS), rest, kind, names=names, special=shares)

    def _weights(self, position: int) -> FloatArray:
        """Return what the chosen token gives to each token of its sequence, or, as a key, receives from it."""
        weights = self._attention.weights
        return weights[position] if self.state.kind == "query" else weights[:, position]

    def _show_sentence(self, position: int) -> None:
        count = len(self._attention.tokens)
        start = max(0, min(position - MOST_ROWS // 2, count - MOST_ROWS))
        self._rows = slice(start, min(start + MOST_ROWS, count))
        texts = [show_text(text, longest=15) for text in self._attention.tokens[self._rows]]
        figure: SentenceFigure = sentence_figure(texts, THEMES[self.state.theme])
        self._figure = figure
        self._lines = strongest_lines(Attention(self._attention.weights[self._rows, self._rows], tuple(texts)))
        figure.plot.on_event(Tap, lambda event: self._tap(event.x, event.y))
        figure.plot.on_event(MouseLeave, lambda event: self._emphasise(self.state.kind, position - start))
        listen(figure.plot, self._hover)
        self._emphasise(self.state.kind, position - start)
        self._canvas.object = figure.plot

    def _emphasise(self, kind: str, row: int) -> None:
        """Let one token's lines stand out, with its weights beside the partners."""
        theme = THEMES[self.state.theme]
        self._figure.lines.data = line_data(self._lines, theme, chosen=(kind, row))
        left = kind == "query"
        color = theme.query if left else theme.key
        self._figure.marks.data = {"x": [-0.5 if left else 1.5], "y": [-row], "color": [color]}
        whole = self._attention.weights[self._rows, self._rows]
        weights = whole[row] if left else whole[:, row]
        partners = np.flatnonzero(weights >= 0.05)
        self._figure.numbers.data = {
            "x": np.full(len(partners), 2.08 if left else -1.08),
            "y": -partners.astype(float),
            "text": [f"{weights[i] * 100:.0f}%" for i in partners],
            "align": ["right" if left else "left"] * len(partners),
        }

    def _place(self, x: float, y: float) -> tuple[str, int] | None:
        row = round(-y)
        return ("query" if x < 0.5 else "key", row) if 0 <= row < self._rows.stop - self._rows.start else None

    def _hover(self, x: float, y: float) -> None:
        if (place := self._place(x, y)) is not None:
            self._emphasise(*place)

    def _tap(self, x: float, y: float) -> None:
        if (place := self._place(x, y)) is not None:
            self.state.select(self._first + self._rows.start + place[1], place[0])

    def _show_picture(self, position: int) -> None:
        run = self.state.directory
        grid = run.manifest.model.grid or (1, 1)
        tokens = run.tokens.iloc[run.token_slice(self._sequence)]
        rows, columns = (tokens[name].fillna(-1).to_numpy(np.int16) for name in ("patch_row", "patch_col"))
        heat = patch_weights(self._weights(position), rows, columns, grid=grid)
        figure = picture_figure(grid, THEMES[self.state.theme])
        figure.picture.data = image_data(pixels(run, self._sequence), grid)
        figure.heat.data = image_data(heat_pixels(heat), grid)
        if rows[position] >= 0:
            figure.frame.data = {"x": [columns[position] + 0.5], "y": [-rows[position] - 0.5]}

        def tap(event: Any) -> None:
            hit = np.flatnonzero((rows == int(np.floor(-event.y))) & (columns == int(np.floor(event.x))))
            if len(hit):
                self.state.select(self._first + int(hit[0]), self.state.kind)

        figure.plot.on_event(Tap, tap)
        self._canvas.object = figure.plot
