"""What is in a run, as plain values: for ``attnviz info`` and for anything that reads its JSON."""

import dataclasses
from pathlib import Path
from typing import Any

from attnviz.errors import DatasetError
from attnviz.store import RunDirectory

__all__ = ["describe", "describe_heads"]


def describe(run: RunDirectory) -> dict[str, Any]:
    """Return what a run holds: model, sizes, maps with the mean and range of their scores, and provenance.

    Sizes are bytes on disk by part; scores are taken over heads.
    """
    manifest = run.manifest
    return {
        "name": run.name,
        "path": str(run.path),
        "model": dataclasses.asdict(manifest.model),
        "layers": [dataclasses.asdict(layer) for layer in manifest.layers],
        "sequences": run.num_sequences,
        "tokens": run.num_tokens,
        "heads": sum(layer.num_heads for layer in manifest.layers),
        "points_per_head": 2 * run.num_tokens,
        "attributes": list(manifest.attributes),
        "skipped": dict(manifest.skipped),
        "maps": {name: _map(run, name) for name in run.maps},
        "bytes": {part.name: _bytes(part) for part in sorted(run.path.iterdir())},
        "check": manifest.check,
        "seed": manifest.seed,
        "normalize": dict(manifest.normalize),
        "seconds": dict(manifest.seconds),
        "versions": dict(manifest.versions),
        "created": manifest.created,
        "recipe_hash": manifest.recipe_hash,
        "schema_version": manifest.schema_version,
    }


def describe_heads(run: RunDirectory, name: str | None = None) -> dict[str, Any]:
    """Return the scores of a map head by head: ``map``, ``metrics``, and one row per head with layer, head and each score.

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
    return {"map": name, "metrics": list(table.columns), "heads": rows}


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
