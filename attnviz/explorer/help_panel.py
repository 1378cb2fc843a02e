"""The button that opens the help, the help, and the card that greets a first visit."""

from importlib.resources import files

import panel as pn
import param

from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.help import HINT, help_sections
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet

__all__ = ["SEEN", "HelpPanel"]

SEEN = "attnviz-hint"  # what a browser keeps once its reader has closed the card


class HelpPanel(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """Help for what a session shows."""

    place = "the help"

    sections = param.List(default=[], doc="A title, and rows of a term and what is said of it")
    hint = param.List(default=[*HINT], doc="The lines of the card")
    seen = param.String(default=SEEN)
    in_cell = param.Boolean(default=False, doc="Whether the page is a notebook's, and only a cell of it ours")

    _esm = files("attnviz.explorer").joinpath("help.js").read_text("utf-8")

    def __init__(self, state: State, *, in_cell: bool = False) -> None:
        super().__init__(in_cell=in_cell, css_classes=["help"], stylesheets=sheet(), margin=0)
        self._state = state
        follow(state, ["view"], act=self._show)
        attempt(state, act=self._show)

    def _show(self) -> None:
        self.sections = [[title, [list(row) for row in rows]] for title, rows in help_sections(self._state)]
