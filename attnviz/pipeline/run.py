"""The straight line, once through: inputs → capture → normalize → map, into a run directory.

``recipe.toml`` is written first and ``manifest.json`` when all captured data is complete, so an unfinished run is one without
a manifest. Starting again goes on at the last complete shard or layer; with another recipe it is refused, naming the keys that
differ.
"""

import datetime
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from attnviz import schema
from attnviz.capturing import Surveyed, check, inspect, require_exact
from attnviz.errors import DatasetError
from attnviz.maps import choose_device
from attnviz.models import LoadedModel, load
from attnviz.pipeline.attributes import attribute_columns
from attnviz.pipeline.placing import head_table, make_maps
from attnviz.pipeline.prepare import (
    Prepared,
    image_tables,
    prepare,
    probe_sequences,
    select_layers,
    sequence_table,
    token_table,
)
from attnviz.pipeline.provenance import versions
from attnviz.pipeline.vectors import capture_shards
from attnviz.recipe import Recipe, load_recipe, to_toml
from attnviz.store import Manifest, RunDirectory, layout, write
from attnviz.store.manifest import to_json
from attnviz.store.predictions import GIVEN
from attnviz.store.replacing import recover, replacing, require_replaceable
from attnviz.store.terms import write_terms
from attnviz.types import LayerInfo, Progress

__all__ = ["is_complete", "run_recipe", "timed", "write_run"]

_IMAGE_ROWS = 256  # per row group


def run_recipe(
    recipe: Recipe, out: Path, *, workers: int, progress: Progress, device: str = "auto", force: bool = False
) -> RunDirectory:
    """Make a run, or finish it, or find it finished.

    Parameters
    ----------
    out
        The run's folder.
    workers
        How many heads are mapped at once. The result does not depend on it, byte for byte on one
        type of processor. On another type captured vectors differ in their last bits, which layouts amplify.
    device
        Where maps are made: ``"auto"`` and ``"cpu"`` are the CPU, ``"cuda"`` a GPU.
    force
        Start over. An existing run is replaced when the new one is complete, in one step; if that fails or is interrupted, the
        old run stays and what was made is removed. See ``store.replacing``.

    Raises
    ------
    DatasetError
        If ``out`` holds another run or something else, or cannot be written.
    AttnvizError
        As the stages raise.
    """
    recover(out)
    if force and out.exists():
        require_replaceable(out)
        with replacing(out) as fresh:
            run_recipe(recipe, fresh, workers=workers, progress=progress, device=device)
        return RunDirectory(out)
    _require_same(recipe, out)
    device = choose_device(device)  # before anything is made that a wrong one would strand
    if not (out / layout.MANIFEST_FILE).is_file():
        seconds: dict[str, float] = {}
        with timed(seconds, "load"):
            model = load(recipe.model, generate=recipe.capture.generate)
            prepared = prepare(recipe, model, progress)
        write_run(recipe, out, model, prepared, seconds=seconds, progress=progress)
    run = RunDirectory(out)
    make_maps(run, recipe.maps, workers=workers, progress=progress, device=device)
    return run


def is_complete(recipe: Recipe, out: Path) -> bool:
    """Tell whether ``out`` holds everything that the recipe asks for. Raises ``DatasetError`` if it holds another run."""
    recover(out)
    if not (out / layout.MANIFEST_FILE).is_file():
        return False
    _require_same(recipe, out)
    return all(spec.name in RunDirectory(out).maps for spec in recipe.maps)


def _require_same(recipe: Recipe, out: Path) -> None:
    """Make sure that a folder is empty, or holds a run of the same recipe."""
    file = out / layout.RECIPE_FILE
    if not file.is_file():
        _require_empty(out)
        return
    there = load_recipe(file)
    if there.fingerprint() != recipe.fingerprint():
        raise DatasetError(
            f"{out} was made from another recipe ({'; '.join(_differences(there, recipe))}). Choose another folder with "
            "--out, or --force to replace it."
        )


def _require_empty(out: Path) -> None:
    """Make sure that a folder is not there yet, or holds nothing. Raises ``DatasetError``."""
    if out.exists() and (not out.is_dir() or any(not item.name.endswith(layout.PARTIAL) for item in out.iterdir())):
        raise DatasetError(f"{out} exists and is no attnviz run. Choose another folder with --out.")


