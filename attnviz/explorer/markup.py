"""The few pieces of HTML the explorer writes itself. Every text that comes from a run goes through ``escape`` here."""

from html import escape

import pandas as pd

from attnviz.explorer.scene import Scene
from attnviz.info import count_rows, told_of_rows
from attnviz.plots.theme import hex_color, scale_colors
from attnviz.store import RunDirectory
from attnviz.store.manifest import MapInfo
from attnviz.views import describe_token, show_text
from attnviz.views.coloring import BINS
from attnviz.views.describe import ISOLATES

__all__ = [
    "brand",
    "card",
    "chips",
    "facts",
    "heading",
    "isolated",
    "legend",
    "line",
    "map_line",
    "note",
    "partners",
    "quiet",
    "selected",
    "subtitle",
]


ISOLATE = """
const isolate = (element, text) => {  // what stands between the characters that isolate, in elements: these are not copied
  element.dir = 'ltr'
  element.append(...text.split(/[\\u2068\\u2069]/).map((part, place) => {
    if (place % 2 === 0) return part
    const isolated = document.createElement('bdi')
    isolated.textContent = part
    return isolated
  }))
  return element
}
"""
"""What ``isolated`` is to a script of the page."""

LEAST = 0.0005  # of all weight, for a sink to be spoken of: less is how numbers are rounded


def brand(run: RunDirectory) -> str:
    """Return the top bar: what is open, and how much of it there is."""
    heads = sum(layer.num_heads for layer in run.manifest.layers)
    unit = "images" if run.manifest.model.modality == "image" else "sequences"
    counts = f"{len(run.layers)} layers · {heads} heads · {run.num_tokens:,} tokens · {run.num_sequences:,} {unit}"
    told = count_rows(run)
    skipped = sum(told["skipped"].values())
    counts += f" · {told['shortened']:,} shortened" if told["shortened"] else ""
    counts += f" · {skipped:,} {'row' if skipped == 1 else 'rows'} left out" if skipped else ""
    whole = escape("\n".join(f"{word}: {line}" for word, line in told_of_rows(told)))
    return (
        f'<span class="mark">attn<b>viz</b></span><span class="run">{escape(show_text(run.name, longest=60))}</span>'
        f'<span class="model">{escape(show_text(run.manifest.model.id, longest=60))}</span>'
        f'<span class="counts" title="{whole}">{counts}</span>'
    )


def heading(title: str, rest: str = "") -> str:
    """Return a view's title with a quieter part behind it."""
    return f'<h1>{isolated(title)}</h1><span class="rest">{isolated(rest)}</span>'


def line(sentence: str) -> str:
    """Return a sentence on one line, whole when the pointer rests on it; changes are read out."""
    return f'<span role="status" title="{escape(sentence)}">{isolated(sentence)}</span>'


def chips(phrases: list[str]) -> str:
    """Return short facts side by side."""
    return "".join(f'<span class="chip">{isolated(phrase)}</span>' for phrase in phrases)


def card(html: str) -> str:
    """Return a part of a panel that stands out."""
    return f'<div class="card">{html}</div>'


def note(sentence: str) -> str:
    """Return a sentence to read instead of a picture."""
    return f'<p class="note">{isolated(sentence)}</p>'


def quiet(sentence: str) -> str:
    """Return a remark below something else."""
    return f'<p class="left">{isolated(sentence)}</p>'


def subtitle(text: str) -> str:
    """Return what a part of a panel is called."""
    return f"<h3>{isolated(text)}</h3>"


def selected(queries: int, keys: int, *, absent: int = 0) -> str:
    """Return how many points are selected, and how many of them the head does not have."""
    missing = f" · {absent:,} more are not in this head" if absent else ""
    return (
        f'<h3 class="selected" role="status">{queries + keys:,} points selected</h3>'
        f'<p class="facts">{queries:,} queries · {keys:,} keys{missing}</p>'
    )


def map_line(info: MapInfo | None) -> str:
    """Return how a map was made, in one line."""
    if info is None:
        return note("This run has no complete map yet. Make one with `attnviz project`.")
    parameters = [f"{name} {value}" for name, value in info.spec.parameters.items() if value is not None]
    return f"<p>{escape(' · '.join([f'{info.spec.method}, {info.spec.dims}-D', *parameters, f'seed {info.seed}']))}</p>"


