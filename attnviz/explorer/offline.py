"""Pages that need no server: a head or a sequence as one HTML file that holds all it shows, its scripts included.

In a notebook the same file stands in a frame of its own, so text of a run cannot reach the notebook around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
from bokeh.core.json_encoder import serialize_json
from bokeh.embed import json_item
from bokeh.models import UIElement, Widget
from bokeh.resources import Resources
from numpy.typing import NDArray

from attnviz.errors import DatasetError, nearest
from attnviz.explorer import library
from attnviz.explorer.scene import make_scene
from attnviz.explorer.state import State
from attnviz.explorer.swatches import scene_swatches, swatch_html
from attnviz.explorer.thumbnails import pixels
from attnviz.plots.still import StillPoints, Weights, head_still, picture_still, sentence_still
from attnviz.plots.theme import FONT, THEMES, Theme
from attnviz.store import RunDirectory
from attnviz.types import KINDS
from attnviz.views import PARTNER, Exchange, layer_name, links, read_exchange, show_text, show_token, token_names, turn

__all__ = ["LIMIT", "StillPage", "chosen_state", "head_page", "sequence_page", "write_page"]

LIMIT = 5_000_000  # bytes of a page
POINTS = 60_000  # in a page; of more, whole sequences are left out at random
NUMBERS = 400_000  # weights in a page: all heads, or those of one layer, or one
ROWS = 400  # tokens of a side in a sentence, as in the explorer
RULES = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
TEMPLATE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$rules">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$heading · attnviz</title>
<link rel="icon" href="data:,">
<style>
  html, body { margin: 0; background: $page; color: $ink; font: 13px/1.5 $font; }
  main { max-width: $room; margin: 0 auto; padding: 14px 16px; }
  h1 { font-size: 16px; margin: 0; overflow-wrap: anywhere; }
  p { margin: 0 0 10px; color: $muted; overflow-wrap: anywhere; }
  .swatches { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 0 0 10px; }
  .swatches i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 5px; }
  .swatches i.wide { width: 90px; }
  .swatches em { font-style: normal; color: $muted; }
</style>
<script>$library</script>
</head>
<body>
<main><h1>$heading</h1><p>$sentence</p><div class="swatches">$legend</div><div id="shown"></div></main>
<script type="application/json" id="data">$data</script>
<script>Bokeh.embed.embed_item(JSON.parse(document.getElementById('data').textContent), 'shown')</script>
</body>
</html>
""")
"""The page; it may ask the network for nothing, whatever it holds."""


@dataclass(frozen=True, slots=True)
class StillPage:
    """A page that needs no server. A notebook shows it; ``save`` writes it."""

    heading: str
    sentence: str
    html: str
    height: int = 960

    def save(self, path: str | Path) -> Path:
        """Write the page as one HTML file that opens without a server or a network; return where it is."""
        file = Path(path)
        try:
            file.write_text(self.html, "utf-8")
        except OSError as error:
            raise DatasetError(f"The page cannot be written to {file}: {error.strerror or error}.") from error
        return file

    def _repr_html_(self) -> str:
        frame = 'sandbox="allow-scripts" style="width:100%;border:0;height:'
        return f'<iframe {frame}{self.height}px" title="{escape(self.heading)}" srcdoc="{escape(self.html)}"></iframe>'

    def __repr__(self) -> str:
        return f"<attnviz page: {self.heading}. {self.sentence}>"


def chosen_state(run: RunDirectory, *, needs_map: bool = True, **chosen: object) -> State:
    """Return a state of one run with some of its parameters set; those that are None stay.

    Raises
    ------
    DatasetError
        If the run has no map and one is needed, or not what was asked for.
    """
    state = State({run.name: run})
    for name in ("map", "color", "theme"):
        known = [str(choice) for choice in state.param[name].get_range().values()]
        if (value := chosen.get(name)) is not None and value not in known:
            raise DatasetError(f"There is no {name} {value!r} for run {run.name}: {nearest(str(value), known)}")
    if (layer := chosen.get("layer")) is not None:
        head = chosen.get("head")
        run.head(int(str(layer)), 0 if head is None else int(str(head)))
    token = chosen.get("token")
    if token is not None and not 0 <= int(str(token)) < run.num_tokens:
        raise DatasetError(f"Run {run.name} has tokens 0 to {run.num_tokens - 1}; {token} was asked for.")
    state.param.update(**{name: value for name, value in chosen.items() if value is not None})
    if needs_map and state.map is None:
        raise DatasetError(state.problem or f"Run {run.name} has no complete map. Make one with `attnviz project`.")
    return state


