"""``manifest.json``: what a run is made of. It is written last, so its presence means that the data it names is complete.

A run that is still being captured has a ``recipe.toml`` and no manifest. Each map has a ``_map.json`` of its own, written
when the map is complete, so that adding a map leaves the manifest alone.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnviz.errors import DatasetError
from attnviz.schema import READABLE_VERSIONS, SCHEMA_VERSION
from attnviz.types import LayerInfo, MapSpec, ModelInfo

__all__ = ["Manifest", "MapInfo", "read_manifest", "read_map_info", "to_json"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Provenance and shape of a run."""

    name: str
    model: ModelInfo
    layers: tuple[LayerInfo, ...]
    num_sequences: int
    num_tokens: int
    shards: tuple[int, ...]  # first token of each shard
    recipe_hash: str  # of everything but the maps
    seed: int = 0
    dtype: str = "float16"
    normalize: Mapping[str, Any] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()  # the user's columns of sequences.parquet
    classes: tuple[str, ...] = ()  # those whose numbers are names of classes
    as_text: Mapping[str, str] = field(default_factory=dict)  # those that were no text and are now: why
    skipped: Mapping[str, int] = field(default_factory=dict)  # reason: how many rows could not be used
    examples: Mapping[str, str] = field(default_factory=dict)  # reason: the first such row, in words
    shortened: int = 0  # sequences that were cut to the longest length
    rows: int = 0  # of the data: those used, those skipped, and those not drawn; 0: not known
    notes: tuple[str, ...] = ()  # what was assumed of the data, and done to it
    check: float | None = None  # largest difference of attention rebuilt from stored vectors from the model's own
    check_exact: float | None = None  # the same, from vectors as the model had them; None: not known, of older runs
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage
    created: str = ""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class MapInfo:
    """How a map was made."""

    spec: MapSpec
    seed: int
    metrics: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)  # of placing, by layer number
    versions: Mapping[str, str] = field(default_factory=dict)
    shared_seconds: Mapping[str, float] = field(
        default_factory=dict
    )  # its part of what maps made together shared, by stage
    device: str = "cpu"


def to_json(value: Manifest | MapInfo) -> str:
    """Return ``value`` as indented JSON."""
    if isinstance(value, Manifest):  # arrays lie in files of their own
        value = dataclasses.replace(
            value, layers=tuple(dataclasses.replace(layer, terms=None) for layer in value.layers)
        )
    return json.dumps(dataclasses.asdict(value), indent=1, ensure_ascii=False) + "\n"


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises
    ------
    DatasetError
        If there is none, if it is no manifest, or if its schema_version is not one that is read.
    """
    given = _read_json(path)
    version = given.get("schema_version")
    if version not in READABLE_VERSIONS:
        known = ", ".join(map(str, READABLE_VERSIONS))
        raise DatasetError(
            f"{path} has schema_version {version!r}; this attnviz reads {known}. Update attnviz to open it."
        )
    try:
        model = dict(given["model"])
        model["grid"] = tuple(model["grid"]) if model.get("grid") else None
        model["class_names"] = tuple(model.get("class_names", ()))
        given |= {
            "model": ModelInfo(**model),
            "layers": tuple(LayerInfo(**layer) for layer in given["layers"]),
            "shards": tuple(given["shards"]),
            "attributes": tuple(given["attributes"]),
            "notes": tuple(given.get("notes", ())),
            "classes": tuple(given.get("classes", ())),
        }
        given |= _parted(given.get("skipped", {}))
        return Manifest(**given)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path} is not the manifest of an attnviz run ({error}). Make the run again.") from error


def _parted(skipped: Mapping[str, int]) -> dict[str, Any]:
    """Part what older runs counted among the skipped: sequences that were shortened, and are there."""
    if _SHORTENED not in skipped:
        return {}
    return {"shortened": skipped[_SHORTENED], "skipped": {why: n for why, n in skipped.items() if why != _SHORTENED}}


_SHORTENED = "cut to the longest length"


def read_map_info(path: Path) -> MapInfo:
    """Read a ``_map.json``. Raises ``DatasetError`` as ``read_manifest`` does."""
    given = _read_json(path)
    try:
        return MapInfo(**(given | {"spec": MapSpec(**given["spec"]), "metrics": tuple(given["metrics"])}))
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} does not describe a map ({error}). Delete its folder and make the map again."
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path.parent} holds no {path.name}: it is no attnviz run, or one that is unfinished."
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}.") from error
    if not isinstance(given, dict):
        raise DatasetError(f"{path} holds {type(given).__name__}, not an object: it is not from an attnviz run.")
    return given