def legend(scene: Scene) -> str:
    """Return what the colours mean, with counts of what is shown."""
    coloring = scene.coloring
    if coloring.by_kind:
        queries, keys = scene.counts(scene.listed)
        kinds = [("query", queries, scene.theme.query), ("key", keys, scene.theme.key)]
        return "".join(
            _switch(scene, number, f'style="background:{color}"', label, count)
            for number, (label, count, color) in enumerate(kinds)
        )
    if not coloring.categories:
        return _scale(scene)
    counted = scene.tally().tolist()
    entries = [
        _switch(scene, i, _split(scene, i), show_text(entry.label, longest=24), counted[i])
        for i, entry in enumerate(coloring.categories)
        if counted[i]
    ]
    return "".join(entries) + _kinds()


def facts(run: RunDirectory, token: int, kind: str, norm: float) -> str:
    """Return what is known of the chosen point."""
    title, *rest = describe_token(run, token, kind, norm=norm)
    lines = "".join(f"<span>{escape(fact)}</span>" for fact in rest[:-1])
    return f'<h2 class="{kind}">{isolated(title)}</h2><p class="facts">{lines}</p><p class="excerpt">{isolated(rest[-1])}</p>'


def isolated(shown: str) -> str:
    """Return tokens as HTML: isolated by elements, not by characters that would be copied with them."""
    begins, ends = ISOLATES
    return escape(shown).replace(begins, "<bdi>").replace(ends, "</bdi>")


def partners(frame: pd.DataFrame, rest: float, kind: str, *, special: float, sink: float = 0.0) -> str:
    """Return the partners of a token as a table with bars, and what is left out.

    Parameters
    ----------
    frame
        ``name``, ``position`` in its stream, and ``weight``.
    rest, special, sink
        The weight of all other tokens, that of special tokens among all, and what no token gets.
    """
    verb = "attends to" if kind == "query" else "is attended to by"
    columns = zip(*(frame[name].tolist() for name in ("name", "position", "weight")), strict=True)
    rows = "".join(
        f'<tr><td class="name">{isolated(name)}</td><td class="place">{position}</td>'
        f'<td class="bar"><i style="width:{min(weight, 1) * 100:.1f}%"></i></td>'
        f'<td class="number">{weight * 100:.1f} %</td></tr>'
        for name, position, weight in columns
    )
    others = "All tokens together" if frame.empty else "All other tokens together"
    lines = [f"{others}: {rest * 100:.1f} %", f"Of all, with special tokens: {special * 100:.1f} %"]
    if sink >= LEAST:
        lines.insert(1, f"Sink, which is no token: {sink * 100:.1f} %")
    return f'<h3>This {kind} {verb}</h3><table>{rows}</table><p class="left">{"<br>".join(lines)}</p>'


def _switch(scene: Scene, number: int, swatch: str, label: str, count: int) -> str:
    """Return an entry that can be pressed: it is pressed while its points are shown."""
    shown = number not in scene.hidden
    return (
        f'<button type="button" class="entry" data-entry="{number}" aria-pressed="{str(shown).lower()}" '
        f'title="{"Hide" if shown else "Show"} {escape(label)}"><i {swatch}></i><span>{escape(label)}</span>'
        f"<em>{count:,}</em></button>"
    )


def _split(scene: Scene, number: int) -> str:
    query, key = (hex_color(scene.table[2 * number + i]) for i in (0, 1))
    return f'style="background:linear-gradient(90deg,{query} 50%,{key} 50%)"'


def _scale(scene: Scene) -> str:
    made = scene.coloring
    colors = ",".join(scale_colors(scene.theme, 13, signed=made.signed))
    low, high = map(escape, made.ends)
    title = "0" if made.signed else f"{made.title}, {made.note}" if made.note else made.title
    without = int(scene.tally()[-1])
    swatch = f'style="background:{scene.theme.missing}"'
    missing = _switch(scene, BINS, swatch, made.without, without) if without else ""
    return (
        f'<div class="scale"><i style="background:linear-gradient(90deg,{colors})"></i>'
        f"<span>≤ {low}</span><span>{escape(title)}</span><span>≥ {high}</span></div>{missing}{_kinds()}"
    )


def _kinds() -> str:
    return '<p class="kinds">Queries are lighter, keys darker. Counts are tokens.</p>'
