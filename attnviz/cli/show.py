"""How the command line shows things: progress with time left, and tables. Plain lines where the output is no terminal."""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from attnviz.metrics import HEADLINES
from attnviz.store import RunDirectory
from attnviz.types import LayerInfo, Progress

if TYPE_CHECKING:
    from attnviz.capture import LayerCheck

__all__ = ["checks", "description", "head_scores", "progress", "stages"]


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


def checks(model: str, results: Sequence["LayerCheck"]) -> None:
    """Print the table of ``attnviz check``."""
    table = Table(title=escape(model), title_justify="left")
    for name in ("layer", "heads", "kv heads", "head_dim", "scaling", "mask", "max difference", "as stored", "ok"):
        table.add_column(name, justify="left" if name in ("mask", "ok") else "right")
    for result in results:
        info = result.info
        table.add_row(
            *map(str, (info.layer, info.num_heads, info.num_kv_heads, info.head_dim)),
            f"{info.scaling:.4g}",
            _mask(info),
            f"{result.exact:.1e}",
            f"{result.stored:.1e}",
            "yes" if result.ok else "[bold red]no[/]",
        )
    _console().print(table)


def description(given: dict[str, Any]) -> None:
    """Print what ``attnviz.info.describe`` tells."""
    model, console = given["model"], _console()
    console.print(f"[bold]{escape(given['name'])}[/]  {escape(given['path'])}  ({_size(sum(given['bytes'].values()))})")
    revision = f" @ {model['revision']}" if model["revision"] else ""
    console.print(
        f"model      {escape(model['id'] + revision)}: {model['architecture']} ({model['library']}), {model['dtype']}"
    )
    console.print(
        f"heads      {given['heads']} in {len(given['layers'])} layers, {given['points_per_head']:,} points a head"
    )
    console.print(
        f"data       {given['sequences']:,} sequences, {given['tokens']:,} tokens; columns: {_names(given['attributes'])}"
    )
    if given["skipped"]:
        console.print("left out   " + escape(", ".join(f"{why}: {count:,}" for why, count in given["skipped"].items())))
    console.print(f"made       {given['created']}, seed {given['seed']}, recipe {given['recipe_hash'][:12]}")
    if given["check"] is not None:
        console.print(f"check      rebuilt attention within {given['check']:.1e} of the model's own")
    console.print(_maps_table(given["maps"]) if given["maps"] else "maps       none yet: attnviz project RUN umap")
    for name, described in given["maps"].items():
        if described["neighbors_recall"] < 1:
            console.print(
                f"{escape(name)}: neighbours by near blocks, {described['neighbors_recall']:.1%} found at least"
            )


def head_scores(given: dict[str, Any]) -> None:
    """Print what ``attnviz.info.describe_heads`` tells, one line per head."""
    table = Table(title=f"map {escape(given['map'])}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("layer", "head", *given["metrics"]):
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for row in given["heads"]:
        table.add_row(str(row["layer"]), str(row["head"]), *(f"{row[name]:.2f}" for name in given["metrics"]))
    _console().print(table)


def _maps_table(maps: dict[str, Any]) -> Table:
    table = Table(title="maps (mean over heads, worst to best)", title_justify="left")
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
            *(f"{s['mean']:.2f}  ({s['min']:.2f} … {s['max']:.2f})" if s else "" for s in scores),
        )
    return table


def _mask(info: LayerInfo) -> str:
    kind = "causal" if info.causal else "full"
    window = f", window {info.window}" if info.window is not None else ""
    return kind + window + (f", soft-cap {info.softcap:g}" if info.softcap is not None else "")


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _names(names: Sequence[str]) -> str:
    return escape(", ".join(names)) or "none"


def _console() -> Console:
    """Return a console as wide as the terminal; elsewhere wide enough that no table is cut."""
    return Console() if sys.stdout.isatty() else Console(width=140)
