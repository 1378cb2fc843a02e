"""One image under one head: the picture with a heat or arrows on it, hover and click."""

import numpy as np
import panel as pn
from bokeh.models import ColumnDataSource
from numpy.typing import NDArray

from attnviz.explorer.picture import patch_under
from attnviz.explorer.state import State
from attnviz.explorer.thumbnails import pixels_or_none
from attnviz.explorer.wires import Wires
from attnviz.plots.figure import place_tip
from attnviz.plots.image import (
    MOST_MARKS,
    ImageFigure,
    arrow_data,
    image_figure,
    mark_boxes,
    mark_data,
    ring_data,
    spots,
)
from attnviz.plots.picture import grey_pixels, heat_pixels, image_data, small_pixels
from attnviz.plots.raster import Window
from attnviz.plots.theme import THEMES
from attnviz.plots.weight_bar import mark_weights
from attnviz.types import FloatArray
from attnviz.views import PARTNER, describe_absence, pair_numbers, patch_name
from attnviz.views.image_flows import (
    Flows,
    Heat,
    ImageAttention,
    flows_above,
    heat_of,
    image_marks,
    read_image,
    strongest_flows,
)

__all__ = ["OneImage"]

LARGEST = 1024  # pixels a side of a picture
NAME = 11  # characters of a mark's name
PLAIN = np.full((1, 1, 4), (127, 127, 127, 255), np.uint8)  # in place of a picture that is lost
LINES = 5  # of a tip: partners
LEAST = 0.0005  # of all weight, for a sink to be spoken of: less is how numbers are rounded


