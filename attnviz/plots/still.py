"""Figures that need no server: what the pointer does is written into the page, and every number it shows is in there.

Tooltips are text glyphs as everywhere (``plots.figure``), so no text from a run ever becomes HTML.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    Column,
    ColumnDataSource,
    CustomJS,
    Div,
    GlyphRenderer,
    HoverTool,
    LinearColorMapper,
    Rect,
    Scatter,
    Segment,
    Select,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from attnviz.plots.figure import add_image, add_tip, blank_figure
from attnviz.plots.head import HOME, MARKERS
from attnviz.plots.picture import image_data
from attnviz.plots.sentence import line_data, sentence_figure
from attnviz.plots.theme import Theme, hex_color
from attnviz.types import FloatArray
from attnviz.views import strongest_lines

__all__ = ["StillPoints", "Weights", "head_still", "picture_still", "sentence_still"]

Weights = Mapping[tuple[str, str], FloatArray]
"""Attention weights by the names of layer and head, all of the same shape ``(queries, keys)``."""

SIDE = 820  # pixels
HOVER = """
const found = cb_data.index.indices
const clear = (source) => { source.data = Object.fromEntries(Object.keys(source.data).map((name) => [name, []])) }
if (!found.length) { clear(tip); clear(lit); return }
const i = found[found.length - 1], at = points.data
const n = at.token[i], kind = at.key[i] ? 'key' : 'query'
const name = (k) => names[words[k]]
const shown = [`${name(n)} · ${kind}`, `position ${positions[n]}, sequence ${sequences[n]}, norm ${at.norm[i].toFixed(2)}`]
const around = (from, to) => {
  const parts = []
  for (let k = Math.max(0, from); k < Math.min(words.length, to); k++) if (sequences[k] === sequences[n]) parts.push(name(k))
  return parts.join(' ')
}
shown.push(`${around(n - 5, n)} [${name(n)}] ${around(n + 1, n + 6)}`.trim())
const right = at.x[i] > (ranges[0].start + ranges[0].end) / 2, low = at.y[i] < (ranges[1].start + ranges[1].end) / 2
lit.data = {x: [at.x[i]], y: [at.y[i]]}
tip.data = {x: [at.x[i]], y: [at.y[i]], text: [shown.join('\\n')], dx: [right ? -14 : 14], dy: [low ? -12 : 12],
            anchor: [`${low ? 'bottom' : 'top'}_${right ? 'right' : 'left'}`]}
