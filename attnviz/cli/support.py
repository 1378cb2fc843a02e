"""How ``attnviz check --all-families`` shows what is supported: a line per family as it goes, JSON, and the README's table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from attnviz.cli.show import added, page

if TYPE_CHECKING:
    from attnviz.models.families import Family, Kind, Library, Refusal
    from attnviz.pipeline.checking import FamilyResult

__all__ = ["ending", "fields", "markdown", "row", "support_table"]

_COLUMNS = {
    "family": 37,
    "library": 12,
    "kind": 15,
    "seam": 9,
    "layers": 6,
    "heads": 7,
    "adds": 24,
    "max difference": 14,
    "same output": 11,
}


def row(result: "FamilyResult", *, header: bool) -> None:
    """Print the line of a family, and what is wrong with it, if something is."""
    table = Table(box=None, show_header=header, padding=(0, 1, 0, 0))
    for name, width in _COLUMNS.items():
        table.add_column(name, width=width, justify="right" if name in ("layers", "max difference") else "left")
    told = _fields(result)
    table.add_row(
        result.family.name,
        result.family.library,
        result.family.kind,
        ", ".join(told["seams"]),
        str(told["layers"]),
        f"{told['heads']}/{told['kv_heads']}" if result.checks else "",
        ", ".join(told["adds"]),
        f"{result.largest:.1e}" if result.checks else "",
        "yes" if told["output_unchanged"] else "",
        style=None if result.ok else "bold red",
    )
    page().print(table)
    if not result.ok:
        page().print(f"  [bold red]no[/]  {escape(result.reason or 'its attention is not rebuilt')}")


def ending(results: Sequence["FamilyResult"], refused: Sequence["Refusal"]) -> None:
    """Print what is refused with its reason, and the counts."""
    table = Table(title="refused by name", title_justify="left")
    for name in ("name", "library", "kind", "reason"):
        table.add_column(name)
    for one in refused:
        table.add_row(one.name, one.library, one.kind, escape(one.reason))
    if refused:
        page().print(table)
    exact = sum(result.ok for result in results)
    largest = f", largest difference {_largest(results):.1e}" if exact else ""
    page().print(f"{exact} of {len(results)} families exact{largest}; {len(refused)} refused by name")


def fields(results: Sequence["FamilyResult"], refused: Sequence["Refusal"]) -> dict[str, Any]:
    """Return all of it, for JSON."""
    told = [{"name": one.name, "library": one.library, "kind": one.kind, "reason": one.reason} for one in refused]
    return {"families": [_fields(result) for result in results], "refused": told}


def _fields(result: "FamilyResult") -> dict[str, Any]:
    layers = [one.info for one in result.checks]
    return {
        "name": result.family.name,
        "library": result.family.library,
        "kind": result.family.kind,
        "seams": sorted({info.seam for info in layers}),
        "layers": len(layers),
        "heads": max((info.num_heads for info in layers), default=0),
        "kv_heads": max((info.num_kv_heads for info in layers), default=0),
        "adds": list(dict.fromkeys(word for info in layers for word in _words(info))),
        "max_difference": result.largest if layers else None,
        "output_unchanged": bool(layers),  # the check refuses a model that it changes, and then gives no layers
        "ok": result.ok,
        "reason": result.reason,
    }


def _words(info: Any) -> list[str]:
    there = {
        "causal": info.causal,
        "window": info.window is not None,
        "chunk": info.chunk is not None,
        "soft-cap": info.softcap is not None,
        "cross": info.query_stream != info.key_stream,
    }
    return [*(word for word, found in there.items() if found), *added(info)]


def markdown(results: Sequence["FamilyResult"], refused: Sequence["Refusal"]) -> str:
    """Return the README's table of what was found exact, with the largest difference of each row."""
    exact = [result for result in results if result.ok]
    kinds = {(result.family.library, result.family.kind) for result in exact}
    largest = {kind: _largest([r for r in exact if (r.family.library, r.family.kind) == kind]) for kind in kinds}
    return support_table([result.family for result in exact], refused, largest)


def support_table(
    exact: Sequence["Family"], refused: Sequence["Refusal"], largest: "Mapping[tuple[Library, Kind], float]"
) -> str:
    """Return two Markdown tables: families that are exact, one row for each kind, and those refused, one row for each reason.

    Parameters
    ----------
    largest
        The largest difference of an attention weight, by library and kind.
    """
    lines = ["| library | kind | exact | within | names |", "|---|---|---|---|---|"]
    for kind in dict.fromkeys((family.library, family.kind) for family in exact):
        names = [family.name for family in exact if (family.library, family.kind) == kind]
        difference = f"{largest[kind]:.1e}" if kind in largest else ""
        lines.append(f"| {kind[0]} | {kind[1]} | {len(names)} | {difference} | {_listed(names)} |")
    lines += ["", "| library | refused | why |", "|---|---|---|"]
    for reason in dict.fromkeys((one.library, one.reason) for one in refused):
        names = [one.name for one in refused if (one.library, one.reason) == reason]
        lines.append(f"| {reason[0]} | {_listed(names)} | {reason[1]} |")
    return "\n".join(lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _largest(results: Sequence["FamilyResult"]) -> float:
    return max(result.largest for result in results if result.ok)
