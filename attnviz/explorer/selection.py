"""Beside a head: what the selected points are, what they have in common, and a way to take them along."""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
import param
from numpy.typing import NDArray
from panel.viewable import Viewer

from attnviz.explorer import library, markup
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.guard import Guard
from attnviz.explorer.marks import lines_left, selected_here
from attnviz.explorer.rows import Rows
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.tables import fill, plain_table
from attnviz.export import TARGETS
from attnviz.export.tidy import tidy_tables
from attnviz.types import KINDS
from attnviz.views import count_kinds, selection_table, show_text, show_token

__all__ = ["SelectionPanel"]

WATCHED = ("run", "map", "layer", "head", "view", "selection")
LINES = (*WATCHED, "token", "kind", "top_k", "threshold")
LISTED = 5  # values of each property
TABLED = 100_000  # rows of the table: a file holds all
PAGE = 8
TITLES = {"sequence": "seq.", "position": "pos."}
EMPTY = pd.DataFrame(columns=["token", "kind", *TITLES.values(), "norm"])


class SelectionPanel(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """Counts, properties, table and files of the selected points."""

    place = "the selection"

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._rows: NDArray[np.int64] = state.selected
        self._counts = pn.pane.HTML("", css_classes=["counted"], stylesheets=sheet(), margin=0)
        self._lines = pn.pane.HTML("", stylesheets=sheet(), margin=0)
        self._traits: dict[str, Rows] = {}
        self._lists = pn.Column(css_classes=["stack"], stylesheets=sheet(), margin=0)
        self._table = plain_table(
            EMPTY, state.guard(self._pick), stretch="token", least=72, page_size=PAGE, place="low"
        )
        self._limit = pn.pane.HTML("", stylesheets=sheet(), margin=0)
        self._files = [self._file(to) for to in TARGETS]
        files = pn.Column(*self._files, css_classes=["row-line"], stylesheets=sheet(), margin=0)
        self._box = pn.Column(
            *(self._counts, self._lines, files, self._lists, self._table, self._limit),
            css_classes=["card", "stack"],
            stylesheets=sheet(),
            margin=0,
            visible=False,
        )
        follow(state, WATCHED, act=self._show)
        follow(state, LINES, act=self._tell_lines)
        attempt(state, act=self._show)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the panel."""
        return self._box

    def _show(self) -> None:
        state = self.state
        self._box.visible = state.view == "head" and len(state.selected) > 0 and state.map is not None
        if not self._box.visible:
            return
        self._rows = selected_here(state)
        queries, keys = count_kinds(state.directory, self._rows)
        self._counts.object = markup.selected(queries, keys, absent=len(state.selected) - len(self._rows))
        for file in self._files:
            file.filename = f"{state.directory.path.name}-{state.map}-{state.layer}-{state.head}.{file.label.lower()}"
            file.disabled = not len(self._rows)
        self._list_traits()
        self._fill_table()

    def _tell_lines(self) -> None:
        """Say so, if not all lines are drawn."""
        sentence = lines_left(self.state) if self._box.visible else ""
        self._lines.object = markup.quiet(sentence) if sentence else ""

    def _list_traits(self) -> None:
        """Say what is frequent among the selected points, and how much more so than among the others of the head."""
        run = self.state.directory
        every = np.flatnonzero(library.present(run)[self.state.layer]) % run.num_tokens
        traits = library.traits(run)
        if list(self._traits) != [trait.title for trait in traits]:
            self._traits = {trait.title: Rows() for trait in traits}
            self._lists.objects = [
                part for title, rows in self._traits.items() for part in (_subtitle(show_text(title)), rows)
            ]
        for trait, rows in zip(traits, self._traits.values(), strict=True):
            found = trait.against_rest(self._rows % run.num_tokens, every).head(LISTED)
            rows.items = _items(found, show_token if trait.of_tokens else show_text)

    def _fill_table(self) -> None:
        state, rows = self.state, self._rows[:TABLED]
        wall = library.wall(state.directory, state.map)
        placed = wall.points_of(state.layer, state.head)
        frame = selection_table(
            state.directory, rows, placed=placed, norms=state.directory.norms(state.layer, state.head)
        )
        frame["token"] = [show_token(text) for text in frame["token"]]
        frame["norm"] = frame["norm"].round(3)
        fill(self._table, frame.rename(columns=TITLES)[list(EMPTY)])
        cut = len(self._rows) - len(rows)
        self._limit.object = markup.quiet(f"The table holds the first {TABLED:,}; a file holds all.") if cut else ""

    def _pick(self, event: Any) -> None:
        """Choose the point of a row of the table."""
        if 0 <= event.row < len(self._rows):
            kind, token = divmod(int(self._rows[event.row]), self.state.directory.num_tokens)
            self.state.select(token, KINDS[kind])

    def _file(self, to: str) -> pn.widgets.FileDownload:
        return _File(
            self.state.guard,
            callback=lambda: self._write(to),
            label={"csv": "CSV"}.get(to, to.capitalize()),
            filename=f"selection.{to}",
            css_classes=["button"],
            stylesheets=sheet(),
            margin=0,
        )

    def _write(self, to: str) -> io.BytesIO:
        """Return the selected points as a file, with the columns of ``attnviz export``."""
        state, run = self.state, self.state.directory
        table = next(iter(tidy_tables(run, state.map, layers=[state.layer], heads=[state.head])))
        present = np.flatnonzero(library.present(run)[state.layer])  # the order of the table's rows
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"selection.{to}"
            TARGETS[to]([table.take(np.searchsorted(present, self._rows))], path)
            return io.BytesIO(path.read_bytes())


class _File(pn.widgets.FileDownload):  # type: ignore[misc]  # panel publishes no usable types
    """A button that hands a file over; where it cannot be made, the page says why, and no empty file is handed over."""

    def __init__(self, guard: Guard, **params: Any) -> None:
        self._guard = guard
        super().__init__(**params)

    @param.depends("_clicks", watch=True)  # type: ignore[untyped-decorator]
    def _transfer(self) -> None:
        self._guard.run(super()._transfer, key=self)


def _subtitle(text: str) -> pn.pane.HTML:
    return pn.pane.HTML(markup.subtitle(text), css_classes=["subtitle"], stylesheets=sheet(), margin=0)


def _items(frame: pd.DataFrame, show: Callable[[str], str]) -> list[dict[str, object]]:
    items: list[dict[str, object]] = []
    most = max(float(frame["share"].max()), 1e-12) if len(frame) else 1.0
    for name, count, share, rest, lift in frame.itertuples(index=False):
        items.append(
            {
                "name": show(str(name)),
                "place": f"× {lift:.1f}" if np.isfinite(lift) else "only here",
                "share": share / most,
                "number": f"{share * 100:.1f} %",
                "hint": f"{count:,} points: {share * 100:.2f} % of the selected, {rest * 100:.2f} % of the others",
            }
        )
    return items
