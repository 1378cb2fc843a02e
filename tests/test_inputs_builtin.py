"""The built-in data, and where it is found."""

from collections import Counter

import pytest

from attnviz.errors import InputError
from attnviz.inputs import docs, read
from attnviz.resources import resource
from tests.sources import options, texts


def test_unknown_builtin_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'digits'"):
        read("builtin:digit", options=options(), seed=0)


@pytest.fixture
def some_packages(monkeypatch):
    """Less to parse: numpy, scipy and torch hold most of it."""
    monkeypatch.setattr(docs, "_PACKAGES", ("networkx", "pandas", "pyarrow", "sklearn"))
    docs.harvest.cache_clear()
    yield
    docs.harvest.cache_clear()


@pytest.mark.usefixtures("some_packages")
def test_docs_are_many_different_prose_sentences():
    inputs = read("builtin:docs", options=options(), seed=0)
    found = texts(inputs)
    assert len(found) == len(set(found)) >= 6000
    assert len({record.attributes["package"] for record in inputs.records}) >= 4
    for text in found[::50]:
        assert text[0].isupper()
        assert text[-1] in ".?!"
        assert 6 <= len(text.split()) <= 40
        assert "::" not in text
        assert "`" not in text


def test_docs_keep_prose_and_leave_out_code(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        '''
def f():
    """Return the largest of the ``values`` that are given here.

    Parameters
    ----------
    axis : int
        The axis along which the values are compared. By default the
        values are flattened first, e.g. when no axis is given.

    >>> print("This is a line that belongs to a doctest here.")
    See https://example.org for all of the details about this.
    Too short to keep.
    """
''',
        encoding="utf-8",
    )
    found = [
        sentence
        for text in docs._docstrings(path)
        for part in docs._paragraphs(text)
        for sentence in docs._sentences(part)
    ]
    assert found == [
        "Return the largest of the values that are given here.",
        "The axis along which the values are compared.",
        "By default the values are flattened first, e.g. when no axis is given.",
    ]


def test_sample_sentences_are_varied():
    inputs = read("builtin:sentences", options=options(), seed=0)
    topics = Counter(record.attributes["topic"] for record in inputs.records)
    assert len(inputs.records) >= 300
    assert len(topics) == 15
    assert min(topics.values()) >= 20
    assert inputs.skipped == {}
    pairs = [record for record in inputs.records if record.pair]
    assert len(pairs) >= 100
    labels = Counter(record.attributes["label"] for record in pairs if record.attributes["topic"] == "entailment")
    assert set(labels) == {"entailment", "neutral", "contradiction"}


def test_repeated_probes_say_the_same_words_twice():
    one, other = (read("builtin:repeated", options=options(), seed=seed).records for seed in (1, 2))
    assert one[0].text != other[0].text
    for record in one:
        words = record.text.split()
        half = len(words) // 2
        assert words[:half] == words[half:]
        assert len(set(words)) == half == record.attributes["half_words"]
        assert record.attributes["probe"] == "repeated"


def test_digits_are_bytes_with_labels():
    records = read("builtin:digits", options=options(), seed=0).records
    assert len(records) == 1797
    assert records[0].image().shape == (8, 8)
    assert max(record.image().max() for record in records) == 255
    assert [record.attributes["label"] for record in records[:10]] == list(range(10))


def test_photos_are_rgb():
    records = read("builtin:photos", options=options(), seed=0).records
    assert [(record.image().shape, record.attributes["label"]) for record in records] == [
        ((427, 640, 3), "china"),
        ((427, 640, 3), "flower"),
    ]


def test_resources_that_are_missing_say_where_they_were_sought():
    assert resource("data", "sample", "sentences.jsonl").is_file()
    with pytest.raises(InputError, match=r"data/sample/none\.jsonl should travel with attnviz"):
        resource("data", "sample", "none.jsonl")
