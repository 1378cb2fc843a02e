"""What every view of the explorer has, whatever it draws."""

from abc import ABC, abstractmethod

import panel as pn

from attnviz.explorer.state import State
from attnviz.explorer.swatches import Swatch
from attnviz.explorer.wires import Wires

__all__ = ["View"]


class View(ABC):
    """A figure that follows a state. Panel shows whatever has ``__panel__``; its own Viewer would not let a method be abstract."""

    framed = True  # whether the page draws a card around it
    of_map = True  # whether it draws the points of a map, and so has nothing to show without one

    def __init__(self, state: State) -> None:
        self.state = state
        self._pane = pn.pane.Bokeh(sizing_mode="stretch_both", css_classes=["canvas"])
        self._wires: Wires | None = None

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the figure."""
        return self._pane

    @abstractmethod
    def summary(self) -> str:
        """Return one sentence that says what the canvas shows."""

    def fit(self) -> None:
        """Show everything again."""
        if self._wires is not None:
            self._wires.fit()

    def swatches(self) -> list[Swatch]:
        """Return what the colours of the canvas mean, to be kept with a picture of it."""
        return []

    def press(self, key: str) -> bool:
        """Act on a key that means something to this view alone; tell whether it did."""
        return False
