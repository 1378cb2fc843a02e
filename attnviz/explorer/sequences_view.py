"""The view of all sequences: a table to search and sort; a click opens one."""

from typing import Any

import pandas as pd
import panel as pn

from attnviz.explorer.controls import box, field
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.tables import plain_table
from attnviz.explorer.view import View
from attnviz.views import first_token, sequence_table

__all__ = ["SequenceTable"]

ROWS = 50  # on a page: the browser is given no more


class SequenceTable(View):
    """All sequences of the run."""

    of_map = False

    def __init__(self, state: State) -> None:
        super().__init__(state)
        sought = field(pn.widgets.TextInput, state, "find", "find", placeholder="text, reference, label…")
        self._count = pn.pane.HTML("", css_classes=["quiet"], stylesheets=sheet(), margin=0)
        self._frame = pd.DataFrame()
        self._place = box("table-place")
        self._box = box("one-head", box("tools", sought, self._count), self._place)
        self._shown: tuple[str, str] | None = None
        follow(state, ["run", "view", "find"], act=self._show)
        attempt(state, act=self._show)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the table with its search field."""
        return self._box

    def summary(self) -> str:
        """Return one sentence that says what the table shows."""
        return f"{self._found()} Click one to open it at its first token." if self._shown else ""

    def _found(self) -> str:
        total = self.state.directory.num_sequences
        count = f"{len(self._frame):,} of {total:,}" if self.state.find else f"{total:,}"
        return f"{count} sequences."

    def _show(self) -> None:
        asked = (self.state.run, self.state.find)
        if self.state.view != "sequences" or asked == self._shown:
            return
        self._frame = sequence_table(self.state.directory, self.state.find)
        self._count.object = self._found()
        self._place.objects = [self._table()]
        self._shown = asked

    def _table(self) -> pn.widgets.Tabulator:
        stretch = next((name for name in ("Text", "Reference") if name in self._frame), "#")
        return plain_table(
            self._frame, self.state.guard(self._open), stretch=stretch, least=180, page_size=ROWS, place="tall"
        )

    def _open(self, event: Any) -> None:
        """Show the sequence that was clicked, at its first token."""
        sequence = int(self._frame.iloc[event.row]["#"])
        state = self.state
        state.select(first_token(state.directory, sequence))
        if "sequence" in state.param:
            state.sequence = sequence
        state.view = "head"
