"""The view of all heads: pan and zoom over the wall, a token lit in every head, a click that opens one."""

import numpy as np

from attnviz.explorer import library
from attnviz.explorer.arranged import arranged_wall
from attnviz.explorer.filters import ARRANGES, SCENE
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.lens import Lens
from attnviz.explorer.scene import Scene, make_scene
from attnviz.explorer.state import State
from attnviz.explorer.swatches import Swatch, scene_swatches
from attnviz.explorer.tiles import Tiles
from attnviz.explorer.wires import Wires
from attnviz.metrics import HEADLINES
from attnviz.plots.figure import place_tip
from attnviz.plots.head import MARKERS
from attnviz.plots.raster import Window, draw, glyph_data, spread_for
from attnviz.plots.theme import THEMES
from attnviz.plots.wall import wall_figure
from attnviz.types import KINDS, FloatArray
from attnviz.views import describe_token, layer_name, look_closer, score_phrases, turn

__all__ = ["AllHeads"]

BAR = 40  # pixels a tile must have before it carries a bar
ENTERS, LEAVES = 0.72, 0.95  # tiles along the shorter side of the window: below, a head is entered; above, it may be
REACH = 14  # pixels from the pointer to a point that counts as hovered
REBUILDS = ("run", "map", "theme", *ARRANGES)
REDRAWS = (*SCENE, "alike", "azimuth", "elevation", "selection")


