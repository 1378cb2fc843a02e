"""The controls of the sentence view: which layer, heads and sequence, and what is done to the weights."""

from collections.abc import Sequence

import panel as pn

from attnviz.explorer.squares import Squares
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.plots.theme import THEMES, head_colors
from attnviz.views import has_pair, has_words, in_rows, layer_name

__all__ = ["Controls", "heads_of", "hidden_of"]

SQUARES = "Click a head to show or hide it. Double click it, or hold Shift and click, to see it alone."
FORM = "Lines between the queries on the left and the keys on the right, or a matrix with a row for each query."
SCOPE = (
    "The chosen sequence, or the mean weight from position to position over all sequences that have both positions, "
    "for the first 64 positions."
)
HIDE = (
    "Hide tokens here and on the maps. What a query gives to the rest is scaled up, as if the hidden ones were not there. "
    "Many heads put what they have no use for on the first position."
)
PAIRS_HELP = (
    "Of a pair of texts A and B, keep the queries of one and the keys of the other. Rows are not scaled up again."
)
NO_HEADS = "none"


def heads_of(state: State) -> tuple[int, ...]:
    """Return the heads that are shown, of the layer's; all, if the state names none that there is."""
    count = state.directory.layers[state.layer].num_heads
    if state.sentence_heads == NO_HEADS:
        return ()
    named = sorted({head for head in _numbers(state.sentence_heads) if head < count})
    return tuple(named) or tuple(range(count))


def hidden_of(state: State) -> frozenset[int]:
    """Return the tokens of the sequence that are hidden by a click."""
    rows = state.directory.token_slice(state.sequence)
    return frozenset(token for token in _numbers(state.sentence_hidden) if rows.start <= token < rows.stop)