class OneImage:
    """The picture of one sequence. ``draw`` fills ``pane``; ``said`` tells what is seen."""

    def __init__(self, state: State, pane: pn.pane.Bokeh) -> None:
        self.state = state
        self.said = ""
        self.wires: Wires | None = None
        self._pane = pane
        self._key: object = None
        self._pointed: tuple[int, str] | None = None

    def draw(self, sequence: int) -> None:
        """Draw a sequence. Raises ``DatasetError`` if its attention cannot be rebuilt."""
        self.said = ""
        state, run = self.state, self.state.directory
        self._kind: str = state.kind_here or state.kind
        self._image: ImageAttention = read_image(run, state.layer, state.head, sequence)
        self._token = state.token if state.kind_here is not None else None
        self._marks, self._missing = image_marks(self._image, MOST_MARKS, token=self._token)
        self._size = self._image.grid(PARTNER[self._kind]) or self._image.grid(self._kind) or (1, 1)
        self._flows: Flows | None = None
        self._heat: Heat = heat_of(self._image, self._kind, self._token)
        theme = THEMES[state.theme]
        key = (run, state.theme, self._size, len(self._marks), self._kind)
        made = (
            key != self._key
            or self.wires is None
            or self.wires.window is None
            or self._pane.object is not self._figure.plot
        )
        if made:
            color = theme.query if self._kind == "query" else theme.key
            self._figure: ImageFigure = image_figure(self._size, len(self._marks), theme, color=color)
            self._key = key
            plot, home = self._figure.plot, self._figure.home
            self.wires = Wires(
                state.guard, plot, home, draw=self._seen, point=self._point, tap=self._tap, leave=self._leave
            )
        self._picture = pixels_or_none(run, sequence)
        self._spots = spots(self._image, self._marks, self._size)
        self._leave()
        self._fill()
        if made:
            self._pane.object = self._figure.plot

    def cover(self) -> None:
        """Let the heat cover as much of the picture as the state says."""
        self._figure.heat.glyph.global_alpha = self.state.image_opacity / 100
        self._fill_picture()
        self._fill_marks()

    def _fill(self) -> None:
        shown, figure = self.state.image_show, self._figure
        figure.heat.glyph.global_alpha = self.state.image_opacity / 100
        figure.bar.visible = shown == "heat"
        figure.lattice.visible = shown != "heat"
        if shown == "strongest":
            self._flows = strongest_flows(self._image, self._kind, token=self._token)
        elif shown == "flows":
            self._flows = flows_above(self._image, self.state.image_least)
        self._fill_picture()
        self._fill_heat()
        self._fill_flows()
        self._fill_marks()
        self._frame(figure.frame, self._token, self._kind)
        self.said = self._say_heat() if self._flows is None else self._say_flows(self._flows)
        self.said += self._say_rest()

    def _fill_picture(self) -> None:
        bare = self._flows is None and self.state.image_opacity == 0
        pixels = PLAIN if self._picture is None else small_pixels(self._picture, LARGEST)
        self._figure.picture.data_source.data = image_data(pixels if bare else grey_pixels(pixels), self._size)

    def _fill_heat(self) -> None:
        source, grid = self._figure.heat.data_source, self._heat.grid
        if self._flows is not None or grid is None:
            source.data = {name: [] for name in source.data}
            return
        mark_weights(self._figure.bar, self._top)
        source.data = image_data(heat_pixels(grid, self._top), self._size)

    @property
    def _top(self) -> float:
        """The weight of the strongest colour: the largest that a patch, or else a mark, has."""
        grid = self._heat.grid
        return max(float(self._heat.weights.max(initial=0) if grid is None else grid.max()), 1e-6)

    def _fill_flows(self) -> None:
        figure, flows = self._figure, self._flows
        for source, data_of in ((figure.arrows, arrow_data), (figure.rings, ring_data)):
            if flows is None:
                source.data = {name: [] for name in source.data}
            else:
                source.data = data_of(flows, self._spots, faint=self._faint(flows))

    def _faint(self, flows: Flows) -> NDArray[np.bool_] | None:
        """Return which flows recede: those that are not of the chosen token."""
        place = None if self._token is None else self._image.exchange.place(self._token, self._kind)
        return None if place is None else (flows.query if self._kind == "query" else flows.key) != place

    def _fill_marks(self) -> None:
        run, heat = self.state.directory, None
        if self._flows is None:
            heat = np.array([self._weight_of(token) for token in self._marks.tolist()], np.float32)
        names = [patch_name(run, token, longest=NAME) for token in self._marks.tolist()]
        boxes = mark_boxes(len(names), self._size)
        theme, opacity = THEMES[self.state.theme], self.state.image_opacity / 100
        self._figure.marks.data = mark_data(boxes, names, heat, theme, top=self._top, opacity=opacity)

    def _weight_of(self, token: int) -> float:
        """Return what the heat is at a partner; NaN of a token that is none."""
        place = self._image.exchange.place(token, PARTNER[self._kind])
        return np.nan if place is None else float(self._heat.weights[place])

    def _frame(self, source: ColumnDataSource, token: int | None, kind: str) -> None:
        place = None if token is None else self._image.exchange.place(token, kind)
        spot: FloatArray = self._spots[kind][[] if place is None else [place]]
        spot = spot[np.isfinite(spot[:, 0])]
        source.data = dict(zip(("x", "y", "width", "height"), spot.T.tolist(), strict=True))

    def _seen(self, window: Window) -> None:
        """Nothing depends on the window: the browser scales what is there."""

    def _under(self, x: float, y: float, kind: str) -> tuple[int, str] | None:
        """Return the token under a place and its kind: a patch of a kind, or of its partner where that has none, or a mark."""
        rows, columns = self._size
        if x < 0:
            boxes = mark_boxes(len(self._marks), self._size)
            hit = np.flatnonzero(abs(boxes[:, 1] - y) <= boxes[:, 3] / 2)
            if not len(hit):
                return None
            token = int(self._marks[hit[0]])
            there = kind if self._image.exchange.place(token, kind) is not None else PARTNER[kind]
            return token, there
        side = kind if self._image.grid(kind) is not None else PARTNER[kind]
        found = patch_under(self._image, side, x / columns, -y / rows)
        return None if found is None else (found, side)

    def _point(self, x: float, y: float) -> None:
        """Say the weight of what is under the pointer, or where its flows go."""
        found = self._under(x, y, PARTNER[self._kind] if self._flows is None else self._kind)
        if found is None or self.wires is None or self.wires.window is None:
            self._leave()
            return
        if found != self._pointed:
            self._pointed = found
            self._lines = self._words(*found)
            self._frame(self._figure.lit, *found)
        self._figure.tip.data = place_tip(
            self._lines, x, y, bounds=self.wires.window.bounds, width=self.wires.window.width
        )

    def _words(self, token: int, kind: str) -> list[str]:
        run, state, image = self.state.directory, self.state, self._image
        lines = [f"{patch_name(run, token)} · {kind}"]
        place = image.exchange.place(token, kind)
        if place is None:
            return lines
        if self._flows is not None:
            return [*lines, *self._partners(place, kind)]
        if kind == self._kind:
            return lines
        lines.append(f"weight {float(self._heat.weights[place]) * 100:.2f} %")
        if self._heat.source is not None:
            pair = (self._heat.source, token) if self._kind == "query" else (token, self._heat.source)
            lines.append(f"q·k {pair_numbers(run, state.layer, state.head, *pair).dot:.4f}")
        return lines

    def _partners(self, place: int, kind: str) -> list[str]:
        """Return where the drawn flows of a token go, or come from, the strongest first."""
        assert self._flows is not None
        flows, other = self._flows, PARTNER[kind]
        own, ends = (flows.query, flows.key) if kind == "query" else (flows.key, flows.query)
        mine = np.flatnonzero(own == place)[::-1]
        tokens = self._image.exchange.tokens(other)[ends[mine]]
        sign = "→" if kind == "query" else "←"
        said = [
            f"{sign} {patch_name(self.state.directory, int(token))} {float(weight) * 100:.1f} %"
            for token, weight in zip(tokens[:LINES], flows.weight[mine][:LINES], strict=True)
        ]
        return [*said, f"and {len(mine) - LINES} more"] if len(mine) > LINES else said or ["no flow is drawn"]

    def _leave(self) -> None:
        self._pointed = None
        for source in (self._figure.tip, self._figure.lit):
            if any(len(column) for column in source.data.values()):
                source.data = {name: [] for name in source.data}

    def _tap(self, x: float, y: float) -> None:
        found = self._under(x, y, self._kind)
        if found is not None:
            self.state.select(*found)

    def _say_heat(self) -> str:
        """Return the numbers of the heat as a sentence."""
        heat, run, kind = self._heat, self.state.directory, self._kind
        who = f"The mean of {heat.averaged:,} {'queries' if kind == 'query' else 'keys'}"
        if heat.source is not None:
            who = f"{kind.capitalize()} {patch_name(run, heat.source)}"
        verb, to = ("gives", "to") if kind == "query" else ("gets", "from")
        patch = heat.source is not None and self._image.is_patch(heat.source)
        beside = heat.beside - (0 if patch else heat.own)
        own = f"{heat.own * 100:.1f} % {to} itself"
        parts = [f"{heat.on_patches * 100:.1f} % {to} patches{f' (of it {own})' if patch and heat.own else ''}"]
        parts += [f"{beside * 100:.1f} % {to} other tokens"] if beside > LEAST else []
        parts += [own] if heat.own and not patch else []
        parts += [f"{heat.sink * 100:.1f} % to no token (sink)"] if heat.sink > LEAST else []
        whole = "" if kind == "query" else f" {(heat.on_patches + heat.beside) * 100:.1f} % of a query's weight in all:"
        return f"{who} {verb}{whole} {', '.join(parts)}."

    def _say_flows(self, flows: Flows) -> str:
        """Return how many arrows are drawn and what is left out as a sentence."""
        arrows, rings = (len(source.data["weight"]) for source in (self._figure.arrows, self._figure.rings))
        loops = f" and {rings:,} {'ring' if rings == 1 else 'rings'} (a token to itself)" if rings else ""
        drawn = f"{arrows:,} {'arrow' if arrows == 1 else 'arrows'}{loops}"
        faint = self._faint(flows)
        mine = "" if faint is None else f" Of the chosen token: {np.count_nonzero(~faint):,}; the others are faint."
        lost = len(flows.weight) - arrows - rings
        away = f" {lost:,} more lead to tokens that are not shown." if lost else ""
        left = f"Weight that is not drawn: {flows.left_out * 100:.1f} %."
        if self.state.image_show == "strongest":
            way = "from each patch to its" if self._kind == "query" else "to each patch from its"
            return f"{drawn}: {way} strongest {PARTNER[self._kind]}.{mine}{away} {left}"
        cut = f" Of {flows.above:,}, the strongest are drawn." if flows.above > len(flows.weight) else ""
        given = max(0.0, 1 - flows.total / max(len(self._image.weights), 1))
        sink = f" Queries give {given * 100:.1f} % to no token (sink)." if given > LEAST else ""
        return f"{drawn} of at least {self.state.image_least * 100:g} %.{cut}{mine}{away} {left}{sink}"

    def _say_rest(self) -> str:
        """Return what else is to be known: a missing picture, tokens that have no mark, that none is chosen."""
        said = ""
        if self._missing:
            said += f" {self._missing:,} more {'token' if self._missing == 1 else 'tokens'} that are no patch are not shown."
        if self._picture is None:
            said += " The picture of this sequence is missing or damaged."
        if self.state.token is None:
            said += " No token is chosen: click a patch."
        elif self._token is None:
            said += f" {describe_absence(self.state.directory, self.state.layer, self.state.token)}"
        return said
