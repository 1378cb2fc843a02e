"""One window for all heads: while it is switched on, dragging and scrolling move what every tile shows instead of the wall.

The browser keeps the window between its messages, so that many turns of a wheel are one change; the state has what was told last.
What the browser sends says which telling it began from: a drag that is under way when "Reset view" is pressed must not undo it.
"""

from bokeh.models import ColumnDataSource, CustomJS, PanTool, WheelZoomTool
from bokeh.plotting import figure

from attnviz.explorer.state import State
from attnviz.explorer.wires import PUSH, channel, hear
from attnviz.types import FloatArray

__all__ = ["Lens"]

FASTEST = 1000.0  # the closest zoom; ``State.near_zoom`` takes no more
MOVE = (
    PUSH
    + """
if (!lens.data.zoom[0]) return  // switched off
const near = (to._near ??= {x: lens.data.x[0], y: lens.data.y[0], zoom: lens.data.zoom[0]})
const clip = (value, least, most) => Math.min(most, Math.max(least, value))
const {x_range, inner_width} = plot
const unit = (x_range.end - x_range.start) / inner_width
if (cb_obj.event_name === 'panstart') {
  to._last = [cb_obj.sx, cb_obj.sy]
  return
}
if (cb_obj.event_name === 'pan') {
  const [sx, sy] = to._last ?? [cb_obj.sx, cb_obj.sy]
  near.x -= (cb_obj.sx - sx) * unit / near.zoom
  near.y += (cb_obj.sy - sy) * unit / near.zoom
  to._last = [cb_obj.sx, cb_obj.sy]
} else {
  let [dx, dy, least] = [0, 0, Infinity]  // from the middle of the tile under the pointer
  tiles.x.forEach((x, i) => {
    const [ax, ay] = [cb_obj.x - x, cb_obj.y - tiles.y[i]]
    const away = Math.max(Math.abs(ax), Math.abs(ay))
    if (away < least) [dx, dy, least] = [ax, ay, away]
  })
  if (!(least <= 0.5)) return
  const zoom = clip(near.zoom * Math.exp(clip(cb_obj.delta, -120, 120) / 300), 1, closest)
  near.x += dx / near.zoom - dx / zoom
  near.y += dy / near.zoom - dy / zoom
  near.zoom = zoom
}
const reach = 0.5 - 0.5 / near.zoom  // so that the window stays on the tile
near.x = clip(near.x, -reach, reach)
near.y = clip(near.y, -reach, reach)
link.next = {x: [near.x], y: [near.y], zoom: [near.zoom], telling: lens.data.telling}
setTimeout(link.push, 20)
"""
)


class Lens:
    """The window that the tiles of one figure share.

    Parameters
    ----------
    plot, centers
        The figure of a wall, and where its tiles lie.
    state
        Keeps the window in ``near_x``, ``near_y``, ``near_zoom``.
    """

    def __init__(self, plot: figure, centers: FloatArray, state: State) -> None:
        self._plot, self._state = plot, state
        self._told = ColumnDataSource({"x": [0.0], "y": [0.0], "zoom": [0.0], "telling": [0]}, name="lens")
        self._on, self._heard = False, self._window()
        sent, answered = channel("near")
        tiles = {name: centers[:, axis].tolist() for axis, name in enumerate("xy")}
        arguments = {"plot": plot, "lens": self._told, "to": sent, "tiles": tiles, "closest": FASTEST}
        arguments["answered"] = answered  # not read there: naming it is what sends it to the browser
        for name in ("wheel", "panstart", "pan"):
            plot.js_on_event(name, CustomJS(args=arguments, code=MOVE))
        self._told.js_on_change("data", CustomJS(args={"to": sent}, code="to._near = null"))

        hear(sent, answered, "telling x y zoom", state.guard(self._hear))
        self.switch(on=state.local)

    def _hear(self, telling: float, x: float, y: float, zoom: float) -> None:
        if telling == self._told.data["telling"][0]:
            self._heard = x, y, zoom = round(x, 5), round(y, 5), round(zoom, 5)
            self._state.param.update(near_x=x, near_y=y, near_zoom=zoom)

    def switch(self, *, on: bool) -> None:
        """Let drags and the wheel move the shared window, which may have been moved otherwise, or the wall."""
        if on == self._on and self._heard == self._window():
            return
        if on != self._on:
            self._on = on
            drag, wheel = (
                next(tool for tool in self._plot.tools if isinstance(tool, kind)) for kind in (PanTool, WheelZoomTool)
            )
            self._plot.toolbar.update(active_drag=None if on else drag, active_scroll=None if on else wheel)
        self.forget()

    def forget(self) -> None:
        """Let the browser begin anew from the window of the state."""
        x, y, zoom = self._heard = self._window()
        telling = self._told.data["telling"][0] + 1
        self._told.data = {"x": [x], "y": [y], "zoom": [zoom if self._on else 0.0], "telling": [telling]}

    def _window(self) -> tuple[float, float, float]:
        return self._state.near_x, self._state.near_y, self._state.near_zoom
