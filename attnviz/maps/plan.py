"""What a map that is laid out from a graph starts with, said once and carried out by either engine.

A map method gives a ``Layout``; ``laid_out`` hands it to the compiled kernel, ``maps/layers.py`` those of many heads to a GPU.
Nothing heavy is imported here: recipes are read through the methods.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnviz.types import FloatArray

if TYPE_CHECKING:
    from attnviz.maps.kernel import Curve

__all__ = ["Layout", "laid_out"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The arguments of ``maps.kernel.layout``, which explains them."""

    start: FloatArray  # (points, dims)
    graph: Any  # scipy's csr_array, (points, points), symmetric
    curve: "Curve"
    epochs: int
    negatives: int
    seed: int


def laid_out(plan: Layout) -> FloatArray:
    """Return where the points of a graph come to lie, ``(points, dims)``, by the compiled kernel."""
    from attnviz.maps.kernel import layout

    return layout(plan.start, plan.graph, plan.curve, epochs=plan.epochs, negatives=plan.negatives, seed=plan.seed)
