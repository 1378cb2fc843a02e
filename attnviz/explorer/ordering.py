"""The controls of the wall: in which order heads lie, which of them are left out, and the window that all tiles share."""

import numpy as np
import panel as pn
from panel.viewable import Viewer

from attnviz.explorer.controls import box, field, tick
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet

__all__ = ["HeadOrder"]

STEPS = 100  # of the range of a number


class HeadOrder(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """Order, filter and shared window; shown with the wall only."""

    place = "the side bar"

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._upward = tick(state, "ascending")
        self._range = pn.widgets.RangeSlider(
            label="Heads from … to", css_classes=["field"], sizing_mode="stretch_width", stylesheets=sheet()
        )
        self._range.param.watch(state.guard(self._filter), "value_throttled")
        order = field(pn.widgets.Select, state, "order")
        some = [field(pn.widgets.TextInput, state, name, placeholder="all") for name in ("only_layers", "only_heads")]
        self._of_wall = [order, tick(state, "local")]
        self._box = box("group", order, self._upward, self._range, self._of_wall[1], *some)
        follow(state, ["run", "map", "order", "least", "most", "view"], act=self._show)
        attempt(state, act=self._show)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the controls."""
        return self._box

    def _show(self) -> None:
        """Offer the range of the chosen number."""
        state = self.state
        self._box.visible = state.view in ("all", "model")
        for item in self._of_wall:
            item.visible = state.view == "all"
        ordered = bool(state.order) and state.map is not None and state.view == "all"
        self._upward.visible = self._range.visible = ordered
        if not ordered:
            return
        values = state.head_number().to_numpy(np.float64)
        known = values[np.isfinite(values)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        high = high if high > low else low + 1.0
        chosen = tuple(
            float(np.clip(end if limit is None else limit, low, high))
            for limit, end in ((state.least, low), (state.most, high))
        )
        self._range.param.update(start=low, end=high, step=(high - low) / STEPS, format="0.00", value=chosen)

    def _filter(self, *events: object) -> None:
        low, high = self._range.value_throttled
        least, most = low if low > self._range.start else None, high if high < self._range.end else None
        self.state.param.update(least=least, most=most)
