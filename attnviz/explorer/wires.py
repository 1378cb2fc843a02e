"""What a figure and the server tell each other: the window, the pointer, a click.

The browser sends one message at a time and waits for the answer; of what happens meanwhile only the latest is sent. So a fast
drag costs as many rasters as the server can draw, and never a queue of stale ones. The figure keeps one unit as wide as high
whatever its size: the browser fits it, because only the browser knows the size in time.
"""

import math
from collections.abc import Callable

from bokeh.events import Event, MouseLeave, Tap
from bokeh.models import ColumnDataSource, CustomJS
from bokeh.plotting import figure

from attnviz.explorer.acts import in_order
from attnviz.explorer.guard import Guard, Guarded
from attnviz.plots.figure import Bounds
from attnviz.plots.raster import Window

__all__ = ["Wires", "answer", "channel", "hear", "listen"]

LARGEST = 4096  # pixels a side: a browser asks for what it shows, and anything else asks in vain
PUSH = """
const link = (to._link ??= {until: 0, next: null})
link.push = () => {
  if (link.next == null || Date.now() < link.until) return
  link.until = Date.now() + 4000  // an answer that never comes must not end the conversation
  const next = link.next
  link.next = null
  to.data = next
}
"""
ANSWERED = "const link = to._link; if (link) { link.until = 0; link.push() }"
WINDOW = (
    PUSH
    + """
const {x_range, y_range, inner_width: w, inner_height: h} = plot
if (!(w > 30 && h > 30) && cb_obj === home) link.unit = null  // it is not on the page yet: go there when it is
if (!(w > 30 && h > 30)) return
const limits = [x_range.start, x_range.end, y_range.start, y_range.end]
const ours = link.setting || link.limits?.every((limit, i) => limit === limits[i])  // Bokeh may tell at once, or later
if (ours && (cb_obj === x_range || cb_obj === y_range)) return
const set = (x, y, unit) => {
  link.limits = [x - unit * w / 2, x + unit * w / 2, y - unit * h / 2, y + unit * h / 2]
  link.setting = true
  x_range.setv({start: link.limits[0], end: link.limits[1]})
  y_range.setv({start: link.limits[2], end: link.limits[3]})
  link.setting = false
}
const resized = link.w !== w || link.h !== h
if (cb_obj === home || (resized && link.unit == null)) {
  const [x0, x1, y0, y1] = home.data.bounds
  const unit = Math.max((x1 - x0) / w, (y1 - y0) / h)
  set(corner ? x0 + unit * w / 2 : (x0 + x1) / 2, corner ? y1 - unit * h / 2 : (y0 + y1) / 2, unit)
  link.unit = null
} else if (resized) {
  set((x_range.start + x_range.end) / 2, (y_range.start + y_range.end) / 2, link.unit)
} else if (cb_obj === x_range || cb_obj === y_range) {
  link.unit = (x_range.end - x_range.start) / w
} else {
  return  // width and height change together and are told one after the other
}
Object.assign(link, {w, h})
link.next = {x0: [x_range.start], x1: [x_range.end], y0: [y_range.start], y1: [y_range.end], w: [w], h: [h]}
setTimeout(link.push, 10)  // a zoom changes four numbers, one after the other
"""
)
POINT = PUSH + "link.next = {x: [cb_obj.x], y: [cb_obj.y]}; setTimeout(link.push, 25)"
LEFT = "if (to._link) to._link.next = null"  # a place told after it was left would keep its tooltip


class Wires:
    """The wiring of one figure.

    Parameters
    ----------
    guard
        Lets no exception of the four handlers through.
    plot, home
        The figure and what it shows at first.
    draw, point, tap, leave
        Called with the new window; with the pointer's place; with a click's place; when the pointer is gone.
    corner
        Whether what is left over of width and height lies to the right and below, not around: axes stand at the left and above.
    """

    def __init__(
        self,
        guard: Guard,
        plot: figure,
        home: Bounds,
        *,
        draw: Callable[[Window], None],
        point: Callable[[float, float], None],
        tap: Callable[[float, float], None],
        leave: Callable[[], None],
        corner: bool = False,
    ) -> None:
        self.window: Window | None = None
        self._guard, self._draw = guard, draw
        self._bounds = home
        self._home = ColumnDataSource({"bounds": list(home)}, name="home")
        self._wire_window(plot, corner=corner)
        listen(plot, guard(point))
        answer(plot, Tap, guard(lambda event: tap(event.x, event.y)))
        answer(plot, MouseLeave, guard(lambda event: leave()))

    def fit(self) -> None:
        """Show everything again."""
        self.go(self._bounds)

    def go(self, bounds: Bounds) -> None:
        """Show a part; ``fit`` still shows everything."""
        self._home.data = {"bounds": list(bounds)}

    def settle(self, bounds: Bounds) -> None:
        """Show another part, which is everything from now on."""
        self._bounds = bounds
        self.fit()

    def _wire_window(self, plot: figure, *, corner: bool) -> None:
        sent, answered = channel("window")
        # "answered" is not read there: naming it is what sends it to the browser.
        arguments = {"plot": plot, "home": self._home, "to": sent, "corner": corner, "answered": answered}
        changed = CustomJS(args=arguments, code=WINDOW)
        for name in ("inner_width", "inner_height"):
            plot.js_on_change(name, changed)
        for limits in (plot.x_range, plot.y_range):
            limits.js_on_change("start", changed)
            limits.js_on_change("end", changed)
        self._home.js_on_change("data", changed)

        def receive(x0: float, x1: float, y0: float, y1: float, width: float, height: float) -> None:
            self.window = Window(x0, x1, y0, y1, min(int(width), LARGEST), min(int(height), LARGEST))
            self._draw(self.window)

        hear(sent, answered, "x0 x1 y0 y1 w h", self._guard(receive))


def answer(plot: figure, event: type[Event], act: Guarded) -> None:
    """Call ``act`` with each event of a kind."""

    @in_order()
    def receive(given: Event) -> None:  # Bokeh counts its parameters
        act(given)

    plot.on_event(event, receive)


def listen(plot: figure, point: Guarded) -> None:
    """Call ``point`` with the place of the pointer, as often as it can answer."""
    sent, answered = channel("pointer")
    plot.js_on_event("mousemove", CustomJS(args={"to": sent, "answered": answered}, code=POINT))
    plot.js_on_event(MouseLeave, CustomJS(args={"to": sent}, code=LEFT))

    hear(sent, answered, "x y", point)


def hear(sent: ColumnDataSource, answered: ColumnDataSource, names: str, act: Guarded) -> None:
    """Call ``act`` with the named numbers of what the browser writes into ``sent``, and let it write again, whatever happened."""

    @in_order()
    def receive(attribute: str, old: object, new: dict[str, list[float]]) -> None:
        """Call ``act`` with what came, if it is numbers, and answer."""
        try:
            numbers = [float(new[name][0]) for name in names.split()]
        except (KeyError, IndexError, TypeError, ValueError):
            numbers = []
        if numbers and all(map(math.isfinite, numbers)):  # anything else asks in vain
            act(*numbers)
        answered.data = {"n": [answered.data["n"][0] + 1]}

    sent.on_change("data", receive)


def channel(name: str) -> tuple[ColumnDataSource, ColumnDataSource]:
    """Return a source that the browser writes, and one whose change lets it write again."""
    sent = ColumnDataSource({}, name=f"{name}-sent")
    answered = ColumnDataSource({"n": [0]}, name=f"{name}-answered")
    answered.js_on_change("data", CustomJS(args={"to": sent}, code=ANSWERED))
    return sent, answered
