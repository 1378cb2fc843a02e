"""What follows a change runs in one order, whatever order the changes come in."""

import panel as pn
import param
import pytest

from attnviz.explorer.acts import Acts
from attnviz.explorer.follow import follow
from attnviz.explorer.guard import Guard


class Session(param.Parameterized):
    """As much of a state as following takes."""

    problem = param.String(default="")
    note = param.Integer(default=0)
    picture = param.Integer(default=0)


def a_guard():
    return Guard(refuse=lambda sentence: None, about=lambda: {"view": "test"})


@pytest.fixture
def queue(monkeypatch):
    """What a server would run next, one by one."""
    waiting = []
    monkeypatch.setattr(pn.state, "execute", lambda act, schedule: waiting.append(act))
    return waiting


@pytest.fixture
def session(queue):
    """A session that draws, and then tells what is drawn."""
    made = Session()
    made.acts, made.guard, made.told, made.drawn = Acts(), a_guard(), [], 0

    def draw():
        made.drawn = made.picture

    follow(made, ["picture"], act=draw)
    follow(made, ["note", "picture"], act=lambda: made.told.append(made.drawn))
    return made


def run_all(queue):
    while queue:
        queue.pop(0)()


def test_what_tells_runs_after_what_draws_though_its_change_came_first(session, queue):
    session.note = 1
    session.picture = 1
    run_all(queue)
    assert session.told == [1]
    session.param.update(note=2, picture=2)
    run_all(queue)
    assert session.told == [1, 2]


def test_a_change_between_two_acts_is_told_when_it_is_drawn(session, queue):
    session.picture = 1
    queue.pop(0)()  # drawn, not yet told
    session.picture = 2
    run_all(queue)
    assert session.told == [2]


def test_acts_run_one_by_one_and_each_once(session, queue):
    session.picture = 1
    session.picture = 2
    assert len(queue) == 1  # the lock is given back in between
    queue.pop(0)()
    assert (session.drawn, session.told, len(queue)) == (2, [], 1)
    run_all(queue)
    assert session.told == [2]


def test_an_act_that_fails_does_not_keep_the_others_from_running(session, queue):
    def fail():
        raise RuntimeError("broken")

    follow(session, ["note"], act=fail)
    follow(session, ["note"], act=lambda: session.told.append("after"))
    session.note = 1
    run_all(queue)
    assert session.told == [0, "after"]
    assert [fault.error for fault in session.guard.faults] == ["RuntimeError: broken"]


@pytest.mark.parametrize("served", [True, False])
def test_what_comes_last_also_runs_after_acts_that_were_registered_later(queue, monkeypatch, served):
    """Without a server nothing waits: there the changes themselves have to be followed in this order."""
    if not served:
        monkeypatch.setattr(pn.state, "execute", lambda act, schedule: act())
    made, done = Session(), []
    made.acts, made.guard = Acts(), a_guard()
    follow(made, ["picture"], act=lambda: done.append("told"), last=True)
    follow(made, ["picture"], act=lambda: done.append("drawn"))
    made.picture = 1
    run_all(queue)
    assert done == ["drawn", "told"]
