"""The controls of the sentence view: which layer, heads and sequence, and what is done to the weights."""

from collections.abc import Sequence

import panel as pn

from attnviz.explorer import markup
from attnviz.explorer.controls import box, button, field, foldable, labelled, segments, tick
from attnviz.explorer.ranges import as_ranges, in_ranges
from attnviz.explorer.squares import Squares
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.plots.theme import THEMES, head_colors, ink_on
from attnviz.views import has_pair, has_words, in_rows, layer_name

__all__ = ["Controls", "heads_of", "hidden_of"]

SQUARES = "Click a head to show or hide it. Double click it, or hold Shift and click, to see it alone."
LAYER = "Which layer's heads read the sequence."
HIDE = (
    "Hide tokens here and on the maps. What a query gives to the rest is scaled up, as if the hidden ones were not there. "
    "Many heads put what they have no use for on the first position."
)
NO_HEADS = "none"
OF_ONE = (
    "Whole words, the two texts of a pair and clicked tokens stand at other positions in each sequence. "
    "So a mean by position leaves them as they are."
)


def heads_of(state: State) -> tuple[int, ...]:
    """Return the heads that are shown, of the layer's; all, if the state names none that there is."""
    count = state.directory.layers[state.layer].num_heads
    if state.sentence_heads == NO_HEADS:
        return ()
    return tuple(sorted(in_ranges(state.sentence_heads, 0, count))) or tuple(range(count))


def hidden_of(state: State) -> frozenset[int]:
    """Return the tokens of the sequence that are hidden by a click."""
    rows = state.directory.token_slice(state.sequence)
    return in_ranges(state.sentence_hidden, rows.start, rows.stop)


class Controls:
    """A row above the figure and a card beside it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._layer = pn.widgets.Select(
            label="Layer", description=LAYER, css_classes=["field"], stylesheets=sheet(), margin=0
        )
        self._layer.param.watch(state.guard(lambda event: self._choose_layer(event.new)), "value")
        self._sequence = field(pn.widgets.IntInput, state, "sequence", "narrow", start=0)
        self._squares = Squares(pick=state.guard(self.pick), stylesheets=sheet(), margin=0)
        self._pairs = segments(state, "sentence_pairs")
        self._words = tick(state, "sentence_words")
        self._values = tick(state, "sentence_values")
        self._click = segments(state, "sentence_click")
        self._of_one = pn.pane.HTML(markup.quiet(OF_ONE), stylesheets=sheet(), margin=0)
        self._lacks = pn.pane.HTML("", stylesheets=sheet(), margin=0)
        self.above = self._above()
        self.beside = box("card options", *self._beside())

    def pick(self, head: int, only: bool) -> None:
        """Show or hide a head, or show it alone."""
        shown = {head} if only else set(heads_of(self.state)) ^ {head}
        self.show_heads(sorted(shown))

    def show_heads(self, heads: Sequence[int]) -> None:
        """Show some heads of the layer."""
        count = self.state.directory.layers[self.state.layer].num_heads
        every = len(heads) == count
        self.state.sentence_heads = "" if every else as_ranges(heads) or NO_HEADS

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
        self._sequence.param.update(end=last, label=f"Sequence, 0 to {last:,}")
        theme = THEMES[state.theme]
        colors = head_colors(theme, run.layers[state.layer].num_heads)
        self._squares.param.update(
            colors=colors, inks=[ink_on(theme, color) for color in colors], shown=list(heads_of(state))
        )
        one = state.sentence_scope == "one"
        self._pairs.visible = one and (state.sentence_pairs != "all" or has_pair(run, state.layer, state.sequence))
        self._words.visible = one and (state.sentence_words or has_words(run, state.sequence))
        self._lacks.param.update(object=markup.quiet(run.lacks), visible=one and bool(run.lacks))
        self._click.visible = self._stepper.visible = one
        self._of_one.visible = not one

    def _above(self) -> pn.Column:
        guard = self.state.guard
        before = button(
            "‹", guard(lambda: self.step(-1)), "Go to the previous sequence.", "step", label="Previous sequence"
        )
        after = button("›", guard(lambda: self.step(1)), "Go to the next sequence.", "step", label="Next sequence")
        self._stepper = box("control-row", self._sequence, before, after)
        show_all, show_none = guard(lambda: self.show_heads(range(self._count))), guard(lambda: self.show_heads([]))
        every = button("All", show_all, "Show all heads.", label="All heads of the layer")
        none = button("None", show_none, "Show no head.", label="No head")
        rest = [
            segments(self.state, "sentence_scope"),
            segments(self.state, "sentence_form"),
            labelled("Heads", self._squares, every, none, description=SQUARES),
        ]
        return foldable(self.state, "tools", [self._layer, self._stepper], rest)

    def _beside(self) -> list[pn.viewable.Viewable]:
        masks = {"hide_special": "Special tokens", "hide_punctuation": "Punctuation", "hide_first": "First position"}
        ticks = [tick(self.state, name, label) for name, label in masks.items()]
        hidden = labelled("Hide", *ticks, description=HIDE)
        joined = segments(self.state, "sentence_join")
        return [joined, self._pairs, self._click, hidden, self._words, self._lacks, self._values, self._of_one]

    @property
    def _count(self) -> int:
        return self.state.directory.layers[self.state.layer].num_heads

    def _choose_layer(self, layer: int | None) -> None:
        if layer is not None and layer in self.state.directory.layers and layer != self.state.layer:
            heads = self.state.directory.layers[layer].num_heads
            self.state.param.update(layer=layer, head=min(self.state.head, heads - 1))
