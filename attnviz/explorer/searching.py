"""The search box: what is sought, in what, and how it must match; and how much was found."""

import panel as pn
from panel.viewable import Viewer

from attnviz.explorer import markup
from attnviz.explorer.controls import box, field, tick
from attnviz.explorer.scene import Scene
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet
from attnviz.views import count_sequences

__all__ = ["SearchBox"]


class SearchBox(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """The controls of the search."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._found = pn.pane.HTML("", css_classes=["quiet"], stylesheets=sheet(), sizing_mode="stretch_width")
        sought = field(pn.widgets.TextInput, state, "search", "seek", placeholder="token…")
        choices = [field(pn.widgets.Select, state, name, "half") for name in ("where", "how")]
        self._box = box("group", sought, box("halves", *choices), tick(state, "case"), self._found)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the controls."""
        return self._box

    def show(self, scene: Scene, *, one: bool) -> None:
        """Say how much was found, in one head or in all."""
        if scene.trouble:
            self._found.object = markup.note(scene.trouble)
        elif scene.matched is None:
            self._found.object = ""
        else:
            queries, keys = scene.counts(scene.matched)
            several = len(scene.run.streams) > 1
            where = ("in this head" if one else "in the heads that have them") if several else "in every head"
            sequences = count_sequences(scene.run, scene.matched)
            lacks = markup.quiet(scene.run.lacks) if scene.run.lacks and self.state.where in ("tokens", "words") else ""
            self._found.object = (
                f"{queries:,} queries and {keys:,} keys match, {where}. They are of {sequences:,} "
                f"{'sequence' if sequences == 1 else 'sequences'}.{lacks}"
            )
