"""The sentence view: any heads of a layer over one sequence, or their mean over all, as lines or as a matrix.

Resting on a token keeps its lines alone; a click hides it or selects it. The card beside shows the numbers behind what the pointer
is on. A sequence too long for a canvas is cut to the part around the chosen token.
"""

import numpy as np
import panel as pn
from bokeh.events import MouseLeave, Tap
from bokeh.plotting import figure

from attnviz.errors import DatasetError
from attnviz.explorer import markup
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.sequence_controls import Controls, hidden_of
from attnviz.explorer.sequence_numbers import Row, numbers_table
from attnviz.explorer.sequence_reading import Shown, changes_of, mean_of, read_mean, read_sequence
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.view import View
from attnviz.explorer.wires import listen
from attnviz.plots.figure import place_tip
from attnviz.plots.heads_of_sequence import (
    STRIP,
    TEXT,
    HeadsFigure,
    heads_figure,
    line_columns,
    lines_of,
    own_lines,
    strip_data,
)
from attnviz.plots.matrix import Matrix, cell_at, matrix_figure
from attnviz.plots.theme import THEMES, head_colors
from attnviz.types import KINDS
from attnviz.views import (
    PARTNER,
    Changes,
    join_heads,
    layer_name,
    pair_numbers,
)

__all__ = ["SentenceView"]

REDRAWS = (
    *("run", "view", "theme", "layer", "sequence", "hide_special", "hide_punctuation", "hide_first"),
    *("sentence_heads", "sentence_scope", "sentence_form", "sentence_join", "sentence_pairs"),
    *("sentence_words", "sentence_values", "sentence_hidden"),
)
LEAST = 0.05  # weights with a number beside the partner
TABLE = 16  # heads
HINT = "Rest on a token, or on a cell of the matrix, to read q·k, logit and weight. Click a token to hide it or to select it."

Pair = tuple[int | None, int | None]  # a row and a column


