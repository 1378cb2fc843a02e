"""The menu that saves what is seen: PNG and SVG made by the browser from the figures it shows, a page, and a link.

The browser paints its figures once more, at the chosen number of pixels or as SVG, so a picture is what was on the screen: the
window, the selection, the colours. Nothing is asked of the network.
"""

from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import panel as pn
import param

from attnviz.errors import DatasetError
from attnviz.explorer.guard import Guard
from attnviz.explorer.offline import StillPage, head_page, sequence_page
from attnviz.explorer.offline_wall import wall_page
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.swatches import Swatch
from attnviz.plots.theme import FONT

__all__ = ["Saver", "pages", "saver"]


class Saver(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """The menu. ``page`` is called with ``head``, ``wall`` or ``sequence`` and returns a page."""

    paper = param.String(default="#ffffff", doc="The colour behind the figures")
    ink = param.String(default="#000000", doc="Of the legend")
    muted = param.String(default="#000000", doc="Of the caption")
    font = param.String(default=FONT)
    summary = param.String(default="", doc="The caption, and the title of an SVG")
    name_of = param.String(default="attnviz", doc="What files are called")
    in_cell = param.Boolean(
        default=False, doc="Whether the page is a notebook's: its address leads to no state of ours"
    )
    place = "saving"
    guard = param.ClassSelector(class_=Guard, default=None)
    page = param.Callable(default=None)
    legend = param.Callable(default=None, doc="Returns what the colours of the figures mean")

    _esm = files("attnviz.explorer").joinpath("saver.js").read_text("utf-8")
    _rename = {"guard": None, "page": None, "legend": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def _handle_msg(self, msg: Any) -> None:
        self.guard.run(self._answer, str(msg), refuse=lambda problem: self._send_msg({"problem": problem}))

    def _answer(self, msg: str) -> None:
        if msg == "legend":
            self._send_msg({"legend": [asdict(swatch) for swatch in self.legend()]})
            return
        made = self.page(msg)
        name = f"{self.name_of}-all-heads" if msg == "wall" and not self.name_of.endswith("-all") else self.name_of
        self._send_msg({"html": made.html, "name": f"{name}.html"})


def saver(state: State, legend: Callable[[], list[Swatch]], *, in_cell: bool = False) -> Saver:
    """Return the menu of a session; ``legend`` says what the colours of the figures mean."""
    return Saver(
        guard=state.guard,
        page=pages(state),
        legend=legend,
        in_cell=in_cell,
        css_classes=["saver"],
        stylesheets=sheet(),
    )


def pages(state: State) -> Callable[[str], StillPage]:
    """Return what makes a page of what a session shows: of its ``head``, of the ``wall`` of all, or of the chosen ``sequence``."""

    def make(what: str) -> StillPage:
        """Return the page; raise ``DatasetError`` where there is nothing of that kind to save."""
        if state.map is None or state.problem:
            raise DatasetError("There is nothing to save yet.")
        if what == "wall":
            return wall_page(state)
        if what == "head" and state.view != "all":
            return head_page(state)
        if what == "sequence" and state.token is not None and state.view != "all":
            return sequence_page(state, int(state.directory.tokens["sequence_id"].iloc[state.token]))
        missing = "Open a head first." if what == "head" else "Click a point first: its sequence is what is saved."
        raise DatasetError(missing)

    return make
