"""What is in a run, as plain values: for ``attnviz info`` and for anything that reads its JSON."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attnviz.errors import DatasetError
from attnviz.store import RunDirectory
from attnviz.types import LayerInfo

__all__ = ["count_rows", "describe", "describe_heads", "told_of_rows"]


def describe(run: RunDirectory) -> dict[str, Any]:
    """Return what a run holds: model, sizes, maps with the mean and range of their scores, and provenance.

    Sizes are bytes on disk by part; scores are taken over heads. ``streams`` is empty where all tokens are of one; where there are
    several, heads differ in their points: ``points_per_head`` is the most, and each layer tells its own.
    """
    manifest = run.manifest
    return {
        "name": run.name,
        "path": str(run.path),
        "model": dataclasses.asdict(manifest.model),
        "layers": [_layer(run, layer) for layer in manifest.layers],
        "streams": {name: int((run.tokens["stream"] == name).sum()) for name in run.streams if name},
        "sequences": run.num_sequences,
        "tokens": run.num_tokens,
        "heads": sum(layer.num_heads for layer in manifest.layers),
        "points_per_head": max(_points(run, layer) for layer in run.layers),
        "attributes": list(manifest.attributes),
        "types": {name: str(column.type) for name, column in run.columns.items()},
        "classes": list(manifest.classes),
        "as_text": dict(manifest.as_text),
        **count_rows(run),
        "lacks": run.lacks,
        "maps": {name: _map(run, name) for name in run.maps},
        "bytes": {part.name: _bytes(part) for part in sorted(run.path.iterdir())},
        "check": manifest.check,
        "check_exact": manifest.check_exact,
        "dtype": manifest.dtype,
        "seed": manifest.seed,
        "normalize": dict(manifest.normalize),
        "seconds": dict(manifest.seconds),
        "versions": dict(manifest.versions),
        "created": manifest.created,
        "recipe_hash": manifest.recipe_hash,
        "schema_version": manifest.schema_version,
    }


def count_rows(run: RunDirectory) -> dict[str, Any]:
    """Return what became of the rows of the data: ``rows`` are the run's sequences, those skipped, and those not drawn.

    ``rows`` and ``not_drawn`` are None where a run does not know them: older ones, and those of batches in memory.
    """
    manifest = run.manifest
    skipped = sum(manifest.skipped.values())
    return {
        "rows": manifest.rows or None,
        "not_drawn": manifest.rows - run.num_sequences - skipped if manifest.rows else None,
        "skipped": dict(manifest.skipped),
        "examples": dict(manifest.examples),
        "shortened": manifest.shortened,
        "notes": list(manifest.notes),
    }


def told_of_rows(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a word and a line for people on all that ``count_rows`` gives, as far as there is something to tell."""
    for why, count in given["skipped"].items():
        example = given["examples"].get(why)
        yield "left out", f"{why}: {count:,}" + (f" (the first: {example})" if example else "")
    if given["shortened"]:
        count = given["shortened"]
        yield "shortened", f"{count:,} {'sequence was' if count == 1 else 'sequences were'} cut to the longest length"
    if given["not_drawn"]:
        yield "not drawn", f"{given['not_drawn']:,} of {given['rows']:,} rows"
    for note in given["notes"]:
        yield "assumed", note


def describe_heads(run: RunDirectory, name: str | None = None) -> dict[str, Any]:
    """Return the scores of a map head by head: ``map``, ``metrics``, ``labels`` of the layers by number, and one row per head.

    Parameters
    ----------
    name
        The run's first map, if not given.

    Raises
    ------
    DatasetError
        If the run has no such map, or none at all.
    """
    if not (maps := list(run.maps)):
        raise DatasetError(f"Run {run.name} has no maps yet, and so no scores. Make one with `attnviz project`.")
    name = name or maps[0]
    table = run.heads[["joint_spearman"]].join(run.scores(name))
    rows = table.astype(float).round(4).reset_index().to_dict("records")
    labels = {str(layer): info.label for layer, info in run.layers.items()}
    return {"map": name, "metrics": list(table.columns), "labels": labels, "heads": rows}


def _layer(run: RunDirectory, layer: LayerInfo) -> dict[str, Any]:
    points = run.points(layer.layer)
    fields = dataclasses.asdict(layer) | {"label": layer.label, "queries": len(points.query), "keys": len(points.key)}
    return {name: value for name, value in fields.items() if name != "terms"}  # arrays, which lie in files of their own


def _points(run: RunDirectory, layer: int) -> int:
    return sum(len(tokens) for _, tokens in run.points(layer).by_kind())


def _map(run: RunDirectory, name: str) -> dict[str, Any]:
    info = run.maps[name]
    scores = run.scores(name)
    return {
        "method": info.spec.method,
        "dims": info.spec.dims,
        "parameters": dict(info.spec.parameters),
        "seed": info.seed,
        "device": info.device,
        "neighbors_recall": round(float(scores["neighbors_recall"].min()), 4) if "neighbors_recall" in scores else 1.0,
        "seconds": round(sum(info.seconds.values()), 3),
        "scores": {
            metric: {how: round(float(getattr(scores[metric], how)()), 4) for how in ("mean", "min", "max")}
            for metric in info.metrics
        },
    }


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