class SentenceView(View):
    """Heads of one layer over one sequence."""

    of_map = False

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._pane = pn.pane.Bokeh(margin=0, css_classes=["canvas-free"])
        self._note = pn.pane.HTML("", css_classes=["card"], stylesheets=sheet(), visible=False)
        self._numbers = pn.pane.HTML("", css_classes=["card"], stylesheets=sheet())
        self._controls = Controls(state)
        self._shown: Shown | None = None
        self._kind = "query"
        self._chosen: list[int] = []  # rows or columns of what is shown
        self._picked: set[int] = set()  # the tokens, or positions, that these are
        self._pair: Pair = (None, None)
        scroll = _box("sentence-scroll", self._note, self._pane)
        side = _box("sentence-side", self._controls.beside, self._numbers)
        self._box = _box("sentence", self._controls.above, _box("sentence-body", scroll, side))
        follow(state, REDRAWS, act=self._redraw)
        follow(state, ["token", "kind"], act=self._follow_token)
        attempt(state, act=self._redraw)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the controls, the figure and the numbers."""
        return self._box

    def fit(self) -> None:
        """Show every head and token again, none of them selected."""
        self._choose("query", set())
        none = dict.fromkeys(("hide_special", "hide_punctuation", "hide_first"), False)
        self.state.param.update(sentence_hidden="", sentence_heads="", sentence_pairs="all", token=None, **none)

    def heading(self) -> tuple[str, str]:
        """Return the title of the view and a quieter sentence."""
        state = self.state
        name = layer_name(state.directory.layers[state.layer])
        if state.sentence_scope == "mean":
            return f"{name} · Mean", "The mean weight from position to position over all sequences."
        return f"{name} · Sequence {state.sequence}", "Queries left, keys right. Rest on a token to see it alone."

    def summary(self) -> str:
        """Return one sentence that says what the canvas shows."""
        shown = self._shown
        if shown is None:
            return ""
        heads = f"{len(shown.heads)} of {self.state.directory.layers[self.state.layer].num_heads} heads"
        queries, keys = map(len, shown.texts)
        what = "positions" if shown.columns is None else "words" if self.state.sentence_words else "tokens"
        cut = "" if shown.columns is None or shown.whole == (queries, keys) else " (the part that fits)"
        title = " · ".join(self.heading()[:1])
        gone = sum(map(sum, shown.hidden))
        return f"{title}: {heads}, queries of {queries} {what} and keys of {keys}{cut}, {gone} hidden."

    @property
    def _mean(self) -> bool:
        return bool(self.state.sentence_scope == "mean")

    def _redraw(self) -> None:
        if self.state.view != "sentence":
            return
        self._controls.update()
        try:
            self._shown = read_mean(self.state) if self._mean else read_sequence(self.state)
        except DatasetError as error:
            if self.state.directory.layers[self.state.layer].rebuilt:
                raise
            self._empty(str(error))
            return
        if not all(map(len, self._shown.texts)):
            self._empty("This sequence has no tokens that this layer attends from, or to. Choose another one.")
            return
        self._note.visible = False
        self._mark_token()
        self._draw()

    def _empty(self, sentence: str) -> None:
        self._shown = None
        self._note.param.update(object=markup.note(sentence), visible=True)
        self._pane.object = None
        self._numbers.object = ""

    def _draw(self) -> None:
        state, theme, shown = self.state, THEMES[self.state.theme], self._shown
        assert shown is not None
        info = state.directory.layers[state.layer]
        names = [
            f"{stream} {title}".strip()
            for stream, title in zip((info.query_stream, info.key_stream), ("queries", "keys"), strict=True)
        ]
        headings = (names[0], names[1])
        every = head_colors(theme, info.num_heads)
        self._colors = [every[head] for head in shown.heads]
        self._figure: HeadsFigure | Matrix
        if state.sentence_form == "lines":
            self._weights = join_heads(shown.weights, state.sentence_join)
            if state.sentence_join != "each" and len(self._weights) == 1 and len(shown.heads) > 1:
                self._colors = [theme.accent]
            self._figure = heads_figure(shown.texts, shown.hidden, theme, headings=headings)
            self._emphasise(self._kind, self._chosen)
        else:
            how = "sum" if state.sentence_join == "sum" else "mean"
            self._weights = join_heads(shown.weights, how)
            color = self._colors[0] if len(shown.heads) == 1 else theme.accent
            flat = self._weights[0] if len(self._weights) else np.zeros(tuple(map(len, shown.texts)), np.float32)
            self._figure = matrix_figure(flat, shown.texts, shown.hidden, theme, color=color, headings=headings)
        self._wire(self._figure.plot)
        self._pane.object = self._figure.plot
        self._pair = (None, None)
        self._tell()

    def _wire(self, plot: figure) -> None:
        plot.on_event(Tap, lambda event: attempt(self.state, act=lambda: self._tap(event.x, event.y)))
        plot.on_event(MouseLeave, lambda event: attempt(self.state, act=self._leave))
        listen(plot, lambda x, y: attempt(self.state, act=lambda: self._point(x, y)))

    def _place(self, x: float, y: float) -> Pair | None:
        """Return the row and column under a place; of a token, one of both; None of nothing."""
        shown = self._shown
        if shown is None:
            return None
        if isinstance(self._figure, Matrix):
            found = cell_at(x, y, (shown.count("query"), shown.count("key")))
            return None if found is None else (found[0] if found[0] >= 0 else None, found[1] if found[1] >= 0 else None)
        row, kind = round(-y), "query" if x < 0.5 else "key"
        if not 0 <= row < shown.count(kind):
            return None
        return (row, None) if kind == "query" else (None, row)

    def _point(self, x: float, y: float) -> None:
        place = self._place(x, y)
        if place is None or place == self._pair:
            return
        self._pair = place
        if isinstance(self._figure, Matrix):
            self._frame(place)
        else:
            kind, row = _side(place)
            self._emphasise(kind, [row])
        self._tell()

    def _frame(self, place: Pair) -> None:
        """Frame a cell and say its weight beside it."""
        figure, shown = self._figure, self._shown
        assert isinstance(figure, Matrix)
        if shown is None or None in place or not shown.heads:
            self._clear_frame()
            return
        row, column = (int(i) for i in place if i is not None)
        weight = float(self._weights[0, row, column]) if len(self._weights) else 0.0
        many = len(shown.heads) > 1
        what = (
            ("sum of" if self.state.sentence_join == "sum" else "mean of") + f" {len(shown.heads)} heads"
            if many
            else "weight"
        )
        figure.frame.data = {"x": [column + 0.5], "y": [-row - 0.5]}
        lines = [f"{shown.texts[0][row]} → {shown.texts[1][column]}", f"{what}: {weight * 100:.2f} %"]
        if shown.columns is None:
            counts = mean_of(self.state, shown.heads[0]).counts
            lines.append(f"{counts[row, column]:,} sequences have both positions")
        plot = figure.plot
        bounds = (plot.x_range.start, plot.x_range.end, plot.y_range.start, plot.y_range.end)
        figure.tip.data = place_tip(lines, column + 0.5, -row - 0.5, bounds=bounds)

    def _clear_frame(self) -> None:
        assert isinstance(self._figure, Matrix)
        for source in (self._figure.tip, self._figure.frame):
            source.data = {name: [] for name in source.data}

    def _leave(self) -> None:
        self._pair = (None, None)
        if self._shown is None:
            return
        if isinstance(self._figure, Matrix):
            self._clear_frame()
        else:
            self._emphasise(self._kind, self._chosen)
        self._tell()

    def _emphasise(self, kind: str, rows: list[int]) -> None:
        """Keep the lines of some tokens, with strips and numbers beside their partners; of none: all lines."""
        made, theme, shown = self._figure, THEMES[self.state.theme], self._shown
        assert isinstance(made, HeadsFigure)
        if shown is None:
            return
        lines = own_lines(self._weights, rows, kind) if rows else lines_of(self._weights)
        made.lines.data = line_columns(lines, self._colors)
        left = kind == "query"
        wide, color = TEXT + STRIP, theme.query if left else theme.key
        made.marks.data = {
            "x": [-wide / 2 if left else 1 + wide / 2 for _ in rows],
            "y": [-row for row in rows],
            "width": [wide for _ in rows],
            "color": [color for _ in rows],
        }
        if not rows:
            for source in (made.strips, made.numbers):
                source.data = {name: [] for name in source.data}
            return
        shares = self._weights[:, rows].sum(axis=1) if left else self._weights[:, :, rows].sum(axis=2)
        made.strips.data = strip_data(shares, kind, self._colors, rows=rows)
        mean = shares.mean(axis=0) if len(shares) else np.zeros(shown.count(PARTNER[kind]), np.float32)
        partners = np.flatnonzero(mean >= LEAST)
        made.numbers.data = {
            "x": np.full(len(partners), 1 + wide - 0.02 if left else 0.02 - wide),
            "y": -partners.astype(float),
            "text": [f"{mean[i] * 100:.0f}%" for i in partners],
            "align": ["right" if left else "left"] * len(partners),
        }

    def _tap(self, x: float, y: float) -> None:
        place = self._place(x, y)
        if place is None or self._shown is None or None not in place:
            return
        kind, row = _side(place)
        if self._shown.columns is None:
            self._choose(kind, self._picked ^ {row} if kind == self._kind else {row})
        elif self.state.sentence_click == "hide":
            self._hide(self._shown.columns[KINDS.index(kind)].tokens(row))
        else:
            tokens = set(self._shown.columns[KINDS.index(kind)].tokens(row))
            before = self._picked if kind == self._kind else set()
            after = before - tokens if tokens <= before else before | tokens
            self._choose(kind, after)
            last = min(tokens) if tokens <= after else min(after, default=None)
            self.state.select(last, kind)

    def _hide(self, tokens: list[int]) -> None:
        hidden = set(hidden_of(self.state))
        hidden = hidden - set(tokens) if set(tokens) <= hidden else hidden | set(tokens)
        self.state.sentence_hidden = ",".join(map(str, sorted(hidden)))

    def _choose(self, kind: str, picked: set[int]) -> None:
        """Select tokens, or positions, of one kind."""
        self._kind, self._picked = kind, picked
        self._mark_rows()
        if self._shown is not None and not isinstance(self._figure, Matrix):
            self._emphasise(kind, self._chosen)
        self._tell()

    def _mark_rows(self) -> None:
        """Find the rows of what is selected."""
        shown = self._shown
        if shown is None:
            self._chosen = []
        elif shown.columns is None:
            self._chosen = sorted(row for row in self._picked if row < shown.count(self._kind))
        else:
            column = shown.columns[KINDS.index(self._kind)]
            found = {column.row(token) for token in self._picked}
            self._chosen = sorted(row for row in found if row is not None)

    def _mark_token(self) -> None:
        """Let the chosen token of the state be among what is selected."""
        token, kind = self.state.token, self.state.kind_here
        if self._mean:
            self._picked = {position for position in self._picked if position < self.state.directory.num_tokens}
        elif token is None or kind is None:
            self._picked = set()
        elif token not in self._picked or kind != self._kind:
            self._kind, self._picked = kind, {token}
        self._mark_rows()

    def _follow_token(self) -> None:
        if self.state.view != "sentence" or self._shown is None or self._mean:
            return
        self._mark_token()
        if not isinstance(self._figure, Matrix):
            self._emphasise(self._kind, self._chosen)
        self._tell()

    def _tell(self) -> None:
        """Write the numbers of what the pointer is on, or of what is selected."""
        pair = self._numbered()
        if self._shown is None or pair == (None, None) or not self._shown.heads:
            self._numbers.object = markup.note(HINT)
            return
        self._numbers.object = self._table(pair)

    def _numbered(self) -> Pair:
        """Return the pair whose numbers are wanted: a token selected on one side and the pointer on the other make one."""
        query, key = self._pair
        if len(self._chosen) == 1 and (query is None or key is None):
            if self._kind == "query" and query is None:
                query = self._chosen[0]
            elif self._kind == "key" and key is None:
                key = self._chosen[0]
        return query, key

    def _table(self, pair: Pair) -> str:
        shown = self._shown
        assert shown is not None
        several = None in pair
        kind, row = _side(pair) if several else ("query", -1)
        ends = [texts[i] if i is not None else "…" for texts, i in zip(shown.texts, pair, strict=True)]
        rows = []
        for number, head in enumerate(shown.heads[:TABLE]):
            query, key = pair
            if query is None or key is None:
                own = shown.weights[number, row] if kind == "query" else shown.weights[number, :, row]
                best = int(np.argmax(own))
                query, key = (row, best) if kind == "query" else (best, row)
            partner = shown.texts[1 if kind == "query" else 0][key if kind == "query" else query] if several else ""
            rows.append(self._row(number, head, query, key, partner))
        left = f"The first {TABLE} of {len(shown.heads)} heads." if len(shown.heads) > TABLE else ""
        strongest = "Each head with its strongest partner. " if several else ""
        return numbers_table(" → ".join(ends), rows, note=f"{strongest}{left}".strip())

    def _row(self, number: int, head: int, query: int, key: int, partner: str) -> Row:
        shown, state = self._shown, self.state
        assert shown is not None
        color = head_colors(THEMES[state.theme], head + 1)[head]
        weight = float(shown.weights[number, query, key])
        if shown.columns is None:
            return Row(str(head), color, partner, None, None, weight, None)
        tokens = [side.tokens(row) for side, row in zip(shown.columns, (query, key), strict=True)]
        if max(map(len, tokens)) > 1:
            return Row(str(head), color, partner, None, None, None, weight)
        made = pair_numbers(state.directory, state.layer, head, tokens[0][0], tokens[1][0])
        changed = weight if changes_of(self.state) != Changes() else None
        return Row(str(head), color, partner, made.dot, made.logit, made.weight, changed)


def _side(place: Pair) -> tuple[str, int]:
    """Return kind and row of a place on one side."""
    query, key = place
    return ("query", query) if query is not None else ("key", key or 0)


def _box(name: str, *items: object) -> pn.Column:
    return pn.Column(*items, css_classes=name.split(), stylesheets=sheet(), margin=0)
