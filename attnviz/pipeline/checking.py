"""``attnviz check``: a model against our own sample data, or a tiny model of every family, without making a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from attnviz.capturing import EXACT, LayerCheck, check, inspect
from attnviz.errors import AttnvizError, ModelError, nearest
from attnviz.inputs import DataOptions, read
from attnviz.models import LoadedModel, also_unread, load
from attnviz.models.families import Family, families, quietly, refusals
from attnviz.types import ModelSpec, Record, TokenSequence

__all__ = [
    "FamilyResult",
    "ModelCheck",
    "check_families",
    "check_family",
    "check_model",
    "family_records",
    "require_known",
    "sample_sequences",
]

_HEIGHTS_AND_WIDTHS = ((24, 24), (20, 28), (48, 32))


@dataclass(frozen=True, slots=True)
class FamilyResult:
    """How well a tiny model of a family is captured, in float32."""

    family: Family
    checks: tuple[LayerCheck, ...] = ()  # one per attention; none where the check could not be made
    reason: str | None = None  # why it could not; also where capture changed the output

    @property
    def ok(self) -> bool:
        """Whether every layer was rebuilt and the output stayed the same."""
        exact = all(one.info.rebuilt and one.exact <= EXACT["float32"] for one in self.checks)
        return bool(self.checks) and exact and self.reason is None

    @property
    def largest(self) -> float:
        """The largest difference of any weight; infinite where the check could not be made."""
        return max((one.exact for one in self.checks), default=np.inf)


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """How well a model is captured."""

    layers: list[LayerCheck]  # one per attention
    unread: tuple[str, ...] = ()  # what the model can read besides what it was given: "images"

    @property
    def ok(self) -> bool:
        """Whether every layer was rebuilt."""
        return all(one.ok for one in self.layers)


def check_model(
    spec: ModelSpec, dtype: Literal["float16", "float32"] = "float16", rope: Literal["after", "before"] = "after"
) -> ModelCheck:
    """Load a model and check every layer on a padded batch of our samples.

    Raises
    ------
    ModelError
        If the model cannot be loaded, or is refused.
    CaptureError
        If it hands over nothing, or what cannot be kept.
    """
    model = load(spec)
    sequences = sample_sequences(model)
    layers = check(model, sequences, inspect(model, sequences, rope=rope), dtype=dtype)
    return ModelCheck(layers, also_unread(model))


def sample_sequences(model: LoadedModel) -> list[TokenSequence]:
    """Return sample sequences of what a model reads; texts are of different lengths, so that padding is tried."""
    return [model.encode(record) for record in _sample_records(model)]


def _sample_records(model: LoadedModel) -> list[Record]:
    """Return sentences, pairs of them, photographs, or photographs with sentences."""
    if model.info.modality == "image":
        return _read("builtin:photos", 2)
    if model.info.modality == "text+image":
        shown = _read("builtin:photos", 2)
        said = _read("builtin:sentences", 2)
        return [Record(one.reference, text.text, image=one.image) for one, text in zip(shown, said, strict=True)]
    if not _reads_pairs(model):
        return _read("builtin:sentences", 6)
    told = _read("builtin:sentences", 12)
    return [Record(one.reference, one.text, other.text) for one, other in zip(told[:6], told[6:], strict=True)]


def _read(source: str, count: int) -> list[Record]:
    return list(read(source, options=DataOptions(max_sequences=count), seed=0).records)


def _reads_pairs(model: LoadedModel) -> bool:
    if model.info.library != "transformers":
        return False
    from attnviz.models.transformers_seq2seq import EncoderDecoder

    return isinstance(model, EncoderDecoder)


def require_known(names: Sequence[str]) -> None:
    """Raise ``ModelError`` if a name is neither that of a family nor that of one refused."""
    known = [*families(), *(one.name for one in refusals())]
    for name in names:
        if name not in known:
            close = nearest(name, known).partition("Accepted:")[0]
            raise ModelError(f"There is no family {name!r}: {close}`attnviz check --all-families` lists them.")


def check_families(names: Sequence[str] = ()) -> Iterator[FamilyResult]:
    """Check a tiny model of each family, in the order of the table.

    Parameters
    ----------
    names
        Which families; all, if none is given. Names of refused ones give no result.
    """
    for name, family in families().items():
        if not names or name in names:
            yield check_family(family)


def check_family(family: Family) -> FamilyResult:
    """Build a tiny model of a family and check it on a padded batch, stored as float32."""
    try:
        with quietly():
            model = family.build()
            sequences = [model.encode(record) for record in family_records(family)]
            return FamilyResult(family, tuple(check(model, sequences, dtype="float32")))
    except AttnvizError as error:
        return FamilyResult(family, reason=str(error))
    except Exception as error:  # a library's own code that fails is a line of the table, not the end of it
        return FamilyResult(family, reason=f"{type(error).__name__}: {error}")


def family_records(family: Family) -> list[Record]:
    """Return what the tiny models of a family read: sentences, pairs of them, pictures, or pictures with sentences."""
    from attnviz.models.families.words import SENTENCES

    pictures = [partial(_picture, *sizes) for sizes in _HEIGHTS_AND_WIDTHS]
    if family.kind == "vision":
        return [Record(f"picture {number}", image=image) for number, image in enumerate(pictures)]
    if family.kind == "pair":
        told = zip(SENTENCES, pictures, strict=False)
        return [Record(f"pair {number}", text, image=image) for number, (text, image) in enumerate(told)]
    shorter = (SENTENCES[3], *SENTENCES[1:])
    said = shorter if family.kind == "encoder-decoder" else (None,) * len(SENTENCES)
    told_and_said = zip(SENTENCES, said, strict=True)
    return [Record(f"sentence {number}", text, pair) for number, (text, pair) in enumerate(told_and_said)]


def _picture(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(height * width).integers(0, 255, (height, width, 3), np.uint8)
