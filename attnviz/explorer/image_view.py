"""The view of images: attention on the picture itself, as a heat or as arrows from patch to patch; one image, or many at once."""

from collections.abc import Callable

import numpy as np
import panel as pn
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.explorer import markup
from attnviz.explorer.class_list import class_line
from attnviz.explorer.controls import Press, box, button, field, foldable, segments
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.image_grid import ImageGrid, images_of, label_column
from attnviz.explorer.image_one import OneImage
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.view import View
from attnviz.views import layer_name, prediction_phrase, read_prediction, show_text

__all__ = ["ImageView"]

REDRAWS = (
    *("run", "view", "theme", "layer", "head", "sequence", "token", "kind"),
    *("image_form", "image_show", "image_least", "image_of", "image_count", "image_page"),
    *("search", "how", "where", "case"),
)
RULES = """
:host(:where(.image)) { display: grid; }
:host(.image) { grid-template-rows: auto auto minmax(0, 1fr); width: 100% !important; height: 100% !important; min-height: 0; }
:host(.image-said) { padding: 6px 12px 2px; }
:host(.image-said) > div { font-size: 12px; line-height: 17px; color: var(--av-muted); }
:host(.image-place) { width: 100% !important; height: 100% !important; min-height: 0; min-width: 0; }
:host(.image-place) .note { padding: 32px 24px; }
:host(.opacity) .bk-input-group { width: 132px; }
"""


class ImageView(View):
    """The picture of a sequence under one head, or many pictures."""

    of_map = False

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._one, self._grid = OneImage(state, self._pane), ImageGrid(state, self._pane)
        self._note = pn.pane.HTML("", stylesheets=[*sheet(), RULES], visible=False)
        self._said = pn.pane.HTML("", css_classes=["image-said"], stylesheets=[*sheet(), RULES], margin=0)
        self._build()
        follow(state, REDRAWS, act=self._redraw)
        follow(state, ["image_opacity"], act=self._cover)
        attempt(state, act=self._redraw)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the controls, what is said of the picture, and the figure."""
        return self._box

    def fit(self) -> None:
        """Show the whole picture again, or the whole grid."""
        if self._canvas.wires is not None:
            self._canvas.wires.fit()

    def heading(self) -> tuple[str, str]:
        """Return the title of the view and a quieter part."""
        state, run = self.state, self.state.directory
        title = f"{layer_name(run.layers[state.layer])} · Head {state.head}"
        if state.image_form == "grid" or state.sequence >= run.num_sequences:
            return title, ""
        found = read_prediction(run, state.sequence)
        label = "" if found is None else f", {prediction_phrase(found)}"
        name = label_column(run)
        if name in run.manifest.attributes and (found is None or found.given is None):
            value = run.columns[name].texts[state.sequence].as_py()
            label = ("" if value is None else f", {name} {show_text(value, longest=60)}") + label
        return title, f"Image of sequence {state.sequence}{label}"

    def summary(self) -> str:
        """Return one sentence that says what the canvas shows."""
        if self._note.visible or not self._canvas.said:
            return ""
        title, what = self.heading()
        return f"{title}. {what + '. ' if what else ''}{self._canvas.said}"

    @property
    def _canvas(self) -> OneImage | ImageGrid:
        return self._one if self.state.image_form == "one" else self._grid

    def _build(self) -> None:
        state = self.state
        self._sequence = field(pn.widgets.IntInput, state, "sequence", "narrow", start=0)
        before, after = self._stepper(self._step, "image")
        back, on = self._stepper(self._turn, "page")
        self._page = pn.pane.HTML("", css_classes=["label"], stylesheets=sheet(), margin=0)
        self._of_one = [
            box("control-row", self._sequence, before, after),
            segments(state, "image_show"),
            field(pn.widgets.FloatInput, state, "image_least", "narrow", step=0.05),
        ]
        self._of_grid = [
            box("control-row", back, self._page, on),
            segments(state, "image_of"),
            segments(state, "image_count"),
        ]
        self._opacity = field(pn.widgets.IntSlider, state, "image_opacity", "opacity", step=5)
        first = [segments(state, "image_form"), self._of_one[0], self._of_grid[0], segments(state, "kind")]
        tools = foldable(state, "tools", first, [*self._of_one[1:], *self._of_grid[1:], self._opacity])
        place = pn.Column(self._note, self._pane, css_classes=["image-place"], stylesheets=[*sheet(), RULES], margin=0)
        self._box = pn.Column(tools, self._said, place, css_classes=["image"], stylesheets=[*sheet(), RULES], margin=0)

    def _stepper(self, go: Callable[[int], None], what: str) -> list[Press]:
        """Return two buttons that call ``go`` with -1 and 1."""

        def make(sign: str, by: int, name: str) -> Press:
            """Return the button of one direction."""
            return button(
                sign,
                self.state.guard(lambda: go(by)),
                f"Go to the {name} {what}.",
                "step",
                label=f"{name.capitalize()} {what}",
            )

        return [make("‹", -1, "previous"), make("›", 1, "next")]

    def _redraw(self) -> None:
        """Take everything from the state; where there is no picture to draw on, say so."""
        state = self.state
        if state.view != "image":
            return
        images = images_of(state.directory)
        if len(images) and state.sequence == 0 and state.token is None and images[0] != 0:
            state.sequence = int(images[0])  # which calls this again
            return
        self._update()
        sentence = self._draw(images)
        self._note.param.update(object=markup.note(sentence) if sentence else "", visible=bool(sentence))
        self._pane.visible = not sentence
        classes = class_line(state.directory, state.sequence) if state.image_form == "one" else ""
        self._said.object = markup.line("" if sentence else f"{self._canvas.said} {classes}".rstrip())
        self._page.object = (
            "" if sentence else f"Page {min(state.image_page, self._grid.pages - 1) + 1} of {self._grid.pages}"
        )

    def _draw(self, images: NDArray[np.int64]) -> str:
        """Draw; return why there is nothing to draw, or an empty text."""
        state, run = self.state, self.state.directory
        one = state.image_form == "one"
        if not len(images):
            return "This run has no picture in any of its sequences."
        if one and state.sequence not in images:
            near = int(images[np.argmin(np.abs(images - state.sequence))])
            return f"Sequence {state.sequence} has no image. The nearest one that has is sequence {near}."
        try:
            self._one.draw(int(state.sequence)) if one else self._grid.draw()
        except DatasetError as error:
            if one and run.layers[state.layer].rebuilt:
                raise
            return str(error)
        return ""

    def _update(self) -> None:
        """Show the controls that mean something now."""
        state = self.state
        one, last = state.image_form == "one", state.directory.num_sequences - 1
        for item in self._of_one:
            item.visible = one
        for item in self._of_grid:
            item.visible = not one
        self._of_one[2].visible = one and state.image_show == "flows"
        self._opacity.visible = not one or state.image_show == "heat"
        self._sequence.param.update(end=last, label=f"Sequence, 0 to {last:,}")

    def _cover(self) -> None:
        if self.state.view == "image" and not self._note.visible and self._canvas.said:
            self._canvas.cover()

    def _step(self, by: int) -> None:
        """Go to a neighbouring image, staying at the ends."""
        every = images_of(self.state.directory)
        beyond = every[every > self.state.sequence] if by > 0 else every[every < self.state.sequence][::-1]
        if len(beyond):
            self.state.sequence = int(beyond[0])

    def _turn(self, pages: int) -> None:
        last = self._grid.pages - 1
        self.state.image_page = min(max(min(self.state.image_page, last) + pages, 0), last)
