"""Numbers as a short text, and values of an address that are too long for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import write_fake_run

pytest.importorskip("panel")

from attnviz.explorer import State, library
from attnviz.explorer.ranges import as_ranges, in_ranges
from attnviz.explorer.sequence_controls import hidden_of


@given(st.frozensets(st.integers(0, 400)))
def test_numbers_come_back(numbers):
    text = as_ranges(numbers)
    assert in_ranges(text, 0, 401) == numbers
    assert in_ranges(text, 100, 200) == {number for number in numbers if 100 <= number < 200}


def test_neighbours_are_one_range():
    assert as_ranges([12, 3, 4, 5, 6, 7, 8, 9, 9]) == "3-9,12"
    assert as_ranges([]) == ""


@pytest.mark.parametrize("text", ["9-3", "-3", "3-", "a", "٣", "3--4", "1.5", "9" * 12, ",,", "99999999999"])
def test_what_names_no_number_is_left_out(text):
    assert in_ranges(f"{text},7", 0, 100) == {7}
    assert in_ranges("0-99999999999", 5, 8) == {5, 6, 7}


@pytest.fixture
def state(tmp_path):
    return State(library.open_runs([write_fake_run(tmp_path / "text", sequences=1200)]))


def test_hidden_tokens_survive_the_address(state):
    rows = state.directory.token_slice(1190)
    hidden = list(range(rows.start, rows.stop))
    state.param.update(sequence=1190, sentence_hidden=as_ranges(hidden))
    other = State({"text": state.directory})
    assert other.restore(state.address()) == []
    assert hidden_of(other) == set(hidden)
    scattered = np.arange(rows.start, rows.start + 1200, 2).tolist()  # of a long sequence, no two neighbours
    assert 200 < len(as_ranges(scattered)) < 4000
    state.sentence_hidden = as_ranges(scattered)
    assert other.restore(state.address()) == []
    assert other.sentence_hidden == state.sentence_hidden


def test_a_value_that_would_be_cut_is_refused_as_a_whole(state):
    text = as_ranges(range(10_000, 20_000, 2))
    assert state.restore(f"?sentence_hidden={text}&sentence_heads=1-2") == ["sentence_hidden"]
    assert (state.sentence_hidden, state.sentence_heads) == ("", "1-2")
    state.sentence_hidden = text
    assert "sentence_hidden" not in state.address()
