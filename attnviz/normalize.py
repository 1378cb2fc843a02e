"""Bring the queries and keys of one head into one space, where being near can mean attending.

Receives one head's vectors, gives a ``Joint``. First queries are multiplied and keys divided by c (which leaves every q·k
as it was), then the keys are moved onto the queries (which adds a constant to each query's logits: softmax is unchanged).
The result records both steps, so that stored vectors give it back bit for bit. What was measured stands at ``DEFAULT``.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import MapError, nearest
from attnviz.types import FloatArray, Joint, Sequences

__all__ = ["DEFAULT", "Normalize", "Scale", "joint", "unit"]

Scale = Literal["none", "balance"]
"""How c is chosen: 1, or such that queries and keys get the same median norm."""


@dataclass(frozen=True, slots=True)
class Normalize:
    """How queries and keys are brought into one space.

    Parameters
    ----------
    translate
        Move the keys so that their mean is that of the queries. Turn it off to see how far apart a model puts them.
    scale
        ``"balance"`` gives queries and keys the same median norm; ``"none"`` keeps both as the model made them.

    Raises
    ------
    MapError
        If an option is not one of these.
    """

    translate: bool = True
    scale: Scale = "balance"

    def __post_init__(self) -> None:
        if not isinstance(self.translate, bool):
            raise MapError(f"normalize.translate is {self.translate!r}; it is true or false.")
        if self.scale not in (accepted := get_args(Scale)):
            raise MapError(f"normalize.scale is {self.scale!r}: {nearest(str(self.scale), accepted)}")


# Measured on all-MiniLM-L6-v2, 10,728 tokens, 36 heads, 2026-11-21. Means over heads of: Spearman of distance with q·k ·
# share of a query's ten largest q·k among its fifty nearest keys · share of keys among a query's 15 nearest points.
#   neither          −0.78 · 0.35 · 0.005
#   balance          −0.79 · 0.34 · 0.006
#   translate        −0.57 · 0.16 · 0.070
#   both             −0.57 · 0.17 · 0.093
#   translate first  −0.57 · 0.18 · 0.097   (no better over all 72 heads: −0.537 against −0.539; the means part again)
# Moving the keys costs correlation and recall, because it takes mean(query)·key, what all queries have in common, out of the
# distance. Without it no query has a key among its neighbours, and a neighbour map shows two islands: so it stays the default.
# Balancing norms about the mean (−0.536 over 72 heads) gained nothing.
DEFAULT = Normalize()
"""What is used unless a recipe says otherwise."""


def joint(
    query: FloatArray, key: FloatArray, sequences: Sequences | None = None, *, options: Normalize = DEFAULT
) -> Joint:
    """Return the queries and keys of one head in one space.

    Parameters
    ----------
    query, key
        ``(queries, head_dim)`` and ``(keys, head_dim)``, finite, as captured.
    sequences
        To which sequence each belongs; without it all belong to one, and every query sees every key.
    options
        Whether keys are moved and norms balanced.

    Returns
    -------
    Joint
        ``scale * query`` and ``key / scale + shift``, in float32: the recorded ``scale`` and ``shift`` reproduce it bit for
        bit. c = sqrt(median|key| / median|query|), or 1 where a median is zero and there is nothing to balance.

    Raises
    ------
    MapError
        If the head dimensions differ, if there are none, if the sequences do not end at the last, or if a number is not finite,
        before or after.

    Notes
    -----
    Translation and scaling are those of Yeh et al., *AttentionViz* (2023), with a closed form for c in place of their search.
    """
    query, key = np.asarray(query, np.float32), np.asarray(key, np.float32)
    sequences = _check(query, key, sequences)
    # Rounded first: the run stores float32, and what it stores must be what was used.
    scale = np.float32(_balance(query, key)) if options.scale == "balance" else np.float32(1)
    with np.errstate(over="ignore"):  # what overflows is refused below, with the reason
        moved_query, scaled_key = query * scale, key / scale
        shift = np.zeros(query.shape[1], np.float32)
        if options.translate:
            difference = moved_query.mean(axis=0, dtype=np.float64) - scaled_key.mean(axis=0, dtype=np.float64)
            shift = difference.astype(np.float32)
        moved_key = scaled_key + shift
    if not (np.isfinite(moved_query).all() and np.isfinite(moved_key).all()):
        raise MapError(
            f"Queries (median norm {_median_norm(query):.3g}) and keys (median norm {_median_norm(key):.3g}) leave the range "
            'of float32 when brought into one space. Give normalize.scale = "none", or leave this head out.'
        )
    return Joint(moved_query, moved_key, shift, float(scale), sequences)


def unit(vectors: FloatArray) -> tuple[FloatArray, np.float32]:
    """Return the vectors divided by a power of two, so that the largest entry is near 1, and that power.

    No product or square of them leaves float32, and because the division is exact, whatever is compared stays in order.
    """
    largest = np.abs(vectors).max(initial=np.float32(0))
    power = np.float32(2.0 ** (int(np.frexp(largest)[1]) - 1)) if largest > 0 else np.float32(1)
    return vectors / power, power


def _balance(query: FloatArray, key: FloatArray) -> float:
    """Return sqrt(median|key| / median|query|), which gives both the same median norm."""
    norms = _median_norm(query), _median_norm(key)
    scale = np.sqrt(norms[1] / norms[0]) if min(norms) > 0 else 1.0
    return float(scale)


def _median_norm(vectors: FloatArray) -> float:
    # float64: the square of a large float32 would overflow
    wide: NDArray[np.float64] = vectors.astype(np.float64)
    return float(np.median(np.linalg.norm(wide, axis=1)))


def _check(query: FloatArray, key: FloatArray, sequences: Sequences | None) -> Sequences:
    if query.ndim != 2 or key.ndim != 2 or query.shape[1:] != key.shape[1:] or 0 in (query.size, key.size):
        raise MapError(
            f"Queries {query.shape} and keys {key.shape} were given; both must be (tokens, head_dim), with at least one token. "
            "Give each query head the keys of its own kv_head."
        )
    sequences = sequences or Sequences.one(*query.shape)
    ends = int(sequences.bounds[-1]), int(sequences.key_bounds[-1])
    if ends != (len(query), len(key)):
        raise MapError(
            f"{len(query)} queries and {len(key)} keys were given, and sequences that end at {ends[0]} and {ends[1]}. The bounds "
            "are the first query of each sequence, then the number of queries; the same for keys of other tokens."
        )
    for name, vectors in (("queries", query), ("keys", key)):
        if bad := int((~np.isfinite(vectors)).any(axis=1).sum()):
            raise MapError(
                f"{bad} of {len(vectors)} {name} hold NaN or infinity; a map needs finite vectors. Capture in float32 or "
                "bfloat16 (float16 overflows in some models), or leave this head out."
            )
    return sequences
