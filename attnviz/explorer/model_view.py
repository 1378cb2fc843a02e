"""The view of a model over one sequence: every head's attention as a thumbnail, named on hover, opened by a click."""

from functools import lru_cache

import numpy as np

from attnviz.explorer.arranged import included
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.state import State
from attnviz.explorer.tiles import Tiles
from attnviz.explorer.wires import Wires
from attnviz.plots.figure import place_tip
from attnviz.plots.model import SIDE, draw_thumbnails, model_figure, top_weight
from attnviz.plots.raster import Window, glyph_data
from attnviz.plots.theme import THEMES
from attnviz.plots.wall import ROOM
from attnviz.store import RunDirectory
from attnviz.types import FloatArray
from attnviz.views import Wall, layer_name, patch_name
from attnviz.views.model_of_sequence import Thumbnail, read_thumbnails, weights_of_query
from attnviz.views.wall import lay_tiles

__all__ = ["ModelView", "sequence_of"]

REDRAWS = ("run", "token", "kind", "theme", "view", "sequence", "only_layers", "only_heads")


class ModelView(Tiles):
    """All heads over the sequence of the chosen token."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._key: object = None
        follow(state, REDRAWS, act=self._redraw)
        attempt(state, act=self._redraw)

    def _redraw(self) -> None:
        state = self.state
        if state.view != "model":
            return
        run, sequence = state.directory, sequence_of(state)
        key = (run, sequence, _of_picture(run, state.token), state.theme, state.only_layers, state.only_heads)
        if key != self._key:
            self._key = None
            self._make(*key[:3])
            self._key = key

    def _make(self, run: RunDirectory, sequence: int, token: int | None) -> None:
        self._wall = included(self.state, Wall(lay_tiles(run), np.empty((0, 0, 2), np.float32)))
        found = _thumbnails(run, sequence, token)
        self._found: dict[int, Thumbnail] = {
            number: found[tile.layer, tile.head]
            for number, tile in enumerate(self._wall.tiles)
            if (tile.layer, tile.head) in found and not tile.out
        }
        self._values: dict[int, FloatArray] = {number: made.values for number, made in self._found.items()}
        self._top = top_weight(self._values)
        self._figure = model_figure(self._wall, self._top, THEMES[self.state.theme])
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
        self._pane.object = plot

    def _draw(self, window: Window) -> None:
        image = draw_thumbnails(self._values, self._wall, window=window, theme=THEMES[self.state.theme], top=self._top)
        self._figure.image.data_source.data = glyph_data(image, window)
        self._figure.titles.visible = window.unit < 1 / (2.2 * ROOM)

    def _point(self, x: float, y: float) -> None:
        """Name the head under the pointer, and the pair and its weight."""
        tile = self._wall.tile_at(x, y)
        if tile is None or self._wires is None or self._wires.window is None:
            self._leave()
            return
        own = self._wall.tiles[tile]
        name = layer_name(self.state.directory.layers[own.layer])
        lines = [f"{name} · Head {own.head}", *self._pair(tile, x, y)]
        self._figure.frame.data = {"x": [own.center[0]], "y": [own.center[1]]}
        self._figure.tip.data = place_tip(lines, x, y, bounds=self._wires.window.bounds, width=self._wires.window.width)

    def _pair(self, tile: int, x: float, y: float) -> list[str]:
        """Return what is under a place of a tile in words: the model's weight, and where pixels are means, the mean too."""
        run, own = self.state.directory, self._wall.tiles[tile]
        if tile not in self._found:
            rebuilt = run.layers[own.layer].rebuilt
            return ["No token of this sequence is in this layer." if rebuilt else "Its attention cannot be rebuilt."]
        made, (middle_x, middle_y) = self._found[tile], own.center
        place = (x - middle_x) / SIDE + 0.5, (middle_y - y) / SIDE + 0.5
        pair = made.pair_at(*place)
        if pair is None:
            return []
        query, key = pair
        if query is None:
            return [f"all queries → {patch_name(run, key)}", f"mean weight {made.value_at(*place) * 100:.2f} %"]
        weight = weights_of_query(run, own.layer, own.head, query)[np.searchsorted(made.points.key, key)]
        positions = run.tokens["position"].iloc[[query, key]].tolist()
        names = [f"{patch_name(run, token)} ({at})" for token, at in zip((query, key), positions, strict=True)]
        return [" → ".join(names), f"weight {weight * 100:.2f} %"]

    def summary(self) -> str:
        """Return one sentence that says what the canvas shows."""
        if self._key is None:
            return ""
        run, sequence = self.state.directory, sequence_of(self.state)
        pictures = any(made.places is not None for made in self._found.values())
        queries = {made.query for made in self._found.values() if made.places is not None}
        what = "queries down, keys across"
        if pictures:
            named = [patch_name(run, token) for token in queries if token is not None]
            what = f"what {named[0] if len(queries) == 1 and named else 'a query'} gives to each patch"
        step = max((made.step for made in self._found.values()), default=1)
        sampled = f" Of the queries, every {step}th is read." if step > 1 else ""
        every = len(self._wall.tiles)
        count = f"{len(self._found)}" if len(self._wall.shown) == every else f"{len(self._found)} of {every}"
        return f"{count} heads over sequence {sequence}: {what}; the stronger the colour, the more weight.{sampled}"


def sequence_of(state: State) -> int:
    """Return the sequence that a session looks at; right after a change of the run it may lie beyond the new one's last."""
    return min(int(state.sequence), state.directory.num_sequences - 1)


def _of_picture(run: RunDirectory, token: int | None) -> int | None:
    """Return the token if it changes what pictures show: a matrix shows every token of its sequence."""
    return None if token is None or run.manifest.model.modality == "text" else token


@lru_cache(maxsize=16)
def _thumbnails(run: RunDirectory, sequence: int, token: int | None) -> dict[tuple[int, int], Thumbnail]:
    return read_thumbnails(run, sequence, token)