class Controls:
    """A row above the figure and a card beside it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._layer = pn.widgets.Select(label="", css_classes=["field"], stylesheets=sheet())
        self._layer.param.watch(lambda event: self._choose_layer(event.new), "value")
        self._sequence = pn.widgets.IntInput.from_param(
            state.param.sequence, label="", start=0, description=None, css_classes=["field"], stylesheets=sheet()
        )
        self._of = pn.pane.HTML("", css_classes=["quiet"], stylesheets=sheet(), margin=0)
        self._squares = Squares(pick=self.pick, stylesheets=sheet(), margin=0)
        self._pairs = self._field("sentence_pairs", PAIRS_HELP)
        self._words = self._tick("sentence_words")
        self._values = self._tick("sentence_values")
        self._click = self._field("sentence_click")
        self.above = _box("tools", *self._above())
        self.beside = _box("card stack", *self._beside())

    def pick(self, head: int, only: bool) -> None:
        """Show or hide a head, or show it alone."""
        shown = {head} if only else set(heads_of(self.state)) ^ {head}
        self.show_heads(sorted(shown))

    def show_heads(self, heads: Sequence[int]) -> None:
        """Show some heads of the layer."""
        count = self.state.directory.layers[self.state.layer].num_heads
        every = len(heads) == count
        self.state.sentence_heads = "" if every else ",".join(map(str, heads)) or NO_HEADS

    def step(self, sequences: int) -> None:
        """Go to a neighbouring sequence, staying at the ends."""
        last = self.state.directory.num_sequences - 1
        self.state.sequence = min(max(self.state.sequence + sequences, 0), last)

    def update(self) -> None:
        """Bring the controls in step with the state."""
        state, run = self.state, self.state.directory
        options = {layer_name(info): info.layer for info in in_rows(run)}
        self._layer.param.update(options=options, value=state.layer)
        last = run.num_sequences - 1
        self._sequence.end = last
        self._of.object = f"of 0–{last:,}"
        colors = head_colors(THEMES[state.theme], run.layers[state.layer].num_heads)
        self._squares.param.update(colors=colors, shown=list(heads_of(state)))
        one = state.sentence_scope == "one"
        _show(self._pairs, one and (state.sentence_pairs != "all" or has_pair(run, state.layer, state.sequence)))
        _show(self._words, one and (state.sentence_words or has_words(run, state.sequence)))
        for item in (self._values, self._click, self._stepper):
            _show(item, one)

    def _above(self) -> list[pn.viewable.Viewable]:
        before = _button("‹", lambda: self.step(-1), "Previous sequence")
        after = _button("›", lambda: self.step(1), "Next sequence")
        number = _box("sentence-number", self._sequence)
        self._stepper = _box("tool", _label("Sequence"), before, number, after, self._of)
        every = _button("All", lambda: self.show_heads(range(self._count)), "Show all heads")
        none = _button("None", lambda: self.show_heads([]), "Show no head")
        return [
            _box("tool", _label("Layer"), _box("sentence-layer", self._layer)),
            self._stepper,
            _hinted(self._choice("sentence_scope"), SCOPE),
            _hinted(self._choice("sentence_form"), FORM),
            _box("tool wide", _label("Heads"), self._squares, every, none, _sign(SQUARES)),
        ]

    def _beside(self) -> list[pn.viewable.Viewable]:
        masks = {"hide_special": "special tokens", "hide_punctuation": "punctuation", "hide_first": "first position"}
        ticks = [
            pn.widgets.Checkbox.from_param(
                self.state.param[name], label=label, css_classes=["tick"], stylesheets=sheet()
            )
            for name, label in masks.items()
        ]
        hidden = _box("tool wide", _label("Hide"), *ticks, _sign(HIDE))
        return [self._field("sentence_join"), self._pairs, self._click, hidden, self._words, self._values]

    @property
    def _count(self) -> int:
        return self.state.directory.layers[self.state.layer].num_heads

    def _choose_layer(self, layer: int | None) -> None:
        if layer is not None and layer in self.state.directory.layers and layer != self.state.layer:
            heads = self.state.directory.layers[layer].num_heads
            self.state.param.update(layer=layer, head=min(self.state.head, heads - 1))

    def _choice(self, name: str) -> pn.viewable.Viewable:
        return pn.widgets.RadioButtonGroup.from_param(
            self.state.param[name], css_classes=["choice"], stylesheets=sheet()
        )

    def _field(self, name: str, hint: str = "") -> pn.viewable.Viewable:
        parameter = self.state.param[name]
        return _box("tool wide", _label(parameter.label), self._choice(name), _sign(hint or parameter.doc))

    def _tick(self, name: str) -> pn.viewable.Viewable:
        parameter = self.state.param[name]
        return _hinted(
            pn.widgets.Checkbox.from_param(parameter, css_classes=["tick"], stylesheets=sheet()), parameter.doc
        )


def _show(item: pn.viewable.Viewable, shown: bool) -> None:
    """Show or hide a control; the style of its row would win over Panel's own way."""
    rest = [name for name in item.css_classes if name != "gone"]
    item.css_classes = rest if shown else [*rest, "gone"]


def _numbers(text: str) -> list[int]:
    """Return the whole numbers of a list with commas; what is none is left out, as it may come from an address."""
    return [int(part) for part in text.split(",") if part.isascii() and part.isdigit() and len(part) < 12]


def _hinted(item: pn.viewable.Viewable, hint: str) -> pn.Column:
    return _box("tool", item, _sign(hint))


def _sign(hint: str) -> pn.widgets.TooltipIcon:
    return pn.widgets.TooltipIcon(value=hint, css_classes=["hint"], stylesheets=sheet(), margin=0)


def _label(text: str) -> pn.pane.HTML:
    return pn.pane.HTML(text, css_classes=["label"], stylesheets=sheet(), margin=0)


def _box(name: str, *items: object) -> pn.Column:
    return pn.Column(*items, css_classes=name.split(), stylesheets=sheet(), margin=0)


def _button(text: str, act: object, hint: str) -> pn.widgets.Button:
    return pn.widgets.Button(
        label=text,
        on_click=lambda event: act(),  # type: ignore[operator]
        description=hint,
        css_classes=["button"],
        stylesheets=sheet(),
    )
