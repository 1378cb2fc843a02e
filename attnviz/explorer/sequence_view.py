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
from attnviz.explorer.class_list import class_list, class_sentence
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.ranges import as_ranges
from attnviz.explorer.sequence_controls import Controls, hidden_of
from attnviz.explorer.sequence_matrix import MatrixPart, how_joined
from attnviz.explorer.sequence_numbers import pair_row, pair_steps, pair_table, side_of
from attnviz.explorer.sequence_reading import Pair, Shown, mean_of, read_mean, read_sequence
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.swatches import Swatch
from attnviz.explorer.view import View
from attnviz.explorer.wires import answer, listen
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
from attnviz.plots.matrices import MOST, Matrices
from attnviz.plots.matrix import Matrix
from attnviz.plots.theme import THEMES, head_colors
from attnviz.types import KINDS
from attnviz.views import (
    PARTNER,
    join_heads,
    layer_name,
)

__all__ = ["SentenceView"]

REDRAWS = (
    *("run", "view", "theme", "layer", "sequence", "hide_special", "hide_punctuation", "hide_first"),
    *("sentence_heads", "sentence_scope", "sentence_form", "sentence_join", "sentence_pairs"),
    *("sentence_words", "sentence_values", "sentence_hidden"),
)
LEAST = 0.05  # weights with a number beside the partner
HINT = "Rest on a token, or on a cell of the matrix, to read q·k, logit and weight. Click a token to hide it or to select it."


