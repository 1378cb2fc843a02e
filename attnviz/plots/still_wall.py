"""The wall as a figure that needs no server: one picture of all heads, their names and scores, a tooltip for each."""

from collections.abc import Sequence

from bokeh.models import ColumnDataSource, CustomJS, HoverTool, ImageURL, Rect
from bokeh.plotting import figure

from attnviz.plots.theme import Theme
from attnviz.plots.wall import wall_figure
from attnviz.types import FloatArray
from attnviz.views import Wall

__all__ = ["wall_still"]

HOVER = """
const found = cb_data.index.indices
if (!found.length) {
  for (const source of [tip, frame]) source.data = Object.fromEntries(Object.keys(source.data).map((name) => [name, []]))
  return
}
const {x, y, text} = tiles.data, i = found[found.length - 1]
const right = x[i] > (ranges[0].start + ranges[0].end) / 2, low = y[i] < (ranges[1].start + ranges[1].end) / 2
frame.data = {x: [x[i]], y: [y[i]]}
tip.data = {x: [x[i]], y: [y[i]], text: [text[i]], dx: [right ? -14 : 14], dy: [low ? -12 : 12],
            anchor: [`${low ? 'bottom' : 'top'}_${right ? 'right' : 'left'}`]}
"""
FIT = """
const {inner_width: w, inner_height: h, x_range, y_range} = plot
if (!(w > 30 && h > 30)) return
if (cb_obj === plot) {
  const unit = Math.max((home[1] - home[0]) / w, (home[3] - home[2]) / h)
  x_range.setv({start: home[0], end: home[0] + unit * w})
  y_range.setv({start: home[3] - unit * h, end: home[3]})
}
titles.visible = w / (x_range.end - x_range.start) >= room
"""


def wall_still(
    wall: Wall,
    picture: str,
    tips: Sequence[str],
    theme: Theme,
    *,
    numbers: FloatArray | None,
    faithful: FloatArray | None,
) -> figure:
    """Draw the wall.

    Parameters
    ----------
    picture
        The heads as a raster over the figure's home, as a ``data:`` address.
    tips
        What is said of each tile.
    numbers, faithful
        As for ``wall_figure``.
    """
    made = wall_figure(wall, theme, numbers=numbers, faithful=faithful)
    plot, (x0, x1, y0, y1) = made.plot, made.home
    plot.update(sizing_mode="scale_width", width=1200, height=round(1200 * (y1 - y0) / (x1 - x0)))
    plot.update(aspect_ratio=(x1 - x0) / (y1 - y0))
    fit = CustomJS(args={"plot": plot, "home": [*made.home], "titles": made.titles, "room": made.room}, code=FIT)
    for name in ("inner_width", "inner_height"):
        plot.js_on_change(name, fit)
    plot.x_range.js_on_change("start", fit)
    place = plot.renderers.index(made.image)
    source = ColumnDataSource({"url": [picture]}, name="wall-picture")
    shown = plot.add_glyph(source, ImageURL(url="url", x=x0, y=y1, w=x1 - x0, h=y1 - y0, anchor="top_left"))
    plot.renderers.remove(shown)
    plot.renderers[place] = shown
    tiles = [(*tile.center, text) for tile, text in zip(wall.tiles, tips, strict=True) if not tile.out]
    named = ColumnDataSource(
        dict(zip(("x", "y", "text"), map(list, zip(*tiles, strict=True)), strict=True)), name="heads"
    )
    area = plot.add_glyph(named, Rect(x="x", y="y", width=1, height=1, fill_alpha=0, line_color=None))
    arguments = {"tiles": named, "tip": made.tip, "frame": made.frame, "ranges": [plot.x_range, plot.y_range]}
    plot.add_tools(HoverTool(renderers=[area], tooltips=None, callback=CustomJS(args=arguments, code=HOVER)))
    return plot
