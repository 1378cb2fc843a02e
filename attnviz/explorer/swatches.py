"""What colours mean, as a list to be drawn into a picture or written into a page that is kept; the side bar's legend is pressed."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from attnviz.explorer.scene import Scene
from attnviz.plots.theme import hex_color, scale_colors
from attnviz.views import show_text

__all__ = ["Swatch", "scene_swatches", "swatch_html"]

SHADES = 13


@dataclass(frozen=True, slots=True)
class Swatch:
    """One entry."""

    label: str
    colors: tuple[str, ...] = ()  # side by side: none of a remark, two of queries and keys, many of a scale
    count: int | None = None


def scene_swatches(scene: Scene) -> list[Swatch]:
    """Return the entries of a scene that are shown, with the counts of the legend."""
    coloring, theme = scene.coloring, scene.theme
    if coloring.by_kind:
        kinds = zip(("queries", "keys"), (theme.query, theme.key), scene.counts(scene.listed), strict=True)
        made = [Swatch(label, (color,), count) for label, color, count in kinds]
        return [swatch for number, swatch in enumerate(made) if number not in scene.hidden and swatch.count]
    counted = scene.tally().tolist()
    kinds_apart = Swatch("Queries are lighter, keys darker; counts are tokens")
    if not coloring.categories:
        low, high = coloring.ends
        note = f" ({coloring.note})" if coloring.note else ""
        label = f"{show_text(coloring.title, longest=40)}{note}, from ≤ {low} to ≥ {high}"
        scale = Swatch(label, tuple(scale_colors(theme, SHADES, signed=coloring.signed)))
        missing = [Swatch(coloring.without, (theme.missing,), counted[-1])] if counted[-1] else []
        return [scale, *missing, kinds_apart]
    entries = [
        Swatch(
            show_text(entry.label, longest=24),
            tuple(hex_color(scene.table[2 * number + kind]) for kind in (0, 1)),
            counted[number],
        )
        for number, entry in enumerate(coloring.categories)
        if counted[number] and number not in scene.hidden
    ]
    return [*entries, kinds_apart]


def swatch_html(swatches: Iterable[Swatch]) -> str:
    """Return entries as HTML."""
    return "".join(f"<span>{_colors(entry)}{escape(entry.label)}{_count(entry)}</span>" for entry in swatches)


def _colors(entry: Swatch) -> str:
    if not entry.colors:
        return ""
    stops = ",".join(
        f"{color} {100 * number / len(entry.colors):.1f}% {100 * (number + 1) / len(entry.colors):.1f}%"
        for number, color in enumerate(entry.colors)
    )
    wide = ' class="wide"' if len(entry.colors) > 2 else ""
    return f'<i{wide} style="background:linear-gradient(90deg,{stops})"></i>'


def _count(entry: Swatch) -> str:
    return "" if entry.count is None else f" <em>{entry.count:,}</em>"
