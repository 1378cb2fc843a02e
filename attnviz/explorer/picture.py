"""The picture beside a head: what the chosen token gives to each patch of its sequence, or gets from it.

Queries and keys may stand on grids of their own (a stage that attends to a coarser one, words that attend to patches): the heat
lies on the partners' grid, the frame and the clicks on that of the chosen token, if it is a patch.
"""

from typing import Any

import numpy as np
import panel as pn
from bokeh.events import Tap
from numpy.typing import NDArray
from panel.viewable import Viewer

from attnviz.explorer import library
from attnviz.explorer.state import State
from attnviz.explorer.thumbnails import pixels
from attnviz.plots.picture import frame_data, heat_pixels, image_data, picture_figure
from attnviz.plots.theme import THEMES
from attnviz.views import PARTNER, Exchange, patch_weights

__all__ = ["Picture"]

Places = NDArray[np.int16]


class Picture(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """The image of one sequence under one head."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._pane = pn.pane.Bokeh(sizing_mode="stretch_width", margin=0)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the figure."""
        return self._pane

    def show(self, exchange: Exchange, token: int, kind: str) -> bool:
        """Draw the image with the weights of a token, or tell that its partners are no patches."""
        there = self._places(exchange.tokens(PARTNER[kind]))
        if not (there >= 0).any():
            return False
        place = exchange.place(token, kind) or 0
        grid = _grid(there)
        heat = patch_weights(exchange.weights(place, kind), there[:, 0], there[:, 1], grid=grid)
        figure = picture_figure(grid, THEMES[self.state.theme])
        run = self.state.directory
        figure.picture.data = image_data(pixels(run, int(run.tokens["sequence_id"].iloc[token])), grid)
        figure.heat.data = image_data(heat_pixels(heat), grid)
        own = self._places(exchange.tokens(kind))[place]
        if own[0] >= 0:
            rows, columns = library.grids(run)[token].tolist()
            figure.frame.data = frame_data((int(own[0]), int(own[1])), (rows, columns), grid)
        figure.plot.on_event(Tap, lambda event: self._tap(event, exchange, kind, grid))
        self._pane.object = figure.plot
        return True

    def _places(self, tokens: NDArray[np.int32]) -> Places:
        """Return row and column of the patches that some tokens are, ``(tokens, 2)``; -1 for others."""
        places: Places = (
            self.state.directory.tokens[["patch_row", "patch_col"]].iloc[tokens].fillna(-1).to_numpy(np.int16)
        )
        return places

    def _tap(self, event: Any, exchange: Exchange, kind: str, grid: tuple[int, int]) -> None:
        """Choose the patch under a click: of the chosen token's kind, or its partner where that kind has no patches."""
        sides = (kind, PARTNER[kind])
        chosen = next(side for side in sides if (self._places(exchange.tokens(side)) >= 0).any())
        places = self._places(exchange.tokens(chosen))
        own = np.array(_grid(places)) / grid
        row, column = int(np.floor(-event.y * own[0])), int(np.floor(event.x * own[1]))
        hit = np.flatnonzero((places[:, 0] == row) & (places[:, 1] == column))
        if len(hit):
            self.state.select(int(exchange.tokens(chosen)[hit[0]]), chosen)


def _grid(places: Places) -> tuple[int, int]:
    rows, columns = places.max(axis=0) + 1
    return int(rows), int(columns)
