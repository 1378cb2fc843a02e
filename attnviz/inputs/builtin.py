"""``builtin:NAME``: data that needs no file and no download.

``docs`` harvests docstrings of the installed packages (see ``attnviz.inputs.docs``). ``sentences`` is
``data/sample/sentences.jsonl``: some 300 sentences written for attnviz, with pairs, grouped by ``topic`` (minimal pairs of
professions and pronouns, entailment, agreement at a distance, negation, names and dates, …). ``repeated`` is the probe
that induction heads answer to: random words, said twice. ``digits`` and ``photos`` come with scikit-learn.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from attnviz.errors import InputError, nearest, require
from attnviz.inputs import docs
from attnviz.inputs.images import array_rows
from attnviz.inputs.lines import read_json_lines
from attnviz.inputs.rows import DataOptions, Indexes, Rows, Skip
from attnviz.resources import resource
from attnviz.types import Record

__all__ = ["BUILTINS", "read_builtin"]

_PROBES = 256
_PROBE_WORDS = (12, 33)  # of one half: long enough for a pattern, short enough for 128 tokens
_COMMON = (
    "air apple arm art baby back ball bank bed bell bird blood blue boat body bone book box boy bread brother bus cake "
    "car cat chair city class cloud coat cold cow cup day dog door dream dress ear earth east egg end eye face farm "
    "father field fire fish floor flower food foot game garden girl glass gold grass green hair hand hat head heart "
    "hill home horse house ice iron island job key king lake lamp land law leaf leg letter light line lip milk money "
    "moon mother mouth music name neck night north nose oil page paper park pen pig plane plant queen rain red ring "
    "river road rock roof room rope salt sand school sea seed sheep ship shoe sister skin sky snow song south star "
    "stone street sugar sun table tail tea tooth town train tree wall watch water wave west wheel wind window winter "
    "wood word work world year"
)


def read_builtin(location: str, options: DataOptions, seed: int) -> Rows:
    """Open built-in data by its name in ``BUILTINS``.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if location not in BUILTINS:
        raise InputError(f"builtin:{location} is unknown: {nearest(location, BUILTINS)}")
    return BUILTINS[location](options, seed)


def _docs(options: DataOptions, seed: int) -> Rows:
    found = docs.harvest()

    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for index in indexes.tolist():
            package, sentence = found[index]
            yield Record(f"docs:{index}", sentence, attributes={"package": package})

    return Rows(len(found), take)


def _sentences(options: DataOptions, seed: int) -> Rows:
    return read_json_lines(
        str(resource("data", "sample", "sentences.jsonl")), replace(options, column="text", pair_column="pair"), seed
    )


def _repeated(options: DataOptions, seed: int) -> Rows:
    def take(indexes: Indexes) -> Iterator[Record | Skip]:
        for index in indexes.tolist():
            half = _random_words(np.random.default_rng((seed, index)))
            attributes = {"probe": "repeated", "half_words": len(half)}
            yield Record(f"repeated:{index}", " ".join(half + half), attributes=attributes)

    return Rows(_PROBES, take)


def _random_words(random: np.random.Generator) -> list[str]:
    """Return different words in random order: each occurs once in a half, so that what follows it is never ambiguous."""
    words: list[str] = random.choice(_COMMON.split(), size=int(random.integers(*_PROBE_WORDS)), replace=False).tolist()
    return words


def _digits(options: DataOptions, seed: int) -> Rows:
    digits = require("sklearn.datasets", "demo").load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return array_rows(images, {"label": digits.target}, "digits")


def _photos(options: DataOptions, seed: int) -> Rows:
    photos = require("sklearn.datasets", "demo").load_sample_images()
    labels = np.array([name.rsplit("/", 1)[-1].removesuffix(".jpg") for name in photos.filenames])
    return array_rows(np.stack(photos.images), {"label": labels}, "photos")


BUILTINS: dict[str, Callable[[DataOptions, int], Rows]] = {
    "digits": _digits,
    "docs": _docs,
    "photos": _photos,
    "repeated": _repeated,
    "sentences": _sentences,
}
"""Name after ``builtin:`` → what opens it."""