def write_run(
    recipe: Recipe,
    out: Path,
    model: LoadedModel,
    prepared: Prepared,
    *,
    seconds: dict[str, float],
    progress: Progress,
    found: Surveyed | None = None,
) -> None:
    """Write everything but the maps; nothing is written of a model that is refused.

    Parameters
    ----------
    found
        What a pass over every batch found, where there was one; the model is inspected on some sequences otherwise.
    """
    with timed(seconds, "check"):
        layers, exact, stored = _checked(recipe, model, prepared, found)
        kept = select_layers(layers, recipe.capture.layers)
    with timed(seconds, "capture"):
        if not (out / layout.RECIPE_FILE).is_file():
            write.write_text(out / layout.RECIPE_FILE, to_toml(recipe))
        own, as_text = attribute_columns([sequence.record for sequence in prepared.sequences])
        own |= {} if prepared.given is None else {GIVEN: prepared.given}
        _write_tables(out, prepared, model, own)
        shards = capture_shards(out, model, prepared, layers=layers, kept=kept, spec=recipe.capture, progress=progress)
    manifest = Manifest(
        name=recipe.name,
        model=model.info,
        layers=kept,
        num_sequences=len(prepared.sequences),
        num_tokens=int(prepared.first_tokens[-1]),
        shards=shards,
        recipe_hash=recipe.fingerprint(),
        seed=recipe.seed,
        dtype=recipe.capture.dtype,
        normalize={"translate": recipe.normalize.translate, "scale": recipe.normalize.scale},
        attributes=tuple(own),
        classes=recipe.data.classes,
        as_text=as_text,
        skipped=prepared.skipped,
        examples=prepared.examples,
        shortened=prepared.shortened,
        rows=prepared.rows,
        notes=prepared.notes,
        check=stored,
        check_exact=exact,
        versions=versions(),
        seconds=seconds,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    for info in kept:
        if info.terms is not None:
            write_terms(layout.terms_file(out, info.layer), info.terms)
    with timed(seconds, "normalize"):
        write.write_table(out / layout.HEADS_FILE, head_table(RunDirectory(out, manifest), progress))
    write.write_text(out / layout.MANIFEST_FILE, to_json(manifest))


def _checked(
    recipe: Recipe, model: LoadedModel, prepared: Prepared, found: Surveyed | None
) -> tuple[tuple[LayerInfo, ...], float, float]:
    """Return a model's layers, and how far attention is from its own at most: from vectors as it had them, and as stored."""
    if found is None:
        probes = probe_sequences(prepared)
        layers = inspect(model, probes.short, longest=prepared.longest, rope=recipe.capture.rope)
        return layers, *require_exact(model, check(model, probes.all, layers, dtype=recipe.capture.dtype))
    parts = prepared.shards(1)
    batches = [prepared.sequences[parts[number].start : parts[number].stop] for number in found.kinds]
    checks = [check(model, batch, found.layers, dtype=recipe.capture.dtype) for batch in batches]
    exact, stored = map(max, zip(*(require_exact(model, results) for results in checks), strict=True))
    return found.layers, exact, stored


def _write_tables(out: Path, prepared: Prepared, model: Any, own: Mapping[str, pa.Array]) -> None:
    """Write the tables of sequences, with the user's ``own`` columns, of tokens and of pictures."""
    sequences, tokens = sequence_table(prepared, own), token_table(prepared)
    _require_unchanged(out, _before(out, layout.TOKENS_FILE), tokens)
    write.write_table(out / layout.SEQUENCES_FILE, sequences)
    write.write_table(out / layout.TOKENS_FILE, tokens)
    if "image" in model.info.modality:
        before = _before(out, layout.IMAGES_FILE)
        with write.atomic(out / layout.IMAGES_FILE) as partial, pq.ParquetWriter(partial, schema.IMAGES) as writer:
            for number, table in enumerate(image_tables(prepared, model, _IMAGE_ROWS)):
                _require_unchanged(out, before, table, number)
                writer.write_table(table, row_group_size=_IMAGE_ROWS)


def _before(out: Path, name: str) -> pq.ParquetFile | None:
    """Open what a run that goes on has written; None where no vectors depend on it yet, or where it is damaged."""
    if not any((out / "vectors").rglob("shard-*.parquet")) or not (out / name).is_file():
        return None
    try:
        return pq.ParquetFile(out / name)
    except pa.ArrowInvalid:
        return None


def _require_unchanged(out: Path, before: pq.ParquetFile | None, table: pa.Table, group: int | None = None) -> None:
    """Make sure that the data still is what a run that goes on began with: its vectors must not be of two data sets."""
    if before is None:
        return
    there = before.read() if group is None else before.read_row_group(group)
    if not there.equals(table):
        raise DatasetError(
            f"{out} was begun with other data: what the recipe names has changed since. Choose another folder with --out, "
            "or --force to start over."
        )


def _differences(there: Recipe, asked: Recipe) -> Iterator[str]:
    for section in ("model", "data", "capture", "normalize"):
        before, now = getattr(there, section), getattr(asked, section)
        for name in before.__dataclass_fields__:
            if (was := getattr(before, name)) != (wanted := getattr(now, name)):
                yield f"{section}.{name} was {was!r}, is {wanted!r}"
    if there.seed != asked.seed:
        yield f"seed was {there.seed}, is {asked.seed}"


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long the block took."""
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 3)
