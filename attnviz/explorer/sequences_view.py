"""The view of all sequences: a table to search and sort; a click opens one.

Texts and names of columns come from a run: cells are plain text to Tabulator, and titles, which it reads as HTML, are escaped.
"""

from html import escape
from typing import Any

import pandas as pd
import panel as pn

from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.view import View
from attnviz.views import first_token, sequence_table

__all__ = ["SequenceTable"]

ROWS = 50  # on a page: the browser is given no more
WIDTHS = {"#": 60, "Tokens": 80, "Text": 420, "Second text": 260}  # the others share what is left


class SequenceTable(View):
    """All sequences of the run."""

    of_map = False

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._field = pn.widgets.TextInput.from_param(
            state.param.find,
            description=None,
            placeholder="text, reference, label…",
            css_classes=["field", "find"],
            stylesheets=sheet(),
        )
        self._count = pn.pane.HTML("", css_classes=["quiet"], stylesheets=sheet(), margin=0)
        self._frame = pd.DataFrame()
        self._place = pn.Column(css_classes=["table-place"], stylesheets=sheet(), margin=0)
        top = pn.Column(self._field, self._count, css_classes=["tools"], stylesheets=sheet(), margin=0)
        self._box = pn.Column(top, self._place, css_classes=["one-head"], stylesheets=sheet(), margin=0)
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
        self._shown = asked
        self._count.object = self._found()
        self._place.objects = [self._table()]

    def _table(self) -> pn.widgets.Tabulator:
        """Return a table of the frame, its columns called c0, c1… so that a dot in a name is no path."""
        names = {f"c{number}": str(name) for number, name in enumerate(self._frame)}
        table = pn.widgets.Tabulator(
            self._frame.set_axis(list(names), axis=1),
            titles={column: escape(name) for column, name in names.items()},
            formatters={column: {"type": "plaintext"} for column in names},
            widths={column: WIDTHS[name] for column, name in names.items() if name in WIDTHS},
            pagination="remote",
            page_size=ROWS,
            show_index=False,
            disabled=True,
            selectable=False,
            layout="fit_columns",
            sizing_mode="stretch_both",
            css_classes=["sequences"],
            stylesheets=sheet(),
            margin=0,
        )
        table.on_click(self._open)
        return table

    def _open(self, event: Any) -> None:
        """Show the sequence that was clicked, at its first token."""
        sequence = int(self._frame.iloc[event.row]["#"])
        state = self.state
        state.select(first_token(state.directory, sequence))
        if "sequence" in state.param:
            state.sequence = sequence
        state.view = "head"
