"""What the model's classification head says of one sequence: its class, the probabilities, and the label that was given."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from attnviz.errors import DatasetError
from attnviz.store import RunDirectory
from attnviz.store.predictions import GIVEN, probabilities
from attnviz.views.describe import show_text

__all__ = ["Prediction", "class_probabilities", "prediction_phrase", "read_prediction"]

LONGEST = 48  # characters of a class


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is predicted of a sequence."""

    predicted: str  # a class, or a value
    given: str | None  # the user's label; None where there is none
    classes: tuple[tuple[str, float], ...] = ()  # with their probabilities, the most likely first; none of a value
    left: int = 0  # classes that are not among these


def read_prediction(run: RunDirectory, sequence: int, *, most: int = 5) -> Prediction | None:
    """Return what is predicted of a sequence, with its most likely classes; None of a model without a classification head."""
    model = run.manifest.model
    if model.problem_type is None or sequence >= run.num_sequences:
        return None
    row = run.sequences.iloc[sequence]
    if model.problem_type == "regression":
        return Prediction(f"{row['predicted']:.4g}", None)
    chances = probabilities(np.asarray(row["class_logits"], np.float32), model.problem_type)
    order = np.argsort(-chances, kind="stable")[:most]
    given = row[GIVEN] if GIVEN in run.manifest.attributes else None
    return Prediction(
        str(row["predicted"]),
        None if given is None or pd.isna(given) else str(given),
        tuple((model.class_names[number], float(chances[number])) for number in order),
        len(chances) - len(order),
    )


def prediction_phrase(found: Prediction) -> str:
    """Return a prediction in a few words: ``predicted positive (98.2 %), given negative``."""
    chance = f" ({found.classes[0][1] * 100:.1f} %)" if found.classes else ""
    given = "" if found.given is None else f", given {show_text(found.given, longest=LONGEST)}"
    return f"predicted {show_text(found.predicted, longest=LONGEST)}{chance}{given}"


def class_probabilities(run: RunDirectory) -> pd.DataFrame:
    """Return the probability of every class for every sequence, ``(sequences, classes)``.

    Raises
    ------
    DatasetError
        If the model chose no classes.
    """
    model = run.manifest.model
    if model.problem_type in (None, "regression"):
        what = (
            "has no classification head"
            if model.problem_type is None
            else "is a regression, whose value is `predicted`"
        )
        raise DatasetError(f"Run {run.name} has no classes: {model.id} ({model.architecture}) {what}.")
    logits = np.stack([np.asarray(values, np.float32) for values in run.sequences["class_logits"]])
    return pd.DataFrame(probabilities(logits, model.problem_type), run.sequences.index, list(model.class_names))
