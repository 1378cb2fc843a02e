"""How the command line shows things: progress with time left, and tables. Plain lines where the output is no terminal."""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from attnviz.info import told_of_rows
from attnviz.metrics import HEADLINES
from attnviz.store import RunDirectory
from attnviz.types import LayerInfo, Progress, Terms

if TYPE_CHECKING:
    from attnviz.capturing import LayerCheck
    from attnviz.pipeline.checking import ModelCheck

__all__ = ["added", "check_fields", "checks", "description", "head_scores", "page", "progress", "rows", "stages"]


SHORT = {"trustworthiness": "trust", "continuity": "contin.", "preservation": "kept"}
SHORT |= {"attention": "att.", "neighbors": "neighb."}
"""Words of metrics that are too long for a heading of a column of numbers."""


@contextmanager
def progress() -> Iterator[Progress]:
    """Show the progress of stages: bars in a terminal, a line every tenth of a stage elsewhere."""
    if not sys.stdout.isatty():
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns) as bars:
        tasks: dict[str, Any] = {}

        def told(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage)
            bars.update(tasks[stage], completed=done, total=total)

        yield told


class _Lines:
    def __init__(self) -> None:
        self.started: dict[str, float] = {}
        self.tenth: dict[str, int] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Print a line when a stage begins and whenever it has got a tenth further."""
        start = self.started.setdefault(stage, time.monotonic())
        tenth = 10 * done // max(total, 1)
        if tenth > self.tenth.get(stage, -1):
            self.tenth[stage] = tenth
            elapsed = time.monotonic() - start
            left = f", {elapsed * (total - done) / done:.0f} s left" if 0 < done < total and elapsed > 1 else ""
            click.echo(f"{stage} {done:,}/{total:,}{left}")


def stages(run: RunDirectory) -> None:
    """Print how long each stage of a run took."""
    by_head: defaultdict[str, float] = defaultdict(float)
    for name, info in run.maps.items():
        for stage, seconds in info.shared_seconds.items():
            by_head[stage] += seconds
        by_head[f"map {name}"] += sum(info.seconds.values())
    for times, note in ((run.manifest.seconds, ""), (by_head, "  (summed over heads)")):
        click.echo(" · ".join(f"{stage} {seconds:.1f} s" for stage, seconds in times.items()) + note)


def _predicted(model: Mapping[str, Any]) -> str:
    """Say what a classification head predicts."""
    kind, names = model["problem_type"], model["class_names"]
    if kind == "regression":
        return "a value of each sequence"
    what = "one of" if kind == "single_label_classification" else "any of"
    shown = escape(", ".join(names[:8])) + (", …" if len(names) > 8 else "")
    return f"{what} {len(names):,} classes of each sequence: {shown}"


def checks(model: str, found: "ModelCheck") -> None:
    """Print the table of ``attnviz check``."""
    table = Table(title=escape(model), title_justify="left")
    for name in ("layer", "heads", "kv heads", "head_dim", "scaling", "mask", "max difference", "as stored", "ok"):
        table.add_column(name, justify="left" if name in ("mask", "ok") else "right")
    for result in found.layers:
        info = result.info
        table.add_row(
            *map(str, (info.label, info.num_heads, info.num_kv_heads, info.head_dim)),
            f"{info.scaling:.4g}",
            _mask(info),
            f"{result.exact:.1e}",
            f"{result.stored:.1e}",
            _verdict(result),
        )
    page().print(table)
    if found.unread:
        page().print(f"It also reads {', '.join(found.unread)}; it was checked on texts alone.")


def check_fields(result: "LayerCheck") -> dict[str, Any]:
    """Return what the table of ``attnviz check`` tells of a layer, for JSON."""
    info = result.info
    return {
        "layer": info.label,
        "name": info.name,
        "seam": info.seam,
        "heads": info.num_heads,
        "kv_heads": info.num_kv_heads,
        "head_dim": info.head_dim,
        "scaling": info.scaling,
        "mask": _mask(info),
        "rope": info.rope,
        "max_difference": result.exact,
        "as_stored": result.stored,
        "rebuilt": info.rebuilt,
        "ok": result.ok,
    }


def _verdict(result: "LayerCheck") -> str:
    if not result.ok:
        return "[bold red]no[/]"
    return "yes" if result.info.rebuilt else "not rebuilt"


def description(given: dict[str, Any]) -> None:
    """Print what ``attnviz.info.describe`` tells."""
    model, console = given["model"], page()
    console.print(f"[bold]{escape(given['name'])}[/]  {escape(given['path'])}  ({_size(sum(given['bytes'].values()))})")
    revision = f" @ {model['revision']}" if model["revision"] else ""
    console.print(
        f"model      {escape(model['id'] + revision)}: {model['architecture']} ({model['library']}), {model['dtype']}"
    )
    console.print(
        f"heads      {given['heads']} in {len(given['layers'])} layers, {_points(given['layers'])} points a head"
    )
    if given["streams"]:
        console.print(f"streams    {_streams(given)}")
    console.print(
        f"data       {given['sequences']:,} sequences, {given['tokens']:,} tokens; columns: {_names(given['attributes'])}"
    )
    if given["model"]["problem_type"]:
        console.print(f"predicted  {_predicted(given['model'])}")
    if given["as_text"]:
        console.print("as text    " + escape(", ".join(f"{name}: {why}" for name, why in given["as_text"].items())))
    rows(given)
    if given["lacks"]:
        console.print("lacks      " + escape(given["lacks"]))
    console.print(f"made       {given['created']}, seed {given['seed']}, recipe {given['recipe_hash'][:12]}")
    if given["check"] is not None:
        console.print(f"check      {_check(given)}")
    console.print(_maps_table(given["maps"]) if given["maps"] else "maps       none yet: attnviz project RUN umap")
    for name, described in given["maps"].items():
        if described["neighbors_recall"] < 1:
            console.print(
                f"{escape(name)}: neighbours by near blocks, {described['neighbors_recall']:.1%} found at least"
            )


def _check(given: dict[str, Any]) -> str:
    """Say how far rebuilt attention is from the model's own: what rounding to the store does is no fault of capture."""
    stored = f"{given['check']:.1e} as stored ({given['dtype']})"
    if given["check_exact"] is None:
        return f"rebuilt attention is within {stored} of the model's own"
    return f"attention is within {given['check_exact']:.1e} of the model's own from vectors as it had them, {stored}"


