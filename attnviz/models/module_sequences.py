"""The sequences of a torch module's batches, with the texts that their user gave.

Receives which positions of a batch hold a token, by stream; gives a ``TokenSequence`` for each row. Tokens have no text unless it
is given: they are named by their position.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from attnviz.errors import InputError
from attnviz.token_text import guessed
from attnviz.types import Record, TokenSequence

__all__ = ["Held", "Texts", "batch_of", "require_texts", "sequences_of_batch"]

Held = Mapping[str, NDArray[np.bool_]]
"""Which positions hold a token, ``(sequences, positions)`` by stream; "": the only one."""

Texts = Sequence[Sequence[str]] | Mapping[str, Sequence[Sequence[str]]]
"""The texts of each sequence's tokens, or those of each stream."""


def batch_of(sequence: TokenSequence) -> int:
    """Return the number of the batch that a sequence came in."""
    return int(sequence.record.attributes["batch"])


def sequences_of_batch(number: int, held: Held, texts: Texts | None, first: int) -> tuple[list[TokenSequence], Held]:
    """Return the sequences of a batch, and which positions hold their tokens.

    Parameters
    ----------
    number
        Of the batch.
    held
        Which positions may hold a token.
    texts
        Of each sequence of the run. As many as a sequence has positions, padding included, or as it has tokens; or fewer, which are
        those of its first tokens; their marks tell words and punctuation. None: positions stand for them.
    first
        The number of the batch's first sequence in the run.

    Raises
    ------
    InputError
        If a sequence has no token, or if texts do not fit.
    """
    by_stream = _by_stream(texts, held)
    last = first + len(next(iter(held.values())))
    for given in by_stream.values():
        if given is not None and len(given) < last:
            raise InputError(f"tokens holds the texts of {len(given)} sequences; the batches hold {last} or more.")
    kept = {stream: places.copy() for stream, places in held.items()}
    rows: list[TokenSequence] = []
    for row in range(len(next(iter(held.values())))):
        said: list[str] = []
        for stream, places in kept.items():
            given = by_stream[stream]
            said += _named(number, row, places, given, first + row)
        rows.append(_sequence(number, row, said, {stream: int(places[row].sum()) for stream, places in kept.items()}))
    return rows, kept


def require_texts(texts: Texts | None, sequences: int) -> None:
    """Make sure that there are texts for each sequence. Raises ``InputError``."""
    for given in texts.values() if isinstance(texts, Mapping) else [] if texts is None else [texts]:
        if len(given) != sequences:
            raise InputError(f"tokens holds the texts of {len(given)} sequences; the batches hold {sequences}.")


def _by_stream(texts: Texts | None, held: Held) -> dict[str, Sequence[Sequence[str]] | None]:
    if texts is None:
        return dict.fromkeys(held)
    if isinstance(texts, Mapping):
        if unknown := set(texts) - set(held):
            known = ", ".join(map(repr, held))
            raise InputError(f"tokens names the stream {min(unknown)!r}; the module has {known}.")
        return {stream: texts.get(stream) for stream in held}
    if len(held) > 1:
        known = ", ".join(f"{stream!r}: [...]" for stream in held)
        raise InputError(f"This module has {len(held)} streams of tokens: give tokens = {{{known}}}, of one or of all.")
    return dict.fromkeys(held, texts)


def _named(
    number: int, row: int, places: NDArray[np.bool_], given: Sequence[Sequence[str]] | None, index: int
) -> list[str]:
    """Return the texts of a row's tokens, at the places where these stand; places behind the last text hold none."""
    there = np.flatnonzero(places[row])
    texts = None if given is None else given[index]
    if texts is not None and len(texts) == places.shape[1]:
        texts = [texts[place] for place in there.tolist()]
    count = len(there) if texts is None else len(texts)
    if not 0 < count <= len(there):
        raise InputError(
            f"Batch {number}, row {row} has {len(there)} tokens in {places.shape[1]} positions (the others are seen by no query); "
            f"{'no' if texts is None else len(texts)} texts were given{'' if given is None else f' (of {len(given)} sequences)'}. "
            "Give one for each token or each position of each sequence, and leave out sequences without any."
        )
    places[row, there[count:]] = False
    return [str(index) for index in range(count)] if texts is None else [str(text) for text in texts]


def _sequence(number: int, row: int, texts: Sequence[str], streams: Mapping[str, int]) -> TokenSequence:
    count = len(texts)
    nowhere = np.full(count, -1, np.int16)
    return TokenSequence(
        record=Record(f"batch {number}, row {row}", text=" ".join(texts), attributes={"batch": number}),
        tokens=guessed(tuple(texts)),
        input_ids=np.full(count, -1, np.int32),
        is_special=np.zeros(count, bool),
        segment=np.zeros(count, np.int8),
        patch_row=nowhere,
        patch_col=nowhere,
        is_image=np.zeros(count, bool),
        streams={} if list(streams) == [""] else streams,
    )
