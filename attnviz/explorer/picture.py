"""The picture beside a head: what the chosen token gives to each patch of its sequence, or gets from it.

Queries and keys may stand on grids of their own (a stage that attends to a coarser one, words that attend to patches): the heat
lies on the partners' grid, the frame and the clicks on that of the chosen token, if it is a patch.
"""

from typing import Any

import panel as pn
from bokeh.events import Tap
from panel.viewable import Viewer

from attnviz.explorer.follow import follow
from attnviz.explorer.state import State
from attnviz.explorer.thumbnails import pixels_or_none
from attnviz.explorer.wires import answer
from attnviz.plots.picture import PictureFigure, frame_data, grey_pixels, heat_pixels, image_data, picture_figure
from attnviz.plots.theme import THEMES
from attnviz.views import PARTNER, Exchange
from attnviz.views.image_flows import ImageAttention, heat_of, on_picture

__all__ = ["Picture", "patch_under"]


class Picture(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """The image of one sequence under one head."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self._figure: PictureFigure | None = None
        self._pane = pn.pane.Bokeh(sizing_mode="stretch_width", margin=0)
        follow(state, ["image_opacity"], act=self._cover)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the figure."""
        return self._pane

    def show(self, exchange: Exchange, token: int, kind: str) -> bool:
        """Draw the image with the weights of a token, or tell that its partners are no patches."""
        run = self.state.directory
        image = on_picture(run, exchange)
        heat = heat_of(image, kind, token)
        grid, own = image.grid(PARTNER[kind]), image.grid(kind)
        if grid is None or heat.grid is None:
            return False
        top = max(float(heat.grid.max()), 1e-9)
        figure = picture_figure(grid, THEMES[self.state.theme], top=top)
        self._below, self._grid = pixels_or_none(run, int(run.tokens["sequence_id"].iloc[token])), grid
        figure.heat.data_source.data = image_data(heat_pixels(heat.grid), grid)
        place = image.places[kind][exchange.row_of(token, kind)]
        if own is not None and place[0] >= 0:
            figure.frame.data = frame_data((int(place[0]), int(place[1])), own, grid)
        answer(figure.plot, Tap, self.state.guard(lambda event: self._tap(event, image, kind, grid)))
        self._figure = figure
        self._cover()
        self._pane.object = figure.plot
        return True

    def _cover(self) -> None:
        """Let the heat cover as much of the picture as the state says."""
        if self._figure is None:
            return
        self._figure.heat.glyph.global_alpha = self.state.image_opacity / 100
        if self._below is not None:
            bare = self.state.image_opacity == 0
            self._figure.picture.data = image_data(self._below if bare else grey_pixels(self._below), self._grid)

    def _tap(self, event: Any, image: ImageAttention, kind: str, grid: tuple[int, int]) -> None:
        """Choose the patch under a click: of the chosen token's kind, or its partner where that kind has no patches."""
        side = kind if image.grid(kind) is not None else PARTNER[kind]
        token = patch_under(image, side, event.x / grid[1], -event.y / grid[0])
        if token is not None:
            self.state.select(token, side)


def patch_under(image: ImageAttention, kind: str, x: float, y: float) -> int | None:
    """Return the query, or key, at a place of the picture: shares of its width and height, from the left and from the top."""
    grid = image.grid(kind)
    if grid is None or not (0 <= x < 1 and 0 <= y < 1):
        return None
    return image.at(kind, (int(y * grid[0]), int(x * grid[1])))
