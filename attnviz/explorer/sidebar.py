"""The side bar: every control is made from a parameter of ``State`` and has no state of its own."""

import panel as pn
from panel.viewable import Viewer

from attnviz.explorer import markup
from attnviz.explorer.controls import box, field, segments, tick
from attnviz.explorer.filters import SCENE
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.legend import Legend
from attnviz.explorer.ordering import HeadOrder
from attnviz.explorer.scene import make_scene
from attnviz.explorer.searching import SearchBox
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.views import as_classes, in_rows

__all__ = ["Sidebar"]

LEGENDS = ("run", "map", "theme", "layer", "head", "view", *SCENE)
MASKS = ("hide_special", "hide_punctuation", "hide_first")


class Sidebar(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """Controls, legend and counts."""

    place = "the side bar"

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._method = _html("quiet")
        self._legend = Legend(state.guard(state.show_entry))
        self._as_classes = tick(state, "as_classes")
        self._search = SearchBox(state)
        self._angles = _group(
            field(pn.widgets.IntSlider, state, "azimuth"), field(pn.widgets.IntSlider, state, "elevation")
        )
        self._heads = HeadOrder(state).__panel__()
        self._box = pn.Column(*self._groups(), css_classes=["side"], stylesheets=sheet(), margin=0)
        follow(state, LEGENDS, act=self._show)
        attempt(state, act=self._show)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the side bar."""
        return self._box

    def toggle(self) -> bool:
        """Open or close the side bar where it does not fit beside the view; return whether it is open."""
        is_open = "open" not in self._box.css_classes
        self._box.css_classes = ["side", "open"] if is_open else ["side"]
        return is_open

    def _groups(self) -> list[pn.viewable.Viewable]:
        state = self.state
        return [
            _group(field(pn.widgets.Select, state, "run")),
            _group(field(pn.widgets.Select, state, "map"), self._method, self._angles, tick(state, "alike")),
            _group(field(pn.widgets.Select, state, "color"), self._as_classes, self._legend),
            self._search.__panel__(),
            _group(segments(state, "kinds"), *[tick(state, name) for name in MASKS]),
            self._heads,
        ]

    def _show(self) -> None:
        state = self.state
        info = state.directory.maps.get(state.map) if state.map else None
        self._method.object = markup.map_line(info)
        self._angles.visible = info is not None and info.spec.dims == 3
        self._as_classes.visible = as_classes(state.directory, state.color) is not None
        if info is None:
            self._legend.html = ""
            return
        one = state.view == "head"
        heads = [(layer.layer, head) for layer in in_rows(state.directory) for head in range(layer.num_heads)]
        scene = make_scene(state, ((state.layer, state.head),) if one else tuple(heads))
        self._legend.html = markup.legend(scene)
        self._search.show(scene, one=one)


def _html(name: str) -> pn.pane.HTML:
    return pn.pane.HTML("", css_classes=[name], stylesheets=sheet(), sizing_mode="stretch_width")


def _group(*items: pn.viewable.Viewable) -> pn.Column:
    return box("group", *items)
