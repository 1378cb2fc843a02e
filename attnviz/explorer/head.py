"""The view of one head: its map, another map of it beside the first if one is chosen, and the controls above them."""

import panel as pn

from attnviz.explorer import markup
from attnviz.explorer.compare import ComparedMap
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.headmap import HeadMap
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.explorer.tools import Tools

__all__ = ["OneHead"]


class OneHead(HeadMap):
    """One head of the chosen map, with what belongs to it."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._second = ComparedMap(state)
        self._names = [pn.pane.HTML("", css_classes=["map-name"], stylesheets=sheet(), margin=0) for _ in range(2)]
        self._maps = [
            pn.Column(name, shown, css_classes=["map"], stylesheets=sheet(), margin=0)
            for name, shown in zip(self._names, (self._pane, self._second.__panel__()), strict=True)
        ]
        self._pair = pn.Column(*self._maps, css_classes=["pair"], stylesheets=sheet(), margin=0)
        self._box = pn.Column(Tools(state), self._pair, css_classes=["one-head"], stylesheets=sheet(), margin=0)
        follow(state, ["map", "compare"], act=self._arrange)
        follow(state, ["view"], act=self._arrive)
        attempt(state, act=self._arrange)
        attempt(state, act=self._arrive)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the maps with their controls."""
        return self._box

    def fit(self) -> None:
        """Show everything again, on both maps."""
        super().fit()
        self._second.fit()

    def summary(self) -> str:
        """Return one sentence that says what the canvas shows."""
        said = super().summary()
        return f"{said} Beside it: map {self.state.compare}." if said and self.state.compare else said

    def _arrive(self) -> None:
        """Begin with the part that was seen on the wall."""
        if self.state.view == "head" and self.state.arrival is not None and self._wires is not None:
            self._wires.go(self.state.arrival)
            self.state.arrival = None

    def _arrange(self) -> None:
        """Make room for the second map, or take it back."""
        two = bool(self.state.compare)
        self._pair.css_classes = ["pair", "two"] if two else ["pair"]
        self._maps[1].visible = two
        for name, title in zip(self._names, (self.state.map, self.state.compare), strict=True):
            name.object = markup.chips([f"map {title}"]) if two else ""
            name.visible = two
