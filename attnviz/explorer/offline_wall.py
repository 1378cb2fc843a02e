"""The page of all heads that needs no server: the raster of the wall as one picture, named and scored, with its legend."""

import base64
import io

import numpy as np
from PIL import Image

from attnviz.errors import DatasetError
from attnviz.explorer.arranged import arranged_wall
from attnviz.explorer.offline import LIMIT, StillPage, write_page
from attnviz.explorer.scene import Scene, make_scene
from attnviz.explorer.state import State
from attnviz.explorer.swatches import scene_swatches, swatch_html
from attnviz.metrics import HEADLINES
from attnviz.plots.raster import Window, draw, spread_for
from attnviz.plots.still_wall import wall_still
from attnviz.plots.theme import THEMES
from attnviz.types import FloatArray
from attnviz.views import Wall, layer_name, score_phrases, show_text, turn

__all__ = ["wall_page"]

SIDE = 2600  # pixels of the picture's longer side, at most
TILE = 360  # pixels of a tile, at most
SHADES = 256
SMALLER = 0.75  # as wide each time until the page is small enough


def wall_page(state: State) -> StillPage:
    """Return all heads as a page, in the order and of the layers and heads that a state asks for."""
    run, theme = state.directory, THEMES[state.theme]
    wall, numbers, title = arranged_wall(state)
    heads = tuple((tile.layer, tile.head) for tile in wall.tiles)
    scene, scores = make_scene(state, heads), run.scores(state.map)
    headline = next((name for name in HEADLINES if name in scores), None)
    faithful = None if headline is None else scores[headline].reindex(heads).to_numpy(np.float32)
    tips = [
        "\n".join([f"{layer_name(run.layers[layer])} · Head {head}", *score_phrases(scores, layer, head)])
        for layer, head in heads
    ]
    if numbers is not None:
        tips = [f"{tip}\n{title}: {number:.3f}" for tip, number in zip(tips, numbers.tolist(), strict=True)]
    heading = f"{len(wall.shown)} heads · {show_text(run.name, longest=60)}"
    order = f", {'lowest' if state.ascending else 'highest'} {title.lower()} first" if title else ""
    bars = f" Bars show {headline.replace('_', ' ')}." if headline else ""
    sentence = (
        f"{show_text(run.manifest.model.id, longest=60)}, map {state.map}{order}: in each head {scene.words()}.{bars} "
        "Rest on a head to read its scores."
    )
    scale = 1.0
    while True:
        picture = _picture(state, wall, scene, scale)
        figure = wall_still(wall, picture, tips, theme, numbers=numbers, faithful=faithful)
        html = write_page(figure, heading, sentence, theme, legend=swatch_html(scene_swatches(scene)), wide=True)
        if len(html.encode()) <= LIMIT:
            return StillPage(heading, sentence, html)
        if scale < 0.05:
            raise DatasetError("All heads do not fit into one page. Choose some layers or heads.")
        scale *= SMALLER


def _picture(state: State, wall: Wall, scene: Scene, scale: float) -> str:
    """Return the raster of all tiles as an address that holds a PNG of few colours."""
    bounds = (-0.04, wall.columns + 0.04, -wall.height - 0.04, 0.04)  # the home of the figure
    width, height = bounds[1] - bounds[0], bounds[3] - bounds[2]
    pixels = scale * min(TILE, SIDE / max(width, height))
    window = Window(*bounds, round(width * pixels), round(height * pixels))
    placed: FloatArray = turn(wall.points, state.azimuth, state.elevation)
    if scene.gone is not None:
        placed = np.where(scene.gone[..., None], np.float32(np.nan), placed)
    seen = scene.points_a_head * len(wall.shown)
    image = draw(
        placed,
        wall.centers,
        tiles=wall.inside(window.bounds),
        window=window,
        layers=scene.layers(spread_for(seen, window)),
    )
    flat = Image.fromarray(np.ascontiguousarray(image[::-1]).view(np.uint8).reshape(*image.shape, 4), "RGBA")
    file = io.BytesIO()
    flat.quantize(SHADES, method=Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
