"""Many images under one head, side by side: each with the heat of the same kind of token, a click opens one."""

from functools import lru_cache

import numpy as np
import panel as pn
from numpy.typing import NDArray

from attnviz.errors import DatasetError
from attnviz.explorer import library
from attnviz.explorer.state import State
from attnviz.explorer.thumbnails import pixels_or_none
from attnviz.explorer.wires import Wires
from attnviz.plots.figure import place_tip
from attnviz.plots.image import CELL, GridFigure, cell_boxes, columns_for, grid_figure
from attnviz.plots.picture import grey_pixels, heat_pixels, packed, small_pixels
from attnviz.plots.raster import Window
from attnviz.plots.theme import THEMES
from attnviz.plots.weight_bar import mark_weights
from attnviz.store import RunDirectory
from attnviz.views import patch_name, show_text
from attnviz.views.image_flows import GridHeat, grid_heats, image_sequences

__all__ = ["ImageGrid", "images_of", "sequences_to_show"]

SIDE = 160  # pixels of a picture in the grid
LETTER, LINE = 6.4, 12  # pixels that a name takes: of its width a letter, of its height all


@lru_cache(maxsize=8)
def images_of(run: RunDirectory) -> NDArray[np.int64]:
    """Return the sequences that have an image; see ``views.image_flows.image_sequences``."""
    return image_sequences(run)


def sequences_to_show(state: State) -> NDArray[np.int64]:
    """Return the images that a session asks for: all, those that the search finds, or those of one label.

    Raises
    ------
    DatasetError
        If there is nothing to choose them by.
    """
    run, images = state.directory, images_of(state.directory)
    kept = np.ones(len(images), bool)
    if state.image_of == "found":
        if not state.search:
            raise DatasetError("Write into the search field of the side bar which images to show.")
        found = library.matching(run, state.search, how=state.how, where=state.where, case=state.case)
        kept = np.logical_or.reduceat(found, run.bounds[:-1])[images]
    elif state.image_of == "label":
        name = label_column(run)
        if name is None:
            raise DatasetError(f"The images of run {run.name} have no label.")
        codes = run.columns[name].codes
        kept = codes[images] == codes[min(state.sequence, len(codes) - 1)]
    return images[kept]


def label_column(run: RunDirectory) -> str | None:
    """Return the user's column that names an image best: the first one."""
    return next(iter(run.columns), None)


