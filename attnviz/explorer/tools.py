"""The controls above a head: what a drag does, what is beside the map, which lines and marks it has."""

import panel as pn
from panel.viewable import Viewer

from attnviz.explorer.state import State
from attnviz.explorer.style import sheet

__all__ = ["Tools"]

DRAG = (
    "What a drag on the map does: move it, or select the points inside a box or a lasso. Hold Shift to add to the selection; "
    "Escape clears it."
)


class Tools(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """One row of controls."""

    def __init__(self, state: State) -> None:
        super().__init__()
        drag = pn.widgets.RadioButtonGroup.from_param(state.param.drag, css_classes=["choice"], stylesheets=sheet())
        ticks = [
            _hinted(pn.widgets.Checkbox.from_param(parameter, css_classes=["tick"], stylesheets=sheet()), parameter.doc)
            for parameter in (state.param.size_by_norm, state.param.density)
        ]
        self._box = pn.Column(
            _hinted(drag, DRAG),
            _field(pn.widgets.Select, state, "compare", "wide"),
            _field(pn.widgets.IntInput, state, "top_k", "narrow"),
            _field(pn.widgets.FloatInput, state, "threshold", "narrow", step=0.01),
            *ticks,
            css_classes=["tools"],
            stylesheets=sheet(),
            margin=0,
        )

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the row."""
        return self._box


def _field(
    widget: type[pn.widgets.Widget], state: State, name: str, size: str, **options: float
) -> pn.viewable.Viewable:
    parameter = state.param[name]
    quiet = {"description": None} if "description" in widget.param else {}
    classes = ["field", "beside-label", name, size]
    made = widget.from_param(parameter, css_classes=classes, stylesheets=sheet(), margin=0, **quiet, **options)
    return _hinted(made, parameter.doc)


def _hinted(item: pn.viewable.Viewable, hint: str) -> pn.Column:
    sign = pn.widgets.TooltipIcon(value=hint, css_classes=["hint"], stylesheets=sheet(), margin=0)
    return pn.Column(item, sign, css_classes=["row", "tight"], stylesheets=sheet(), margin=0)
