"""The controls above a head: what a drag does, what is beside the map, which lines and marks it has."""

import panel as pn
from panel.viewable import Viewer

from attnviz.explorer.controls import box, field, foldable, segments, tick
from attnviz.explorer.state import State

__all__ = ["Tools"]


class Tools(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """One row of controls."""

    def __init__(self, state: State) -> None:
        super().__init__()
        rest = [
            field(pn.widgets.Select, state, "compare"),
            field(pn.widgets.IntInput, state, "top_k", "narrow"),
            field(pn.widgets.FloatInput, state, "threshold", "narrow", step=0.01),
            box("ticks", tick(state, "size_by_norm"), tick(state, "density")),
        ]
        self._box = foldable(state, "tools", [segments(state, "drag")], rest)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the row."""
        return self._box
