"""Models of transformers that were trained to classify: which checkpoints hold a classification head, and how it is run.

The model is loaded once, with its head. What is watched is the model without it, as in every other run; in capture the head goes
over what that very pass gave, so that a batch runs once.

A decoder's head reads the last token that is not the padding token of the configuration. A checkpoint without such a token
classifies one text at a time, by its last token: here it is given one that no text of the batch ends with.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

import torch
import transformers

from attnviz.models.loaded import Batch, place_model, running
from attnviz.models.tokenizing import table_rows
from attnviz.models.transformers_files import load_weights
from attnviz.types import ModelSpec, ProblemType

__all__ = ["HeadClassifier", "load_classifier", "load_model", "problem_of"]


def load_model(
    factory: Any, config: Any, spec: ModelSpec, place: str, inputs: Collection[str]
) -> tuple[Any, "HeadClassifier | None"]:
    """Load a model without its head, and its classifier where the checkpoint has one that can be run.

    Parameters
    ----------
    factory
        What loads models of its kind with a classification head, such as ``AutoModelForSequenceClassification``.
    inputs
        Names of what the model may be given.

    Raises
    ------
    ModelError
        If weights are missing, those of the head too, or as ``load_weights`` raises.
    """
    classifier = load_classifier(factory, config, spec, place)
    if classifier is not None and classifier.takes(inputs):
        return classifier.module.base_model, classifier
    return load_weights(transformers.AutoModel, spec, place), None


def load_classifier(factory: Any, config: Any, spec: ModelSpec, place: str) -> "HeadClassifier | None":
    """Load a model with its head if the checkpoint was saved with one; None otherwise."""
    problem = problem_of(config)
    if problem is None or not set(config.architectures or ()) & {kind.__name__ for kind in _classes(factory, config)}:
        return None
    classifier = HeadClassifier(load_weights(factory, spec, place), spec, problem)
    is_usual = type(classifier.module.base_model) in _classes(transformers.AutoModel, config)
    return classifier if is_usual else None


def problem_of(config: Any) -> ProblemType | None:
    """Return what a head is trained for, as its configuration says or as transformers infers it; None: several values at once."""
    declared, labels = config.problem_type, config.num_labels
    if labels == 1 and declared != "multi_label_classification":
        return "regression"
    if labels < 1 or declared == "regression":
        return None
    problem: ProblemType = declared or "single_label_classification"
    return problem


class HeadClassifier:
    """A model of transformers with its classification head; see ``Classifier``.

    Parameters
    ----------
    module
        The model with its head; ``module.base_model`` is the one without.
    """

    def __init__(self, module: Any, spec: ModelSpec, problem: ProblemType) -> None:
        self.module: Any = place_model(module, spec)
        self.problem_type = problem
        names = module.config.id2label or {}
        self.class_names = tuple(
            str(names.get(number, f"LABEL_{number}")) for number in range(module.config.num_labels)
        )
        self._name = spec.id
        self._parameters = signature(module.forward).parameters
        self._rows = table_rows(module.base_model)

    def takes(self, inputs: Collection[str]) -> bool:
        """Tell whether the head passes on all of these that its model takes."""
        passes_on = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in self._parameters.values())
        taken = set(inputs) & set(signature(self.module.base_model.forward).parameters)
        return passes_on or taken <= set(self._parameters)

    def run(self, batch: Batch) -> torch.Tensor:
        """Run the model with its head."""
        options = {"use_cache": False} if "use_cache" in self._parameters else {}
        with running(self.module, self._name), self._padding(batch.inputs) as inputs:
            logits: torch.Tensor = self.module(**inputs, **options).logits
        return logits

    def logits(self, ran: torch.Tensor) -> torch.Tensor:
        """Return what ``run`` gave."""
        return ran

    @contextmanager
    def _padding(self, inputs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Give inputs whose padding the head tells from the end of a text."""
        if "input_ids" not in inputs:
            yield inputs
            return
        config = self.module.config.get_text_config()
        ids, mask, given = inputs["input_ids"], inputs["attention_mask"], getattr(config, "pad_token_id", None)
        rows = self._rows if self._rows is not None else int(ids.max()) + len(ids) + 1
        pad = given if given is not None and 0 <= given < rows else _ends_none(ids, mask, rows)
        try:
            config.pad_token_id = pad
            yield {**inputs, "input_ids": ids.masked_fill(mask == 0, pad)}
        finally:
            config.pad_token_id = given


def _ends_none(ids: torch.Tensor, mask: torch.Tensor, rows: int) -> int:
    """Return a token that no text of a batch ends with; padding is on the right."""
    last = ids.gather(1, mask.sum(dim=1, keepdim=True) - 1)
    return min(set(range(rows)) - set(last.flatten().tolist()))


def _classes(factory: Any, config: Any) -> tuple[Any, ...]:
    """Return the classes that a factory of transformers has for a configuration."""
    found = factory._model_mapping.get(type(config), ())
    return tuple(found) if isinstance(found, tuple | list) else (found,)