class AllHeads(Tiles):
    """All heads of the chosen map."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._stale = True
        follow(state, REBUILDS, act=self._rebuild)
        follow(state, REDRAWS, act=self._redraw)
        follow(state, ["token", "kind"], act=self._show_token)
        follow(state, ["local", "near_x", "near_y", "near_zoom"], act=self._look)
        follow(state, ["view"], act=self._enter)
        attempt(state, act=self._enter)

    def _enter(self) -> None:
        if self.state.view == "all" and self._stale:
            self._rebuild()

    def _rebuild(self) -> None:
        """Make the figure anew, or remember to do it when the view is entered."""
        self._stale = True
        if self.state.view == "all" and self.state.map is not None:
            self._make()

    def _make(self) -> None:
        self._place()
        self._scores = library.scores(self.state.directory, self.state.map)
        self._centers = self._wall.centers
        self._figure = wall_figure(
            self._wall, THEMES[self.state.theme], numbers=self._numbers, faithful=self._faithful()
        )
        plot, home = self._figure.plot, self._figure.home
        self._wires = Wires(
            self.state.guard,
            plot,
            home,
            draw=self._draw,
            point=self._point,
            tap=self._tap,
            leave=self._leave,
            corner=True,
        )
        self._lens = Lens(plot, self._wall.centers, self.state)
        self._light(self.state.token)
        self._pane.object = plot
        self._stale, self._fresh, self._may_enter = False, True, False

    def _place(self) -> None:
        """Take the scene and the placement from the state."""
        self._wall, self._numbers, self._by = arranged_wall(self.state)
        heads = tuple((tile.layer, tile.head) for tile in self._wall.tiles)
        self._scene: Scene = make_scene(self.state, heads)
        self._seen = self._scene.points_a_head
        self._turned: FloatArray = turn(self._wall.points, self.state.azimuth, self.state.elevation)
        if self._scene.gone is not None:  # a point without a place is neither drawn nor found
            self._turned = np.where(self._scene.gone[..., None], np.float32(np.nan), self._turned)
        self._magnify()

    def _faithful(self) -> FloatArray | None:
        """Return the map's first headline of every head, in the order of the tiles."""
        name = self._headline = next((name for name in HEADLINES if name in self._scores), "")
        if not name:
            return None
        heads = [(tile.layer, tile.head) for tile in self._wall.tiles]
        shares: FloatArray = self._scores[name].reindex(heads).to_numpy(np.float32)
        return shares

    def _magnify(self) -> None:
        state = self.state
        near = (state.near_x, state.near_y, state.near_zoom) if state.local else (0.0, 0.0, 1.0)
        self._placed: FloatArray = look_closer(self._turned, *near)

    def _look(self) -> None:
        """Show another part of every head."""
        if self._wires is None or self.state.view != "all" or self._stale:
            return
        self._magnify()
        if self._wires.window is not None:
            self._lens.switch(on=self.state.local)
            self._show_token()
            self._draw(self._wires.window)

    def fit(self) -> None:
        """Show everything again."""
        if self.state.local:
            self.state.param.update(near_x=0.0, near_y=0.0, near_zoom=1.0)
            self._lens.forget()
        super().fit()

    def _redraw(self) -> None:
        if self._wires is None or self.state.view != "all" or self._stale:
            self._stale = True
            return
        self._place()
        if self._wires.window is not None:
            self._show_token()
            self._draw(self._wires.window)

    def _draw(self, window: Window) -> None:
        """Raster the visible tiles, or go on to the only one."""
        if self._enters(window):
            return
        tiles = self._wall.inside(window.bounds)
        area = window.unit**2 * window.width * window.height  # in tiles
        seen = self._seen * min(area, len(tiles))
        image = draw(
            self._placed,
            self._centers,
            tiles=tiles,
            window=window,
            layers=self._scene.layers(spread_for(seen, window)),
        )
        self._figure.image.data_source.data = glyph_data(image, window)
        self._figure.titles.visible = window.unit < 1 / self._figure.room
        self._figure.bars.visible = window.unit < 1 / BAR
        if self._fresh:
            self._fresh = False
            self._lens.switch(on=self.state.local)
            self._show_token()

    def _enters(self, window: Window) -> bool:
        """Open a head when it fills most of the window, at the place that is seen."""
        side = min(window.width, window.height) * window.unit  # in tiles
        if side > LEAVES:
            self._may_enter = True  # only after more than one was seen: a way back must not lead here again
        tile = self._wall.tile_at((window.x0 + window.x1) / 2, (window.y0 + window.y1) / 2)
        if side > ENTERS or not self._may_enter or tile is None or self.state.local or self.state.view != "all":
            return False
        (x, y), (x0, x1, y0, y1) = self._wall.tiles[tile].center, window.bounds
        x, y = (x0 + x1) / 2 - x, (y0 + y1) / 2 - y
        self._may_enter = False
        self.state.arrival = (x - side / 2, x + side / 2, y - side / 2, y + side / 2)
        super().fit()
        self.state.open_head(self._wall.tiles[tile].layer, self._wall.tiles[tile].head)
        return True

    def _point(self, x: float, y: float) -> None:
        """Say what is under the pointer, and light its token in every head."""
        tile = self._wall.tile_at(x, y)
        if tile is None:
            self._leave()
            return
        layer, head = self._wall.tiles[tile].layer, self._wall.tiles[tile].head
        name = layer_name(self.state.directory.layers[layer])
        lines = [f"{name} · Head {head}", *score_phrases(self._scores, layer, head)]
        point = self._nearest(tile, x, y)
        if point is not None:
            kind, token = divmod(point, self.state.directory.num_tokens)
            lines = [
                *describe_token(self.state.directory, token, KINDS[kind]),
                lines[0] + " · " + " · ".join(lines[1:2]),
            ]
            self._light(token)
        else:
            self._show_token()
        self._figure.frame.data = {"x": self._centers[[tile], 0], "y": self._centers[[tile], 1]}
        if self._wires is not None and self._wires.window is not None:
            self._figure.tip.data = place_tip(
                lines, x, y, bounds=self._wires.window.bounds, width=self._wires.window.width
            )

    def _nearest(self, tile: int, x: float, y: float) -> int | None:
        """Return the shown point next to a place in a tile, if it is near: 20,000 points take 0.1 ms without any tree.

        A point that the head does not have is near nothing.
        """
        if self._wires is None or self._wires.window is None:
            return None
        shown = self._scene.shown if self._scene.matched is None else self._scene.matched
        if not shown.any():
            return None
        offset = self._placed[tile] - (np.array([x, y], np.float32) - self._centers[tile])
        distance = np.where(shown, np.nan_to_num((offset**2).sum(axis=1), nan=np.inf), np.inf)
        point = int(np.argmin(distance))
        return point if distance[point] <= (REACH * self._wires.window.unit) ** 2 else None

    def _light(self, token: int | None) -> None:
        """Mark one token's query and key in every head that has them, with one small source."""
        if token is None:
            self._figure.lit.data = {"x": [], "y": [], "color": [], "marker": []}
            return
        theme, tokens = self._scene.theme, self.state.directory.num_tokens
        rows = [token + i * tokens for i in (0, 1) if self._scene.shown[token + i * tokens]]
        places = np.concatenate([self._placed[:, row] + self._centers for row in rows] or [np.empty((0, 2))])
        kinds = np.repeat([int(row >= tokens) for row in rows], len(self._wall.tiles))
        there = np.isfinite(places).all(axis=1)
        places, kinds = places[there], kinds[there]
        self._figure.lit.data = {
            "x": places[:, 0],
            "y": places[:, 1],
            "color": [(theme.query, theme.key)[kind] for kind in kinds],
            "marker": [MARKERS[kind] for kind in kinds],
        }

    def _show_token(self) -> None:
        if self._wires is not None:
            self._light(self.state.token)

    def _leave(self) -> None:
        super()._leave()
        self._show_token()

    def swatches(self) -> list[Swatch]:
        """Return the legend of the points."""
        return [] if self._stale else scene_swatches(self._scene)

    def summary(self) -> str:
        """Return one sentence that says what the canvas shows."""
        if self._stale:
            return ""
        state, shown = self.state, len(self._wall.shown)
        count = f"{shown}" if shown == len(self._wall.tiles) else f"{shown} of {len(self._wall.tiles)}"
        alike = ", turned alike" if state.alike else ""
        order = f", {'lowest' if state.ascending else 'highest'} {self._by.lower()} first" if self._by else ""
        closer = f", each at the same place {state.near_zoom:.1f} times closer" if state.local else ""
        bars = f" Bars show {self._headline.replace('_', ' ')}." if self._headline else ""
        return f"{count} heads on map {state.map}{order}{alike}{closer}, in each {self._scene.words()}.{bars}"
