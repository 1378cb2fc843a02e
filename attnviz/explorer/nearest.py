"""Beside a head: the chosen point's strongest partners over all sequences, and its nearest on the map; a click chooses one."""

import pandas as pd
import panel as pn
from panel.viewable import Viewer

from attnviz.errors import DatasetError
from attnviz.explorer import library, markup
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.rows import Rows
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.views import NEAR, PARTNER, nearest_partners, patch_name

__all__ = ["NearestPanel"]

WATCHED = ("run", "map", "layer", "head", "token", "kind", "view")


class NearestPanel(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """Two short lists of partners."""

    place = "the nearest points"

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._frames: list[pd.DataFrame] = []
        self._titles = [pn.pane.HTML("", css_classes=["subtitle"], stylesheets=sheet(), margin=0) for _ in range(2)]
        self._lists = [Rows(state.guard(act)) for act in (self._strongest, self._nearest)]
        self._note = pn.pane.HTML("", stylesheets=sheet(), margin=0)
        parts = [part for pair in zip(self._titles, self._lists, strict=True) for part in pair]
        self._box = pn.Column(
            *parts, self._note, css_classes=["card", "stack"], stylesheets=sheet(), margin=0, visible=False
        )
        follow(state, WATCHED, act=self._show)
        attempt(state, act=self._show)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the panel."""
        return self._box

    def _show(self) -> None:
        state, token, kind = self.state, self.state.token, self.state.kind_here
        self._box.visible = state.view == "head" and token is not None and kind is not None and state.map is not None
        if not self._box.visible or token is None or kind is None:
            return
        wall = library.wall(state.directory, state.map)
        placed = wall.points_of(state.layer, state.head)
        try:
            self._frames = list(nearest_partners(state.directory, state.layer, state.head, token, kind, placed=placed))
        except DatasetError as error:
            if state.directory.layers[state.layer].rebuilt:
                raise
            self._refuse(str(error))
            return
        self._fill(PARTNER[kind])

    def _refuse(self, sentence: str) -> None:
        for title, rows in zip(self._titles, self._lists, strict=True):
            title.object, rows.items = "", []
        self._note.object = markup.note(sentence)

    def _fill(self, kind: str) -> None:
        words = {"query": "queries", "key": "keys"}[kind]
        titles = f"Strongest {words} of all sequences, by q·k", f"Nearest {words} on map {self.state.map}"
        for number, (title, frame) in enumerate(zip(titles, self._frames, strict=True)):
            self._titles[number].object = markup.subtitle(title)
            other = ("map_rank", "product_rank")[number]
            self._lists[number].items = self._items(frame, other, ("on map", "by q·k")[number])
        near = int((self._frames[0]["map_rank"] <= NEAR).sum())
        self._note.object = markup.quiet(
            f"{near} of the {len(self._frames[0])} strongest are among the {NEAR} nearest {words} on this map."
        )

    def _items(self, frame: pd.DataFrame, rank: str, where: str) -> list[dict[str, object]]:
        run = self.state.directory
        most = max(float(self._frames[0]["product"].abs().max()), 1e-12)
        tokens = run.tokens[["sequence_id", "position"]]
        items: list[dict[str, object]] = []
        for token, product, place in zip(
            frame["token"].tolist(), frame["product"].tolist(), frame[rank].tolist(), strict=True
        ):
            row = tokens.iloc[token]
            items.append(
                {
                    "name": patch_name(run, token),
                    "place": f"{place:,}. {where}",
                    "share": max(product, 0.0) / most,
                    "number": f"{product:,.1f}",
                    "hint": f"Sequence {row.sequence_id}, position {row.position}. Click to select it.",
                }
            )
        return items

    def _strongest(self, number: int) -> None:
        self._choose(0, number)

    def _nearest(self, number: int) -> None:
        self._choose(1, number)

    def _choose(self, which: int, number: int) -> None:
        kind = self.state.kind_here
        if kind is not None and number < len(self._frames[which]):
            self.state.select(int(self._frames[which]["token"].iloc[number]), PARTNER[kind])