class ImageGrid:
    """Some images at once. ``draw`` fills ``pane``; ``said`` tells what is seen."""

    def __init__(self, state: State, pane: pn.pane.Bokeh) -> None:
        self.state = state
        self.said = ""
        self.wires: Wires | None = None
        self.pages = 1
        self._pane = pane
        self._key: object = None
        self._columns = 6
        self._laid: tuple[int, int] | None = None  # for how many columns and images

    def draw(self) -> None:
        """Draw the page of images that the state says. Raises ``DatasetError`` if there is nothing to draw."""
        self.said = ""
        state, run = self.state, self.state.directory
        every, count = sequences_to_show(state), int(state.image_count)
        if not len(every):
            raise DatasetError("No image is found.")
        self.pages = -(-len(every) // count)
        self._page = min(state.image_page, self.pages - 1)
        self._total = len(every)
        shown = every[self._page * count : (self._page + 1) * count]
        self._kind: str = state.kind_here or state.kind
        like = state.token if state.kind_here is not None else None
        self._heats: tuple[GridHeat, ...] = _heats(
            run, state.layer, state.head, tuple(shown.tolist()), self._kind, like
        )
        self._pictures = [pixels_or_none(run, heat.sequence) for heat in self._heats]
        made = self._key != (run, state.theme) or self._pane.object is not self._figure.plot
        if made:
            self._figure: GridFigure = grid_figure(THEMES[state.theme])
            self.wires = self._wire()
            self._key = (run, state.theme)
        elif self.wires is not None and self.wires.window is not None:
            self._arrange(self.wires.window)
        self._fill()
        if made:
            self._pane.object = self._figure.plot

    def cover(self) -> None:
        """Let the heat cover as much of the pictures as the state says."""
        self._figure.heats.glyph.global_alpha = self.state.image_opacity / 100
        self._fill_pictures()

    def _wire(self) -> Wires:
        plot, home = self._figure.plot, self._home()
        return Wires(
            self.state.guard,
            plot,
            home,
            draw=self._seen,
            point=self._point,
            tap=self._tap,
            leave=self._leave,
            corner=True,
        )

    def _home(self) -> tuple[float, float, float, float]:
        rows = -(-len(self._heats) // self._columns)
        return -0.04, self._columns * CELL[0], -rows * CELL[1], 0.04

    def _seen(self, window: Window) -> None:
        """Lay the images out for the canvas as it is, once its size is known, and fit their names to it."""
        if not self._arrange(window):
            self._fill_names(window)

    def _arrange(self, window: Window) -> bool:
        """Take as many columns as fit best; return whether they changed."""
        columns = columns_for(len(self._heats), window.width, window.height)
        size = (columns, len(self._heats))
        if self._laid == size:
            return False
        self._laid, self._columns = size, columns
        self._fill()
        if self.wires is not None:
            self.wires.settle(self._home())
        return True

    def _fill(self) -> None:
        self._leave()
        self._boxes = cell_boxes([self._size(i) for i in range(len(self._heats))], self._columns)
        tops = [float(heat.grid.max()) for heat in self._heats if heat.grid is not None]
        self._top = max(tops) if any(tops) else 1.0  # of weights that are all 0, or of none, any will do
        mark_weights(self._figure.bar, self._top)
        self._figure.heats.glyph.global_alpha = self.state.image_opacity / 100
        warm = [None if heat.grid is None else heat_pixels(heat.grid, self._top) for heat in self._heats]
        self._figure.heats.data_source.data = self._placed(warm)
        self._fill_pictures()
        self._fill_names(self.wires.window if self.wires is not None else None)
        chosen = [i for i, heat in enumerate(self._heats) if heat.sequence == self.state.sequence]
        x, y, wide, high = self._boxes[chosen].T
        self._figure.frame.data = {"x": x + wide / 2, "y": y + high / 2, "width": wide, "height": high}
        self.said = self._say()

    def _size(self, place: int) -> tuple[int, int]:
        grid, picture = self._heats[place].grid, self._pictures[place]
        if grid is not None:
            return int(grid.shape[0]), int(grid.shape[1])
        return (1, 1) if picture is None else (int(picture.shape[0]), int(picture.shape[1]))

    def _fill_pictures(self) -> None:
        bare = self.state.image_opacity == 0
        small = [None if whole is None else small_pixels(whole, SIDE) for whole in self._pictures]
        made = [whole if whole is None or bare else grey_pixels(whole) for whole in small]
        self._figure.pictures.data_source.data = self._placed(made)

    def _placed(self, pixels: list[NDArray[np.uint8] | None]) -> dict[str, list[object]]:
        there = [i for i, image in enumerate(pixels) if image is not None]
        x, y, wide, high = self._boxes[there].T.tolist()
        images: list[object] = [packed(image) for image in pixels if image is not None]
        return {"image": images, "x": x, "y": y, "dw": wide, "dh": high}

    def _fill_names(self, window: Window | None) -> None:
        unit = 1 / 160 if window is None else window.unit
        room = int(0.96 / unit / LETTER) if (CELL[1] - 1) / unit > LINE else 0
        number = np.arange(len(self._heats))
        texts = [show_text(name, longest=room) if room > 3 else "" for name in self._names()]
        middle = (number % self._columns + 0.5) * CELL[0]
        self._figure.names.data = {"x": middle, "y": self._boxes[:, 1], "text": texts}

    def _names(self) -> list[str]:
        """Return the number of each image with its label, or with its reference where there is none."""
        run = self.state.directory
        label = label_column(run)
        names = run.sequences["reference"] if label is None else run.columns[label].texts
        named = [names[heat.sequence] for heat in self._heats]
        texts = [str(name) if label is None else name.as_py() for name in named]
        return [
            f"{heat.sequence}" if text is None else f"{heat.sequence} · {text}"
            for heat, text in zip(self._heats, texts, strict=True)
        ]

    def _under(self, x: float, y: float) -> int | None:
        column, row = int(np.floor(x / CELL[0])), int(np.floor(-y / CELL[1]))
        place = row * self._columns + column
        return place if 0 <= column < self._columns and row >= 0 and place < len(self._heats) else None

    def _point(self, x: float, y: float) -> None:
        """Name the image under the pointer and the weight at its patch."""
        place = self._under(x, y)
        if place is None or self.wires is None or self.wires.window is None:
            self._leave()
            return
        self._figure.tip.data = place_tip(
            self._words(place, x, y), x, y, bounds=self.wires.window.bounds, width=self.wires.window.width
        )

    def _words(self, place: int, x: float, y: float) -> list[str]:
        run, heat = self.state.directory, self._heats[place]
        reference = run.sequences["reference"].to_numpy()[heat.sequence]
        lines = [show_text(self._names()[place], longest=44), show_text(str(reference), longest=44)]
        if heat.grid is None:
            return [*lines, "No such token here."]
        left, low, wide, high = self._boxes[place]
        rows, columns = heat.grid.shape
        row, column = int(np.floor((low + high - y) / high * rows)), int(np.floor((x - left) / wide * columns))
        if 0 <= row < rows and 0 <= column < columns:
            lines.append(f"patch {row}, {column}: {float(heat.grid[row, column]) * 100:.2f} %")
        return [*lines, f"all patches: {heat.on_patches * 100:.1f} %"]

    def _leave(self) -> None:
        if len(self._figure.tip.data["text"]):
            self._figure.tip.data = {name: [] for name in self._figure.tip.data}

    def _tap(self, x: float, y: float) -> None:
        """Open an image; where a token is chosen, its like in that image is chosen then."""
        place = self._under(x, y)
        if place is None:
            return
        heat = self._heats[place]
        token = heat.source if self.state.token is not None else None
        self.state.param.update(token=token, kind=self._kind, sequence=heat.sequence, image_form="one")

    def _say(self) -> str:
        """Return what the heat of all images is of as a sentence."""
        run, state = self.state.directory, self.state
        first = self._page * int(state.image_count)
        source = next((heat.source for heat in self._heats if heat.source is not None), None)
        kinds = "queries" if self._kind == "query" else "keys"
        who = f"the mean of all {kinds}" if source is None else f"{self._kind} {patch_name(run, source)}"
        does = "gives to" if self._kind == "query" else "gets from"
        lost = sum(heat.grid is None for heat in self._heats)
        less = f" {lost} of them have no such token." if lost else ""
        bare = sum(picture is None for picture in self._pictures)
        gone = f" Of {bare} the picture is missing or damaged." if bare else ""
        return (
            f"Images {first + 1:,} to {first + len(self._heats):,} of {self._total:,}: what {who} {does} each patch, "
            f"in the same colours for all.{less}{gone} Click an image to open it."
        )


@lru_cache(maxsize=16)
def _heats(
    run: RunDirectory, layer: int, head: int, sequences: tuple[int, ...], kind: str, like: int | None
) -> tuple[GridHeat, ...]:
    return tuple(grid_heats(run, layer, head, sequences, kind, like=like))
