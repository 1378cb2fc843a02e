"""Who can see what: only runs given at the start, only those who sign in, and nobody another one's session."""

import logging
import re
import urllib.parse

import pytest
from click.testing import CliRunner
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClosedError

import attnviz.explorer
from attnviz.cli import cli
from attnviz.errors import AttnvizError, DatasetError
from attnviz.explorer import Explorer, State
from attnviz.explorer.folders import runs_in
from attnviz.explorer.library import open_runs
from attnviz.explorer.server import Departed
from tests import fakes
from tests.serving import Served

SECRET = "nobody may read this"
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two runs, one that is broken, and one outside of it."""
    base = tmp_path_factory.mktemp("safety")
    for name in ("one", "two"):
        fakes.write_fake_run(base / "runs" / name)
    (base / "runs" / "three").mkdir()
    (base / "runs" / "three" / "manifest.json").write_text("{")
    fakes.write_fake_run(base / "outside")
    (base / "secret.txt").write_text(SECRET)
    (base / "password").write_text(f"{PASSWORD}\nthe second line is none\n")
    return base


@pytest.fixture(scope="module")
def closed(folder):
    """Yield a server that asks for a name and a password."""
    served = Served(folder / "runs", "--user", "ada", "--password-file", folder / "password")
    yield served
    out, err = served.end()
    assert PASSWORD not in out + err
    assert "three is left out" in err


@pytest.fixture(scope="module")
def opened(folder):
    """Yield a server that asks for nothing."""
    served = Served(folder / "runs")
    yield served
    served.end()


def sign_in(served, name, password):
    body = urllib.parse.urlencode({"username": name, "password": password})
    status, headers, _ = served.ask("/login", "POST", body)
    cookies = "; ".join(cookie.split(";")[0] for cookie in headers.get_all("Set-Cookie") or [])
    return status, headers["Location"], cookies


def test_without_signing_in_there_is_only_the_sign_in_page(closed):
    status, headers, _ = closed.ask("/")
    assert (status, headers["Location"].split("?")[0]) == (302, "./login")
    status, _, text = closed.ask("/login?error=%3Cscript%3E")
    assert status == 200
    assert "<script" not in text
    assert re.findall(r"https?://", text) == []
    assert PASSWORD not in text


def test_only_the_right_name_and_password_sign_in(closed):
    for name, password in (("ada", "wrong"), ("eve", PASSWORD), ("", ""), ("ada", "the second line is none")):
        assert sign_in(closed, name, password) == (403, None, "")
    status, place, cookies = sign_in(closed, "ada", PASSWORD)
    assert (status, place) == (302, "./")
    assert cookies.startswith("attnviz-")
    assert PASSWORD not in cookies
    status, _, text = closed.ask("/", cookie=cookies)
    assert status == 200
    assert "Bokeh" in text
    name = cookies.split("=")[0]
    assert closed.ask("/", cookie=f'{name}="2|1:0|10:1|{len(name)}:{name}|4:YWRh|forged"')[0] == 302


def test_a_page_of_another_address_cannot_connect(opened):
    with pytest.raises(HTTPClientError) as refused:
        opened.connect(Origin="http://elsewhere.example")
    assert refused.value.code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/static/../../../../../../../../{base}/secret.txt",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/{base}/secret.txt",
        "/static/extensions/panel/../../../../../../../../../{base}/secret.txt",
        "/static//{base}/secret.txt",
        "/?run={base}/outside",
        "/?run=../outside&map=../../../secret.txt",
        "/components/attnviz.explorer.page.Page/_esm/../../../../secret.txt",
    ],
)
def test_no_path_from_an_address_reaches_a_file(opened, folder, path):
    status, _, text = opened.ask(path.format(base=folder.as_posix().lstrip("/")))
    assert SECRET not in text
    assert status == 200 if path.startswith("/?") else status in (403, 404)


@pytest.mark.parametrize("value", ["/etc", "../outside", "..", "three", "", "one/../two", "one\0", "%2e%2e"])
def test_a_run_is_chosen_by_its_name_among_those_given_and_nothing_else(folder, value):
    state = State(open_runs(runs_in([folder / "runs"])[0]))
    query = urllib.parse.urlencode({"run": value, "map": f"../{value}", "color": value, "view": value})
    refused = state.restore(f"?{query}")
    assert {"run", "map", "color", "view"} <= set(refused)
    assert (state.run, state.directory.path) == ("one", folder / "runs" / "one")


def test_a_folder_stands_for_the_runs_in_it_and_says_what_it_leaves_out(folder, tmp_path):
    found, left_out = runs_in([folder / "runs", folder / "runs" / "one"])
    assert found == [folder / "runs" / "one", folder / "runs" / "two"]
    assert len(left_out) == 1
    assert left_out[0].startswith("three is left out: ")
    assert runs_in([tmp_path]) == ([tmp_path], [])
    with pytest.raises(DatasetError):
        open_runs(runs_in([tmp_path])[0])


def test_sessions_do_not_see_each_other(folder):
    runs = [folder / "runs" / "one", folder / "runs" / "two"]
    mine, other = Explorer(runs), Explorer(runs)
    before = {name: getattr(other.state, name) for name in State.ADDRESS}
    mine.state.restore("?run=two&map=pca&view=head&layer=1&head=2&token=3&search=cat&theme=dark&hide_special=true")
    mine.state.problem = "mine alone"
    assert {name: getattr(other.state, name) for name in State.ADDRESS} == before
    assert other.state.problem == ""
    assert other._title.object != mine._title.object
    assert other._saver.name_of == "one-all"
    assert not set(map(id, mine._views.values())) & set(map(id, other._views.values()))


def invoked(monkeypatch, *arguments, text=None):
    """What the command line hands over to the server, and its output."""
    given = {}
    monkeypatch.setattr(attnviz.explorer, "serve", lambda paths, **rest: given.update(rest, paths=paths))
    done = CliRunner().invoke(cli, ["view", *map(str, arguments)], input=text)
    return given, done


def test_the_command_line_warns_beyond_this_machine_and_offers_a_password(monkeypatch, folder):
    run = folder / "runs" / "one"
    given, done = invoked(monkeypatch, run, "--host", "0.0.0.0")
    assert "everyone who reaches this address can read these runs" in done.stderr
    assert "--user NAME" in done.stderr
    assert given["user"] is None
    given, done = invoked(monkeypatch, run)
    assert done.output == ""
    given, done = invoked(monkeypatch, run, "--host", "0.0.0.0", "--user", "ada", text=f"{PASSWORD}\n{PASSWORD}\n")
    assert (given["user"], given["password"]) == ("ada", PASSWORD)
    assert PASSWORD not in done.output
    assert "without encryption" in done.stderr
    given, done = invoked(monkeypatch, run, "--user", "ada", "--password-file", folder / "password")
    assert given["password"] == PASSWORD


def test_a_password_that_cannot_be_had_is_a_sentence(monkeypatch, folder, tmp_path):
    run, empty = folder / "runs" / "one", tmp_path / "empty"
    empty.write_text("\nx")
    for rest, said in (
        (["--password-file", folder / "password"], "--user NAME"),
        (["--user", "ada", "--password-file", tmp_path / "none"], "cannot be read"),
        (["--user", "ada", "--password-file", empty], "is empty"),
    ):
        given, done = invoked(monkeypatch, run, *rest)
        assert said in str(done.exception)
        assert given == {}
    with pytest.raises(AttnvizError, match="a name and a password"):
        attnviz.explorer.server.serve([run], user="ada")


def test_a_page_that_was_closed_leaves_no_traceback_in_the_log():
    def said(error):
        return logging.makeLogRecord(
            {"name": "asyncio", "msg": "Task exception was never retrieved", "exc_info": (type(error), error, None)}
        )

    assert not Departed().filter(said(WebSocketClosedError()))
    assert Departed().filter(said(ValueError("another")))
