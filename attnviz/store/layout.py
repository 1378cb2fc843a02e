"""Where each part of a run lies. Nothing else knows a file name."""

from pathlib import Path

__all__ = [
    "HEADS_FILE",
    "IMAGES_FILE",
    "MANIFEST_FILE",
    "MAP_FILE",
    "PARTIAL",
    "RECIPE_FILE",
    "SEQUENCES_FILE",
    "STAGE",
    "TOKENS_FILE",
    "TOP_LEVEL",
    "faithfulness_dir",
    "faithfulness_file",
    "map_dir",
    "map_file",
    "predictions_file",
    "scores_file",
    "shard_file",
    "terms_file",
]

MANIFEST_FILE = "manifest.json"
RECIPE_FILE = "recipe.toml"
SEQUENCES_FILE = "sequences.parquet"
TOKENS_FILE = "tokens.parquet"
HEADS_FILE = "heads.parquet"
IMAGES_FILE = "media/images.parquet"
MAP_FILE = "_map.json"  # readers of Parquet folders pass over names with an underscore
PARTIAL = ".partial"
STAGE = ".attnviz"  # ends the name of the hidden folder in which a run is made that is to replace another
TOP_LEVEL = {MANIFEST_FILE, RECIPE_FILE, SEQUENCES_FILE, TOKENS_FILE, HEADS_FILE} | {
    *("media", "vectors", "predictions", "terms", "maps", "scores", "faithfulness"),
}
"""What a run's folder may hold. Anything else is the user's, and no run that holds it is ever removed."""


def shard_file(run: Path, layer: int, shard: int) -> Path:
    """Return the file that holds the vectors of one layer and one shard of tokens."""
    return run / "vectors" / f"layer={layer}" / f"shard-{shard:05d}.parquet"


def predictions_file(run: Path, shard: int) -> Path:
    """Return the file of what the model's classification head says of the sequences of one shard; most models have no head."""
    return run / "predictions" / f"shard-{shard:05d}.parquet"


def terms_file(run: Path, layer: int) -> Path:
    """Return the file of what a layer adds to its logits; most layers have none."""
    return run / "terms" / f"layer={layer}" / "part-0.parquet"


def map_dir(run: Path, name: str) -> Path:
    """Return the folder of a map."""
    return run / "maps" / name


def map_file(run: Path, name: str, layer: int) -> Path:
    """Return the file that holds the coordinates of one layer on a map."""
    return map_dir(run, name) / f"layer={layer}" / "part-0.parquet"


def faithfulness_dir(run: Path, name: str | None = None) -> Path:
    """Return the folder that says how far to trust each point of a map, or of all; runs made before 2026-11-21 have none."""
    return run / "faithfulness" / (f"map={name}" if name is not None else "")


def faithfulness_file(run: Path, name: str, layer: int) -> Path:
    """Return the file that says how far to trust each point of one layer on a map."""
    return faithfulness_dir(run, name) / f"layer={layer}" / "part-0.parquet"


def scores_file(run: Path, name: str, layer: int) -> Path:
    """Return the file that holds the scores of one layer's heads on a map."""
    return run / "scores" / f"map={name}" / f"layer={layer}" / "part-0.parquet"