def rows(given: dict[str, Any]) -> None:
    """Print what became of the rows of the data, and what was assumed of it."""
    before = ""
    for word, told in told_of_rows(given):
        page().print(escape(f"{'' if word == before else word:<11}{told}"))
        before = word


def head_scores(given: dict[str, Any]) -> None:
    """Print what ``attnviz.info.describe_heads`` tells, one line per head; 13 scores fit into 120 columns."""
    table = Table(title=f"map {escape(given['map'])}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("layer", "head", *given["metrics"]):
        words = [SHORT.get(word, word) for word in name.split("_")]
        table.add_column("\n".join(words), justify="right", no_wrap=True)
    for row in given["heads"]:
        scores = (f"{row[name]:.2f}" for name in given["metrics"])
        table.add_row(given["labels"][str(row["layer"])], str(row["head"]), *scores)
    page().print(table)


def _maps_table(maps: dict[str, Any]) -> Table:
    title = "maps (mean over heads, worst to best)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    metrics = [name for name in HEADLINES if any(name in described["scores"] for described in maps.values())]
    for name in ("map", "method", "dims", "seconds", *metrics):
        table.add_column(name.replace("_", " "), justify="left" if name in ("map", "method") else "right")
    for name, described in maps.items():
        scores = (described["scores"].get(metric) for metric in metrics)
        table.add_row(
            escape(name),
            described["method"],
            str(described["dims"]),
            f"{described['seconds']:.0f}",
            *(f"{s['mean']:.2f} ({s['min']:.2f}…{s['max']:.2f})" if s else "" for s in scores),
        )
    return table


def _mask(info: LayerInfo) -> str:
    kind = "causal" if info.causal else "full"
    told = {"window": info.window, "chunk": info.chunk, "soft-cap": info.softcap}
    return ", ".join([kind, *(f"{name} {value:g}" for name, value in told.items() if value is not None), *added(info)])


def added(info: LayerInfo) -> list[str]:
    """Return in words what a layer's terms do: a bias, sinks, or groups of positions that see each other alone."""
    terms = info.terms or Terms()
    there = {
        "bias": terms.by_distance is not None or terms.by_place is not None,
        "sinks": terms.sinks is not None,
        "groups": terms.group is not None,
    }
    return [word for word, found in there.items() if found]


def _points(layers: Sequence[dict[str, Any]]) -> str:
    counts = [layer["queries"] + layer["keys"] for layer in layers]
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


def _streams(given: dict[str, Any]) -> str:
    """Return the streams of a run with their tokens, and how many layers each of its stacks has."""
    stacks = Counter(layer["stack"] for layer in given["layers"] if layer["stack"])
    tokens = ", ".join(f"{name} {count:,} tokens" for name, count in given["streams"].items())
    return escape(tokens + "; layers: " + ", ".join(f"{name} {count}" for name, count in stacks.items()))


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _names(names: Sequence[str]) -> str:
    return escape(", ".join(names)) or "none"


def page() -> Console:
    """Return a console as wide as the terminal; elsewhere wide enough that no table is cut."""
    return Console() if sys.stdout.isatty() else Console(width=140)
