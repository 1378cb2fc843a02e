"""What the views that have a tile for each head share: a click or Enter opens a head, arrow keys go from tile to tile."""

from abc import abstractmethod

from attnviz.explorer.view import View
from attnviz.plots.wall import WallFigure
from attnviz.views import Wall

__all__ = ["Tiles"]

STEPS = {"ArrowLeft": (0, -1), "ArrowRight": (0, 1), "ArrowUp": (-1, 0), "ArrowDown": (1, 0)}  # rows, columns


class Tiles(View):
    """A tile for each head, in one figure."""

    framed = False  # its tiles are frames already
    _wall: Wall
    _figure: WallFigure
    _cursor: int | None = None  # the tile that the keys are on

    @abstractmethod
    def _point(self, x: float, y: float) -> None:
        """Frame the tile under a place and say what it is."""

    def press(self, key: str) -> bool:
        """Go to a neighbouring tile or open the one that is framed; tell whether the key means that."""
        if self._wires is None or self._wires.window is None or key not in (*STEPS, "Enter"):
            return False
        known = self._cursor is not None and not self._wall.tiles[self._cursor].out
        if key == "Enter":
            if self._cursor is not None and known:
                self._open(self._cursor)
            return known
        number = self._beside(self._cursor, *STEPS[key]) if self._cursor is not None and known else self._current()
        self._cursor = number
        self._point(*self._wall.tiles[number].center)
        return True

    def _current(self) -> int:
        """Return the tile of the state's head, or the first."""
        own = self._wall.index(self.state.layer, self.state.head)
        return own if own is not None and not self._wall.tiles[own].out else self._wall.tiles.index(self._wall.shown[0])

    def _beside(self, number: int, rows: int, columns: int) -> int:
        """Return the number of the next tile in a direction, or the same where there is none."""
        here = self._wall.tiles[number]
        place = here.row + rows, here.column + columns
        found = (i for i, tile in enumerate(self._wall.tiles) if not tile.out and (tile.row, tile.column) == place)
        return next(found, number)

    def _tap(self, x: float, y: float) -> None:
        tile = self._wall.tile_at(x, y)
        if tile is not None:
            self._open(tile)

    def _open(self, number: int) -> None:
        self._cursor = None
        self._leave()
        self.state.open_head(self._wall.tiles[number].layer, self._wall.tiles[number].head)

    def _leave(self) -> None:
        for source in (self._figure.tip, self._figure.frame):
            source.data = {name: [] for name in source.data}
