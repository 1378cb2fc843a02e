"""What a map method is: a function that places points, and a frozen dataclass of the parameters that it takes.

Receives a recipe's loose parameters, gives the method's own dataclass or a ``MapError`` that names what is accepted. A
parameter's range stands beside its default, so that a method is described in one place; nothing heavy is imported here,
because recipes are read on machines that cannot make maps.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from attnviz.errors import MapError, nearest
from attnviz.maps.plan import Layout
from attnviz.types import FloatArray, Joint, Neighbors

__all__ = ["MapMethod", "OneOf", "Place", "Plan", "Within", "parameter", "read_parameters"]


class Place(Protocol):
    """The seam: how a method puts points on a map."""

    def __call__(self, joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: Any) -> FloatArray:
        """Return ``(points, dims)``: the queries, then the keys.

        Parameters
        ----------
        joint
            The points; q·k is ``joint.query @ (joint.key - joint.shift).T``.
        neighbors
            As many per point as the method's ``num_neighbors`` asked for, or one less than there are points.
        dims
            2 or 3.
        seed
            The head's own, below 2³². Equal arguments must give equal bytes, on one type of processor.
        parameters
            An instance of the method's ``parameters``.
        """


class Plan(Protocol):
    """How a method that lays out a graph says so, for engines that take many heads at once."""

    def __call__(self, joint: Joint, neighbors: Neighbors, *, dims: int, seed: int, parameters: Any) -> Layout | None:
        """Return what ``Place`` would lay out, or None if these parameters place the points in another way."""


@dataclass(frozen=True, slots=True)
class Within:
    """The values that a parameter takes: numbers of its default's type from ``low`` to ``high``, both included."""

    low: float
    high: float = math.inf
    kind: type[int] | type[float] = int
    automatic: bool = False  # whether None is accepted: the method chooses

    def __str__(self) -> str:
        kind = "a whole number" if self.kind is int else "a number"
        span = f"of at least {self.low:g}" if self.high == math.inf else f"from {self.low:g} to {self.high:g}"
        return f"{kind} {span}" + (', or "auto"' if self.automatic else "")

    def read(self, value: object) -> float | None:
        """Return ``value`` as the parameter's type. Raises ``ValueError`` if it is none of the accepted values."""
        if self.automatic and (value is None or value == "auto"):
            return None
        # A bool is an int to Python; in a recipe it is a mistake.
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(value)
        if self.kind is int and value != int(value):
            raise ValueError(value)
        return self.kind(value)


@dataclass(frozen=True, slots=True)
class OneOf:
    """The values that a parameter takes: words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return "one of " + ", ".join(map(repr, self.words))

    def read(self, value: object) -> str:
        """Return ``value``. Raises ``ValueError`` if it is none of the words."""
        if not isinstance(value, str) or value not in self.words:
            raise ValueError(value)
        return value


@dataclass(frozen=True, slots=True)
class MapMethod:
    """One entry of ``MAPS``."""

    name: str
    place: Place
    parameters: type[Any]  # a frozen dataclass, every field made by ``parameter``
    num_neighbors: Callable[[Any], int]
    summary: str  # one sentence for people who choose
    min_points: int = 4
    dims: tuple[int, ...] = (2, 3)
    plan: Plan | None = None
    locks: Callable[[Any], bool] = lambda parameters: False  # whether only processes can make several at once


def parameter(default: float | str | None, within: Within | OneOf) -> Any:
    """Return a dataclass field with its default and what it accepts."""
    return dataclasses.field(default=default, metadata={"within": within})


def read_parameters(method: MapMethod, given: Mapping[str, Any], *, place: str) -> Any:
    """Return ``given`` as an instance of the method's parameters.

    Parameters
    ----------
    place
        Which map they belong to, for the message.

    Raises
    ------
    MapError
        If a name is not one of the method's, or a value is not accepted.
    """
    fields = {field.name: field.metadata["within"] for field in dataclasses.fields(method.parameters)}
    values = {}
    for name, value in given.items():
        if name not in fields:
            known = nearest(name, fields) if fields else f"{method.name} takes none: leave it out."
            raise MapError(f"{place} has the parameter {name!r}, which {method.name} does not take: {known}")
        try:
            values[name] = fields[name].read(value)
        except (ValueError, OverflowError) as error:
            raise MapError(f"{place} has {name} = {value!r}; {method.name} takes {fields[name]}.") from error
    return method.parameters(**values)