def head_page(state: State) -> StillPage:
    """Return the chosen head as a page: its points answer the pointer, a chosen token has its lines."""
    run = state.directory
    scene = make_scene(state, ((state.layer, state.head),))
    rows = np.flatnonzero(scene.shown)
    heading = f"{layer_name(run.layers[state.layer])}, head {state.head} · {show_text(run.name, longest=60)}"
    most = POINTS
    while True:
        kept = _sample(run, rows, most)
        figure = head_still(_points(state, kept), _lines(state), THEMES[state.theme])
        left = f", drawn at random from {len(rows):,}" if len(kept) < len(rows) else ""
        sentence = (
            f"{_model(run)}, map {state.map}: {len(kept):,} points{left}, coloured by {scene.coloring.phrase}. "
            "Circles are queries, diamonds are keys. Drag and scroll to move, rest on a point to read it."
        )
        legend = swatch_html(scene_swatches(scene))
        html = write_page(figure, heading, sentence, THEMES[state.theme], legend=legend)
        if len(html.encode()) <= LIMIT or most < 100:
            return StillPage(heading, sentence, html)
        most //= 2


def sequence_page(state: State, sequence: int) -> StillPage:
    """Return the attention over a sequence as a page, of all heads where they fit, with a choice among them.

    Raises
    ------
    DatasetError
        If the run has no such sequence, or its attention cannot be rebuilt.
    """
    run, theme = state.directory, THEMES[state.theme]
    exchange = read_exchange(run, state.layer, state.head, sequence)
    heading = f"Sequence {sequence} · {show_text(run.name, longest=60)}"
    texts = [run.tokens["modality"].to_numpy()[exchange.tokens(kind)] == "text" for kind in KINDS]
    chosen = run.layers[state.layer].label, str(state.head)
    if all(own.any() for own in texts):
        rows, columns = (np.flatnonzero(own)[:ROWS] for own in texts)
        weights = _weights(state, sequence, exchange, rows, columns)
        names = run.tokens["text"].to_numpy()
        queries, keys = (
            [show_token(text, longest=15) for text in names[exchange.tokens(kind)[own]]]
            for kind, own in zip(KINDS, (rows, columns), strict=True)
        )
        shown: UIElement = sentence_still(queries, keys, weights, chosen, theme)
        height = 18 * max(len(queries), len(keys)) + 220
        how = "Rest on a token to see its lines and numbers."
    else:
        cells = _cells(run, exchange)
        every = [np.arange(len(exchange.tokens(kind))) for kind in KINDS]
        weights = _weights(state, sequence, exchange, *every)
        shown = picture_still(pixels(run, sequence), cells, weights, chosen, theme)
        height, how = 780, "Rest on a patch to see where it attends."
    count = "1 head" if len(weights) == 1 else f"{len(weights)} heads"
    left = max(0, max(map(np.count_nonzero, texts)) - ROWS) if height != 780 else 0
    cut = f" The first {ROWS} tokens of each side." if left else ""
    sentence = f"{show_text(run.manifest.model.id, longest=60)}: attention of {count}. {how}{cut}"
    return StillPage(heading, sentence, write_page(shown, heading, sentence, theme), height)


def write_page(
    shown: UIElement, heading: str, sentence: str, theme: Theme, *, legend: str = "", wide: bool = False
) -> str:
    """Return the whole file; ``legend`` is HTML already.

    Not Bokeh's ``file_html``: where Panel is loaded, that adds scripts which Panel's server holds.
    """
    used = ["bokeh", "bokeh-widgets"] if any(shown.select({"type": Widget})) else ["bokeh"]
    data = serialize_json(json_item(shown)).replace("<", "\\u003c")  # so that no text ends the script it stands in
    room = "1500px" if wide else "min(940px, max(340px, calc(100vh - 110px)))"
    words = {"heading": escape(heading), "sentence": escape(sentence), "legend": legend}
    words |= {"room": room, "rules": RULES, "font": FONT, "data": data}
    colors = {"page": theme.page, "ink": theme.ink, "muted": theme.muted}
    return TEMPLATE.substitute(words, **colors, library="\n".join(Resources("inline", components=used).js_raw))


