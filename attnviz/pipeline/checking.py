"""``attnviz check``: a model against our own sample data, without making a run."""

from typing import Literal

from attnviz.capture import LayerCheck, check
from attnviz.inputs import DataOptions, read
from attnviz.models import LoadedModel, load
from attnviz.types import ModelSpec, TokenSequence

__all__ = ["check_model", "sample_sequences"]


def check_model(spec: ModelSpec, dtype: Literal["float16", "float32"] = "float16") -> list[LayerCheck]:
    """Load a model and check every layer on a padded batch of our sample sentences, or on two photographs.

    Raises
    ------
    ModelError
        If the model cannot be loaded, or hands over nothing.
    """
    model = load(spec)
    return check(model, sample_sequences(model), dtype=dtype)


def sample_sequences(model: LoadedModel) -> list[TokenSequence]:
    """Return sample sequences of a model's modality; texts are of different lengths, so that padding is tried."""
    source, count = ("builtin:sentences", 6) if model.info.modality == "text" else ("builtin:photos", 2)
    inputs = read(source, options=DataOptions(max_sequences=count), seed=0)
    return [model.encode(record) for record in inputs.records]
