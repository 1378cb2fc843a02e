"""One map of one head at any zoom, with the chosen token's attention, and that of the selected points, as lines on it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.events import PanStart, SelectionGeometry
from numpy.typing import NDArray

from attnviz.explorer import library
from attnviz.explorer.filters import SCENE
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.marks import line_data, mark_data, norm_sizes, selected_here
from attnviz.explorer.scene import Scene, make_scene
from attnviz.explorer.state import State
from attnviz.explorer.swatches import Swatch, scene_swatches
from attnviz.explorer.thumbnails import thumbnails
from attnviz.explorer.view import View
from attnviz.explorer.wires import Wires, answer
from attnviz.plots.density import draw_density
from attnviz.plots.figure import place_tip
from attnviz.plots.head import HeadFigure, head_figure
from attnviz.plots.labels import choose_labels
from attnviz.plots.raster import Window, draw, glyph_data, spread_for
from attnviz.plots.theme import THEMES
from attnviz.types import KINDS, FloatArray
from attnviz.views import (
    count_kinds,
    describe_absence,
    describe_token,
    inside_box,
    inside_outline,
    layer_name,
    show_token,
    turn,
)

__all__ = ["HeadMap"]

GLYPHS = 10_000  # visible points: fewer become real marks
SAMPLE = 100_000  # points that are looked at to tell how many are seen
WORDS = 2_500  # visible points: fewer get labels
PICTURES = 800  # visible points: fewer become thumbnails
REACH = 14  # pixels
REDRAWS = (
    *("run", "map", "theme", "layer", "head", "view"),
    *(*SCENE, "alike", "azimuth", "elevation"),
    *("compare", "selection", "size_by_norm", "density"),
)
NOTHING = np.empty(0, np.int64)
NO_IMAGE: dict[str, list[object]] = {name: [] for name in ("image", "x", "y", "dw", "dh")}


class HeadMap(View):
    """One head of a map."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._theme = ""
        self._ready = False
        self._add = False  # whether the drag that goes on began with Shift
        follow(state, REDRAWS, act=self._redraw)
        follow(state, ["token", "kind", "top_k", "threshold"], act=self._select)
        follow(state, ["hover"], act=self._light)
        follow(state, ["drag"], act=self._take_tool)
        attempt(state, act=self._redraw)

    @property
    def _map(self) -> str | None:
        """The map that is shown, or None."""
        name: str | None = self.state.map
        return name

    def _redraw(self) -> None:
        """Take everything from the state; the figure itself is made anew only when the theme changes."""
        if self.state.view != "head" or self._map is None:
            return
        self._read()
        made = self._theme != self.state.theme
        if made:
            self._make()
        elif self._wires is not None and self._wires.window is not None:
            self._leave()
            self._mark_sequence()
            self._draw(self._wires.window)

    def _read(self) -> None:
        state = self.state
        wall = library.wall(state.directory, self._map or "", alike=state.alike)
        placed = turn(wall.points_of(state.layer, state.head), state.azimuth, state.elevation)
        scene = make_scene(state, ((state.layer, state.head),), self._map)
        self._norms: FloatArray = state.directory.norms(state.layer, state.head)
        self._placed: FloatArray = placed  # all of one head, or nothing new
        self._scene: Scene = scene
        self._ready = True

    def _make(self) -> None:
        self._figure: HeadFigure = head_figure(THEMES[self.state.theme])
        plot, home = self._figure.plot, self._figure.home
        self._wires = Wires(
            self.state.guard, plot, home, draw=self._draw, point=self._point, tap=self._tap, leave=self._leave
        )
        answer(plot, PanStart, self.state.guard(self._begin))
        answer(plot, SelectionGeometry, self.state.guard(self._outline))
        self._fresh = True
        self._pane.object = plot
        self._theme = self.state.theme

    def _take_tool(self) -> None:
        """Let a drag move the map, or outline points."""
        if self._wires is not None:
            self._figure.plot.toolbar.active_drag = self._figure.drags[self.state.drag]

    def _begin(self, event: PanStart) -> None:
        self._add = bool((event.modifiers or {}).get("shift"))

    def _outline(self, event: SelectionGeometry) -> None:
        """Select the shown points inside what was drawn; one outline at a time, when it is complete."""
        if event.final and event.geometry is not None:
            self.state.choose(self._inside(event.geometry), add=self._add)

    def _inside(self, geometry: Mapping[str, Any]) -> NDArray[np.int64]:
        if geometry["type"] == "rect":
            x, y = ((geometry[f"{axis}0"], geometry[f"{axis}1"]) for axis in "xy")
            inside = inside_box(self._placed, x, y)
        else:
            inside = inside_outline(self._placed, *(np.array(geometry[axis], np.float32) for axis in "xy"))
        return np.flatnonzero(inside & self._scene.shown)

    def _draw(self, window: Window) -> None:
        """Draw what the window shows: few points as marks, thumbnails and words, many as a raster."""
        count = self._count(window)
        rows = self._inside_of(np.arange(len(self._placed)), window) if count < 2 * GLYPHS else NOTHING
        near = 0 < len(rows) < GLYPHS and not self.state.density
        self._pictured = rows[self._of_image(rows)] if near and len(rows) < PICTURES else NOTHING
        self._others = np.setdiff1d(rows, self._pictured, assume_unique=True)
        self._draw_raster(window, count=0 if near else count)
        self._draw_dots(self._others if near else NOTHING)
        self._draw_pictures(self._pictured, window)
        self._draw_labels(window)
        self._fade()
        if self._fresh:
            self._fresh = False
            self._take_tool()
            self._mark_sequence()

    def _count(self, window: Window) -> int:
        """Return how many points are seen; of a large head by a sample, for it only decides how they are drawn."""
        step = max(1, len(self._placed) // SAMPLE)
        return step * int((window.holds(self._placed[::step]) & self._scene.shown[::step]).sum())

    def _inside_of(self, rows: NDArray[np.int64], window: Window) -> NDArray[np.int64]:
        """Return which of some points are seen."""
        return rows[window.holds(self._placed[rows]) & self._scene.shown[rows]]

    def _of_image(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        run = self.state.directory
        of_image: NDArray[np.bool_] = (run.tokens["modality"].iloc[rows % run.num_tokens] == "image").to_numpy()
        return of_image

    def _draw_raster(self, window: Window, *, count: int) -> None:
        if count == 0:
            self._figure.image.data_source.data = dict(NO_IMAGE)
            return
        if self.state.density:
            shade = draw_density(self._placed[self._scene.shown], window, self._scene.theme)
            self._figure.image.data_source.data = glyph_data(shade, window)
            return
        layers = self._scene.layers(max(spread_for(count, window), 1.0))
        only = np.zeros(1, np.int32)
        image = draw(self._placed[None], np.zeros((1, 2), np.float32), tiles=only, window=window, layers=layers)
        self._figure.image.data_source.data = glyph_data(image, window)

    def _draw_dots(self, rows: NDArray[np.int64]) -> None:
        lit = self._scene.lit
        if lit is not None:  # what stands out is drawn last, over the rest
            rows = rows[np.argsort(lit[rows], kind="stable")]
        size = np.clip(26 / max(len(rows), 1) ** 0.2, 4.5, 12)
        sizes = size * norm_sizes(self._norms, rows) if self.state.size_by_norm else float(size)
        self._figure.dots.data_source.data = self._marks(rows, size=sizes)

    def _marks(self, rows: NDArray[np.int64], *, size: float | FloatArray, dim: bool = True) -> dict[str, NDArray[Any]]:
        return mark_data(self._placed[rows], self._scene.colors(rows, dim=dim), self._kinds(rows), size=size)

    def _draw_pictures(self, rows: NDArray[np.int64], window: Window) -> None:
        colors = self._scene.colors(rows)
        made = thumbnails(self.state.directory, rows, self._placed, window, self._scene.theme, colors)
        self._figure.patches.data_source.data = made
        self._figure.sequence.glyph.fill_alpha = 0.0 if len(rows) else 1.0  # a mark must not hide its picture

    def _draw_labels(self, window: Window) -> None:
        """Write the tokens there is room for: the chosen sequence first, then what was found or selected."""
        sequence, lit = self._sequence_rows(), self._scene.lit
        wanted = [self._inside_of(sequence, window), self._others if len(self._others) <= WORDS else NOTHING]
        if lit is not None:
            wanted.append(self._inside_of(np.flatnonzero(lit), window)[:WORDS])
        candidates = np.setdiff1d(np.concatenate(wanted), self._pictured)
        texts = self.state.directory.tokens["text"].iloc[candidates % self.state.directory.num_tokens]
        shown = [show_token(text, longest=18) for text in texts]
        order = np.isin(candidates, sequence) * np.float32(2) + (candidates * 2654435761 % 1000) / np.float32(1000)
        if lit is not None:
            order = order + lit[candidates]
        chosen = choose_labels(self._placed[candidates], shown, window=window, wanted=order.astype(np.float32))
        places = self._placed[candidates[chosen]]
        self._figure.labels.data = {"x": places[:, 0], "y": places[:, 1], "text": [shown[i] for i in chosen]}

    def _kinds(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(rows >= self.state.directory.num_tokens, np.int64)

    def _sequence_rows(self) -> NDArray[np.int64]:
        """Return the points of the chosen token's sequence that the head has."""
        if self.state.token is None:
            return NOTHING
        run = self.state.directory
        within = run.token_slice(int(run.tokens["sequence_id"].iloc[self.state.token]))
        tokens = np.arange(within.start, within.stop)
        rows = np.concatenate([tokens, tokens + run.num_tokens])
        there: NDArray[np.int64] = rows[library.present(run)[self.state.layer][rows]]
        return there

    def _select(self) -> None:
        """Follow the choice of a token."""
        if self.state.view == "head" and self._wires is not None and self._wires.window is not None:
            self._mark_sequence()
            self._draw_labels(self._wires.window)

    def _mark_sequence(self) -> None:
        """Mark the chosen point, its sequence, and its attention."""
        rows = self._sequence_rows()
        rows = rows[self._scene.shown[rows]]
        marks = self._marks(rows, size=8, dim=False)
        marks["size"] = marks["size"] * np.where(rows == self._chosen(), 1.8, 1.0)
        self._figure.sequence.data_source.data = marks
        self._figure.lines.data = line_data(self.state, self._placed)
        self._fade()

    def _chosen(self) -> int:
        """Return the chosen point, or -1 if the head has none of the token."""
        token, kind = self.state.token, self.state.kind_here
        return -1 if token is None or kind is None else token + KINDS.index(kind) * self.state.directory.num_tokens

    def _fade(self) -> None:
        """Let the field recede behind a chosen sequence."""
        strength = 1.0 if self.state.token is None or self._scene.lit is not None else 0.45
        self._figure.image.glyph.global_alpha = strength
        self._figure.dots.glyph.update(fill_alpha=0.9 * strength, line_alpha=strength)

    def _point(self, x: float, y: float) -> None:
        row = self._nearest(x, y)
        if row is None or self._wires is None or self._wires.window is None:
            self._leave()
            return
        kind, token = divmod(row, self.state.directory.num_tokens)
        lines = describe_token(self.state.directory, token, KINDS[kind], norm=float(self._norms[row]))
        place_x, place_y = map(float, self._placed[row])
        self._light(row)
        self._tell(row)
        self._figure.tip.data = place_tip(
            lines, place_x, place_y, bounds=self._wires.window.bounds, width=self._wires.window.width
        )

    def _nearest(self, x: float, y: float) -> int | None:
        """Return the shown point next to a place; the chosen sequence's points are preferred."""
        if self._wires is None or self._wires.window is None or not self._scene.shown.any():
            return None
        reach = REACH * self._wires.window.unit
        for rows in (self._sequence_rows(), np.flatnonzero(np.abs(self._placed[:, 0] - np.float32(x)) <= reach)):
            seen = rows[self._scene.shown[rows]]
            away = np.hypot(*(self._placed[seen] - np.array([x, y], np.float32)).T)
            if len(away) and away.min() <= reach:
                return int(seen[np.argmin(away)])
        return None

    def _tell(self, row: int | None) -> None:
        """Let a map beside this one know what the pointer is on."""
        if self.state.compare:
            self.state.hover = row

    def _light(self, row: int | None = None) -> None:
        """Light the point under the pointer, here or on the map beside."""
        row = self.state.hover if row is None else row
        if self._wires is None or self._map is None:
            return
        seen = row is not None and bool(self._scene.shown[row])
        self._figure.lit.data = self._marks(np.array([row] if seen else [], np.int64), size=12)

    def _leave(self) -> None:
        for source in (self._figure.tip, self._figure.lit):
            source.data = {name: [] for name in source.data}
        self._tell(None)

    def _tap(self, x: float, y: float) -> None:
        row = self._nearest(x, y)
        if row is None:
            self.state.select(None)
        else:
            kind, token = divmod(row, self.state.directory.num_tokens)
            self.state.select(token, KINDS[kind])

    def swatches(self) -> list[Swatch]:
        """Return the legend of the points."""
        return scene_swatches(self._scene) if self._ready else []

    def summary(self) -> str:
        """Return one sentence that says what the canvas shows."""
        if not self._ready:
            return ""
        run, token, kind = self.state.directory, self.state.token, self.state.kind_here
        name = layer_name(run.layers[self.state.layer])
        where = f"{name}, head {self.state.head} on map {self._map}: {self._scene.words()}{self._extent()}"
        if token is None:
            return f"{where}."
        if kind is None:
            return f"{where}. {describe_absence(run, self.state.layer, token)}"
        chosen = describe_token(run, token, kind)
        return f"{where}. Selected: {chosen[0]}, {chosen[1]}."

    def _extent(self) -> str:
        """Return how much is selected, and how it is drawn where that is not by marks."""
        density = ", drawn as density" if self.state.density else ""
        if not len(self.state.selected):
            return density
        queries, keys = count_kinds(self.state.directory, selected_here(self.state))
        return f"{density}, {queries:,} queries and {keys:,} keys selected"