def _sample(run: RunDirectory, rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the points of so many whole sequences, drawn at random, that at most ``most`` points are kept."""
    if len(rows) <= most:
        return rows
    sequences = run.tokens["sequence_id"].to_numpy()[rows % run.num_tokens]
    order = np.random.default_rng(0).permutation(run.num_sequences)
    sizes = np.cumsum(np.bincount(sequences, minlength=run.num_sequences)[order])
    kept: NDArray[np.int64] = rows[np.isin(sequences, order[sizes <= most])]
    return kept if len(kept) else rows[:most]


def _points(state: State, rows: NDArray[np.int64]) -> StillPoints:
    run = state.directory
    wall = library.wall(run, state.map, alike=state.alike)
    placed = turn(wall.points_of(state.layer, state.head), state.azimuth, state.elevation)
    tokens, token = np.unique(rows % run.num_tokens, return_inverse=True)
    table = run.tokens.iloc[tokens]
    names, words = np.unique(_names(table), return_inverse=True)
    return StillPoints(
        places=placed[rows],
        token=token,
        key=rows >= run.num_tokens,
        norm=run.norms(state.layer, state.head)[rows],
        color=make_scene(state, ((state.layer, state.head),)).colors(rows),
        words=words,
        positions=table["position"].to_numpy(np.int64),
        sequences=table["sequence_id"].to_numpy(np.int64),
        names=names.tolist(),
    )


def _lines(state: State) -> dict[str, object]:
    """Return the lines from the chosen token to its partners, or none."""
    run, token, kind = state.directory, state.token, state.kind_here
    if token is None or kind is None or not run.layers[state.layer].rebuilt:
        return {name: [] for name in ("x0", "y0", "x1", "y1", "width", "alpha")}
    exchange = read_exchange(run, state.layer, state.head, int(run.tokens["sequence_id"].iloc[token]))
    frame, _ = links(exchange.attention, exchange.row_of(token, kind), kind=kind)
    wall = library.wall(run, state.map, alike=state.alike)
    placed = turn(wall.points_of(state.layer, state.head), state.azimuth, state.elevation)
    start, end = (run.num_tokens * KINDS.index(side) for side in (kind, PARTNER[kind]))
    there = placed[exchange.tokens(PARTNER[kind])[frame["position"].to_numpy(np.int64)] + end]
    here = np.repeat(placed[[token + start]], len(frame), axis=0)
    weight = frame["weight"].to_numpy()
    ends = {"x0": here[:, 0], "y0": here[:, 1], "x1": there[:, 0], "y1": there[:, 1]}
    return ends | {"width": 1 + 5 * weight, "alpha": np.clip(0.35 + weight, 0, 0.9)}


def _weights(
    state: State, sequence: int, exchange: Exchange, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Weights:
    """Return the weights of all heads with the same points that fit into a page, or of the layer, or of the head."""
    run = state.directory
    streams = _streams(run, state.layer)
    alike = [layer for layer in run.layers if run.layers[layer].rebuilt and _streams(run, layer) == streams]
    every = [(layer, head) for layer in alike for head in range(run.layers[layer].num_heads)]
    choices: Sequence[list[tuple[int, int]]] = (
        every,
        [place for place in every if place[0] == state.layer],
        [(state.layer, state.head)],
    )
    fits = max(1, NUMBERS // (len(rows) * len(columns)))
    heads = next((some for some in choices if len(some) <= fits), choices[-1])
    place = np.ix_(rows, columns)
    return {
        (run.layers[layer].label, str(head)): run.attention(layer, head, sequence).weights[place]
        for layer, head in heads
    }


def _cells(run: RunDirectory, exchange: Exchange) -> NDArray[np.int64]:
    """Return which row of the weights each patch is; queries and keys must be the same patches."""
    queries, keys = (exchange.tokens(kind) for kind in KINDS)
    if not np.array_equal(queries, keys):
        raise DatasetError("This layer's queries and keys are not the same tokens; see its attention in the explorer.")
    places = run.tokens[["patch_row", "patch_col"]].iloc[queries].fillna(-1).to_numpy(np.int64)
    if (places < 0).all():
        raise DatasetError("This sequence has neither words nor patches in the layer; choose another layer.")
    cells = np.full(places.max(axis=0) + 1, -1)
    patch = np.flatnonzero((places >= 0).all(axis=1))
    cells[tuple(places[patch].T)] = patch
    return cells


def _names(tokens: pd.DataFrame) -> list[str]:
    """Return what tokens are called, as ``views.patch_name`` does for one."""
    names = token_names(tokens)
    shown = {name: show_token(name) for name in set(names)}
    return [shown[name] for name in names]


def _model(run: RunDirectory) -> str:
    return show_text(run.manifest.model.id, longest=60)


def _streams(run: RunDirectory, layer: int) -> tuple[str, str]:
    return run.layers[layer].query_stream, run.layers[layer].key_stream