class SentenceView(View):
    """Heads of one layer over one sequence."""

    of_map = False

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._pane = pn.pane.Bokeh(margin=0, css_classes=["canvas-free"])
        self._note = pn.pane.HTML("", css_classes=["card"], stylesheets=sheet(), visible=False)
        self._numbers = pn.pane.HTML("", css_classes=["card"], stylesheets=sheet())
        self._classes = pn.pane.HTML("", css_classes=["card"], stylesheets=sheet(), visible=False)
        self._controls = Controls(state)
        self._shown: Shown | None = None
        self._part: MatrixPart | None = None  # of matrices
        self._small: int | None = None  # the small matrix under the pointer
        self._kind = "query"
        self._chosen: list[int] = []  # rows or columns of what is shown
        self._picked: set[int] = set()  # the tokens that these are, or positions
        self._by_position = False
        self._pair: Pair = (None, None)
        self._seen: tuple[int | None, ...] = ()  # what the pointer was last on
        scroll = _box("sentence-scroll", self._note, self._pane)
        side = _box("sentence-side", self._controls.beside, self._classes, self._numbers)
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
            return f"{name} · Mean", f"The mean weight from position to position over all sequences. {self._reading()}"
        said = class_sentence(state.directory, state.sequence)
        return f"{name} · Sequence {state.sequence}", f"{said} {self._reading()}".lstrip()

    def _reading(self) -> str:
        """Return how to read the figure, and which heads it joins."""
        state, shown = self.state, self._shown
        if state.sentence_form == "lines" or shown is None:
            return "Queries left, keys right. Rest on a token to see it alone."
        if len(shown.heads) < 2 or state.sentence_join != "each":
            return f"Queries down, keys across: {how_joined(state, shown)}."
        count = (
            f"{len(shown.heads)} heads" if len(shown.heads) <= MOST else f"the first {MOST} of {len(shown.heads)} heads"
        )
        return f"A matrix for each of {count}: queries down, keys across, on one scale. Click one to see it alone."

    def summary(self) -> str:
        """Return one sentence that says what the canvas shows."""
        shown = self._shown
        if shown is None:
            return ""
        state = self.state
        heads = f"{len(shown.heads)} of {state.directory.layers[state.layer].num_heads} heads"
        queries, keys = map(len, shown.texts)
        what = "positions" if shown.columns is None else "words" if self.state.sentence_words else "tokens"
        cut = "" if shown.columns is None or shown.whole == (queries, keys) else " (the part that fits)"
        title = " · ".join(self.heading()[:1])
        gone = sum(map(sum, shown.hidden))
        if state.sentence_join != "each" and len(shown.heads) > 1:
            heads = f"{how_joined(state, shown)}"
        return f"{title}: {heads}, queries of {queries} {what} and keys of {keys}{cut}, {gone} hidden."

    def swatches(self) -> list[Swatch]:
        """Return the colours of the heads, where each has its own."""
        if self._shown is None or (self.state.sentence_join != "each" and len(self._shown.heads) > 1):
            return []
        return [Swatch(f"head {head}", (color,)) for head, color in zip(self._shown.heads, self._colors, strict=True)]

    @property
    def _mean(self) -> bool:
        return bool(self.state.sentence_scope == "mean")

    def _redraw(self) -> None:
        if self.state.view != "sentence":
            return
        self._controls.update()
        self._classify()
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

    def _classify(self) -> None:
        """List the classes of the sequence, where the model tells them."""
        shown = "" if self._mean else class_list(self.state.directory, self.state.sequence)
        self._classes.param.update(object=shown, visible=bool(shown))

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
        self._figure: HeadsFigure | Matrix | Matrices
        self._part = None
        if state.sentence_form == "lines":
            self._weights = join_heads(shown.weights, state.sentence_join)
            if state.sentence_join != "each" and len(self._weights) == 1 and len(shown.heads) > 1:
                self._colors = [theme.accent]
            self._figure = heads_figure(shown.texts, shown.hidden, theme, headings=headings)
            self._emphasise(self._kind, self._chosen)
        else:
            self._part = MatrixPart(state, shown, headings, self._colors)
            self._figure = self._part.figure
        self._wire(self._figure.plot)
        self._pane.object = self._figure.plot
        self._pair, self._seen = (None, None), ()
        self._tell()

    def _wire(self, plot: figure) -> None:
        guard = self.state.guard
        answer(plot, Tap, guard(lambda event: self._tap(event.x, event.y)))
        answer(plot, MouseLeave, guard(lambda event: self._leave()))
        listen(plot, guard(self._point))

    def _place(self, x: float, y: float) -> Pair | None:
        """Return the row and column under a place; of a token, one of both; None of nothing."""
        shown = self._shown
        if shown is None:
            return None
        if self._part is not None:
            found = self._part.place(x, y)
            place, self._small = found or (None, None)
            return place
        row, kind = round(-y), "query" if x < 0.5 else "key"
        if not 0 <= row < shown.count(kind):
            return None
        return (row, None) if kind == "query" else (None, row)

    def _point(self, x: float, y: float) -> None:
        place = self._place(x, y)
        if place is None or (*place, self._small) == self._seen:
            return
        self._pair, self._seen = place, (*place, self._small)
        if self._part is not None:
            self._frame(place, self._small)
        else:
            kind, row = side_of(place)
            self._emphasise(kind, [row])
        self._tell()

    def _frame(self, place: Pair, number: int | None) -> None:
        """Frame a cell and say its numbers beside it."""
        shown, part = self._shown, self._part
        row, column = place
        if shown is None or part is None or row is None or column is None or not shown.heads:
            self._clear_frame()
            return
        lines = []
        if shown.columns is None:
            counts = mean_of(self.state, shown.heads[0]).counts
            lines.append(f"{counts[row, column]:,} sequences have both positions")
        elif number is not None or len(shown.heads) == 1:
            lines += pair_steps(self.state, pair_row(self.state, shown, 0 if number is None else number, (row, column)))
        part.frame(row, column, number, lines)

    def _clear_frame(self) -> None:
        if self._part is not None:
            self._part.clear()

    def _leave(self) -> None:
        self._pair, self._seen = (None, None), ()
        if self._shown is None:
            return
        if self._part is not None:
            self._part.clear()
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
        if self._small is not None and self._shown is not None:
            self._controls.pick(self._shown.heads[self._small], only=True)
            return
        if place is None or self._shown is None or None not in place:
            return
        kind, row = side_of(place)
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
        self.state.sentence_hidden = as_ranges(hidden)

    def _choose(self, kind: str, picked: set[int]) -> None:
        """Select tokens, or positions, of one kind."""
        self._kind, self._picked = kind, picked
        self._mark_rows()
        if self._shown is not None and self._part is None:
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
        if self._mean != self._by_position:  # a token's number is no position, nor the other way round
            self._picked, self._by_position = set(), self._mean
        if self._mean:
            pass
        elif token is None or kind is None:
            self._picked = set()
        elif token not in self._picked or kind != self._kind:
            self._kind, self._picked = kind, {token}
        self._mark_rows()

    def _follow_token(self) -> None:
        if self.state.view != "sentence" or self._shown is None or self._mean:
            return
        self._mark_token()
        if self._part is None:
            self._emphasise(self._kind, self._chosen)
        self._tell()

    def _tell(self) -> None:
        """Write the numbers of what the pointer is on, or of what is selected."""
        pair = self._numbered()
        if self._shown is None or pair == (None, None) or not self._shown.heads:
            self._numbers.object = markup.note(HINT)
            return
        self._numbers.object = pair_table(self.state, self._shown, pair)

    def _numbered(self) -> Pair:
        """Return the pair whose numbers are wanted: a token selected on one side and the pointer on the other make one."""
        query, key = self._pair
        if len(self._chosen) == 1 and (query is None or key is None):
            if self._kind == "query" and query is None:
                query = self._chosen[0]
            elif self._kind == "key" and key is None:
                key = self._chosen[0]
        return query, key


def _box(name: str, *items: object) -> pn.Column:
    return pn.Column(*items, css_classes=name.split(), stylesheets=sheet(), margin=0)