"""
KNOWN = """
const own = weights.get ? weights.get(`${layer.value}/${head.value}`) : weights[`${layer.value}/${head.value}`]
if (own == null) return  // this layer has fewer heads
"""
SENTENCE = """
const x = cb_obj.x, y = cb_obj.y, over = cb_obj.event_name === 'mousemove'
let side = over ? (x < 0.5 ? 0 : 1) : -1, at = Math.round(-y)
if (over && !(at >= 0 && at < shape[side])) side = -1
const found = []
for (let q = 0; q < shape[0]; q++) for (let k = 0; k < shape[1]; k++) {
  const w = own[q * shape[1] + k]
  if (w >= 0.02) found.push([w, q, k])
}
found.sort((a, b) => a[0] - b[0])
const kept = found.slice(-1500), mine = kept.map(([w, q, k]) => side < 0 || (side === 0 ? q : k) === at)
const color = side < 0 ? colors.all : side === 0 ? colors.query : colors.key
lines.data = {
  x0: kept.map(() => 0), x1: kept.map(() => 1), y0: kept.map((f) => -f[1]), y1: kept.map((f) => -f[2]),
  color: mine.map((m) => m ? color : colors.faint), width: kept.map((f, i) => mine[i] ? 1 + 3 * f[0] : 1),
  alpha: kept.map((f, i) => Math.min(1, Math.max(0.02, f[0])) * (mine[i] ? 1 : 0.25)),
}
const shares = {x: [], y: [], text: [], align: []}
if (side >= 0) for (let i = 0; i < shape[1 - side]; i++) {
  const w = side === 0 ? own[at * shape[1] + i] : own[i * shape[1] + at]
  if (w < 0.05) continue
  shares.x.push(side === 0 ? 2.08 : -1.08); shares.y.push(-i)
  shares.text.push(`${Math.round(w * 100)}%`); shares.align.push(side === 0 ? 'right' : 'left')
}
numbers.data = shares
marks.data = side < 0 ? {x: [], y: [], color: []} : {x: [side === 0 ? -0.5 : 1.5], y: [-at], color: [color]}
"""
PICTURE = """
if (cb_obj.event_name === 'mousemove') {
  const [rows, columns] = grid, r = Math.floor(-cb_obj.y), c = Math.floor(cb_obj.x)
  if (!(r >= 0 && c >= 0 && r < rows && c < columns) || cells[r * columns + c] < 0) return
  frame.data = {x: [c + 0.5], y: [-r - 0.5]}
}
const c = Math.floor(frame.data.x[0]), r = Math.floor(-frame.data.y[0])
const from = cells[r * grid[1] + c]
heat.data = {...heat.data, weight: keys.map((key) => own[from * width + key])}
mapper.high = Math.max(1e-12, ...heat.data.weight)
note.text = `Patch ${r}, ${c} (framed) gives most to the bright patches: ${(100 * mapper.high).toFixed(1)} % at most`
"""


@dataclass(frozen=True, slots=True)
class StillPoints:
    """The points of a head and the tokens they belong to. A token is named by its number in ``names``."""

    places: FloatArray  # (points, 2)
    token: NDArray[np.int64]  # (points,), rows of the three below
    key: NDArray[np.bool_]  # (points,)
    norm: FloatArray  # (points,)
    color: FloatArray  # (points, 3) in 0…1
    words: NDArray[np.int64]  # (tokens,)
    positions: NDArray[np.int64]
    sequences: NDArray[np.int64]
    names: Sequence[str]


def head_still(points: StillPoints, lines: Mapping[str, object], theme: Theme) -> figure:
    """Draw a head whose points answer the pointer, with the lines ``x0, y0, x1, y1, width, alpha`` of a chosen one."""
    plot = blank_figure("head", HOME, fill=theme.surface)
    plot.update(sizing_mode="scale_width", width=SIDE, height=SIDE, aspect_ratio=1)
    palette, codes = np.unique(np.round(points.color * 255).astype(np.uint8), axis=0, return_inverse=True)
    colors = LinearColorMapper(
        palette=[hex_color(color / np.float32(255)) for color in palette], low=-0.5, high=len(palette) - 0.5
    )
    order = np.random.default_rng(0).permutation(len(codes))  # neither kind may lie above the other
    size = float(np.clip(26 / max(len(codes), 1) ** 0.2, 3.5, 12))
    columns = {
        **dict(zip("xy", points.places.astype(np.float32).T, strict=True)),
        "token": points.token.astype(np.int32),
        "key": points.key.astype(np.uint8),
        "norm": points.norm.astype(np.float32),
        "code": codes.reshape(-1).astype(np.uint16),
        "size": np.where(points.key, 1.4 * size, size).astype(np.float32),
        "marker": np.array(MARKERS)[points.key.astype(int)],
    }
    source = ColumnDataSource({name: column[order] for name, column in columns.items()}, name="points")
    fill = {"field": "code", "transform": colors}
    mark = Scatter(x="x", y="y", size="size", marker="marker", fill_color=fill, line_color=None, fill_alpha=0.85)
    drawn = plot.add_glyph(source, mark)
    strokes = Segment(x0="x0", y0="y0", x1="x1", y1="y1", line_color=theme.ink, line_width="width", line_alpha="alpha")
    plot.add_glyph(ColumnDataSource(dict(lines), name="lines"), strokes)
    _add_tips(plot, drawn, points, theme)
    return plot


def _add_tips(plot: figure, drawn: GlyphRenderer, points: StillPoints, theme: Theme) -> None:
    lit = ColumnDataSource({"x": [], "y": []}, name="lit")
    plot.add_glyph(lit, Scatter(x="x", y="y", size=13, fill_color=None, line_color=theme.ink, line_width=2))
    arguments = {"points": drawn.data_source, "tip": add_tip(plot, theme), "lit": lit}
    arguments |= {"ranges": [plot.x_range, plot.y_range], "words": points.words.astype(np.int32)}
    arguments |= {"positions": points.positions.astype(np.int32), "sequences": points.sequences.astype(np.int32)}
    arguments |= {"names": list(points.names)}
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=None, callback=CustomJS(args=arguments, code=HOVER)))


def sentence_still(
    queries: Sequence[str], keys: Sequence[str], weights: Weights, chosen: tuple[str, str], theme: Theme
) -> Column:
    """Draw the tokens of a sequence with lines that answer the pointer, and a choice of layer and head."""
    drawn = sentence_figure(theme)
    drawn.write(queries, keys)
    drawn.lines.data = line_data(strongest_lines(weights[chosen]), theme, chosen=None)
    arguments = {"lines": drawn.lines, "marks": drawn.marks, "numbers": drawn.numbers}
    arguments |= {"shape": [len(queries), len(keys)]}
    arguments |= {
        "colors": {"all": theme.accent, "query": theme.query, "key": theme.key, "faint": theme.faint},
    }
    return _with_choice(drawn.plot, weights, chosen, arguments, SENTENCE)


def picture_still(
    pixels: NDArray[np.uint8],
    cells: NDArray[np.int64],
    weights: Weights,
    chosen: tuple[str, str],
    theme: Theme,
) -> Column:
    """Draw an image under the attention of the patch that the pointer is on.

    Parameters
    ----------
    cells
        ``(rows, columns)``: which row and column of the weights each patch is, or -1.
    """
    rows, columns = cells.shape
    plot = blank_figure("picture", (0, columns, -rows, 0), fill=theme.surface, move=False)
    plot.update(sizing_mode="fixed", width=560, height=round(560 * rows / columns))
    add_image(plot, "picture-image").data_source.data = image_data(pixels, (rows, columns))
    there = np.argwhere(cells >= 0)
    places = cells[tuple(there.T)]
    start = there[len(there) // 2]
    given = weights[chosen][places[len(there) // 2], places]
    mapper = LinearColorMapper(
        palette=[hex_color(_warm(share)) for share in np.linspace(0, 1, 64)], low=0, high=max(float(given.max()), 1e-12)
    )
    heat = ColumnDataSource({"x": there[:, 1] + 0.5, "y": -there[:, 0] - 0.5, "weight": given}, name="heat")
    fill = {"field": "weight", "transform": mapper}
    plot.add_glyph(heat, Rect(x="x", y="y", width=1, height=1, fill_color=fill, fill_alpha=0.62, line_color=None))
    frame = ColumnDataSource({"x": [start[1] + 0.5], "y": [-start[0] - 0.5]}, name="patch-frame")
    plot.add_glyph(frame, Rect(x="x", y="y", width=1, height=1, fill_color=None, line_color=theme.accent, line_width=3))
    note = Div(text="Move the pointer over the patches: each shows where it attends.")
    arguments = {"heat": heat, "frame": frame, "mapper": mapper, "note": note, "keys": places.tolist()}
    arguments |= {"cells": cells.ravel().tolist(), "grid": [rows, columns], "width": weights[chosen].shape[1]}
    shown = _with_choice(plot, weights, chosen, arguments, PICTURE)
    shown.children.append(note)
    return shown


def _with_choice(
    plot: figure, weights: Weights, chosen: tuple[str, str], arguments: Mapping[str, object], code: str
) -> Column:
    """Put a choice of layer and head above a figure, and let it and the pointer run ``code``."""
    layers, heads = (list(dict.fromkeys(names)) for names in zip(*weights, strict=True))
    choices = [
        Select(title=title, value=value_, options=options, width=150)
        for title, value_, options in zip(("Layer", "Head"), chosen, (layers, heads), strict=True)
    ]
    flat = {f"{layer}/{head}": own.astype(np.float32).ravel() for (layer, head), own in weights.items()}
    changed = CustomJS(
        args={**arguments, "weights": flat, "layer": choices[0], "head": choices[1]}, code=f"{KNOWN}{code}"
    )
    for choice in choices:
        choice.js_on_change("value", changed)
    for event in ("mousemove", "mouseleave"):
        plot.js_on_event(event, changed)
    return column(row(*choices), plot, sizing_mode="stretch_width")


def _warm(share: float) -> FloatArray:
    return np.asarray(np.sqrt(share) * np.array([1.0, 0.47, 0.12]), np.float32)
