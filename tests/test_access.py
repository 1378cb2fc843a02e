"""Whose requests are answered: those that go by a name of the server, from a page of its own, whatever they ask for.

A page that points its own name at 127.0.0.1 sends that name as Host and as Origin: the two are equal, and foreign.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from attnviz.cli import cli
from attnviz.errors import AttnvizError
from attnviz.explorer.access import Admission, Place, address, checked_prefix, session_admission
from tests import fakes
from tests.serving import Served, alone

FOREIGN = {"Host": "rebound.example:5006", "Origin": "http://rebound.example:5006"}
EVERY_PATH = [
    "/",
    "/?run=text",
    "/metadata",
    "/autoload.js?bokeh-autoload-element=x",
    "/static/js/bokeh.min.js",
    "/static/extensions/panel/panel.min.js",
    "/components/attnviz.explorer.style/Rules/_stylesheets/style.css",
    "/favicon.ico",
    "/login",
    "/nothing",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fakes.write_fake_run(tmp_path_factory.mktemp("access") / "text")


@pytest.fixture(scope="module")
def opened(run):
    served = Served(run, "--origin", "lab.example:8443", "--origin", "plain.example")
    yield served
    assert "The Zen of Python" not in "".join(served.end())


@pytest.mark.parametrize("path", EVERY_PATH)
def test_no_answer_goes_to_a_name_that_is_not_ours(opened, path):
    for headers in (FOREIGN, {"Host": FOREIGN["Host"]}, {"Host": f"localhost.rebound.example:{opened.port}"}):
        status, said, text = opened.ask(path, **headers)
        assert (status, said["Content-Type"]) == (403, "text/plain; charset=utf-8"), headers
        assert re.fullmatch(r"This explorer does not go by the name \S+\. If .* --origin \S+\.\n", text)
        assert headers["Host"] in text


def test_what_is_posted_from_a_name_that_is_not_ours_is_refused_in_the_same_words(opened):
    for headers in (FOREIGN, {"Host": f"127.0.0.1:{opened.port}", "Origin": "http://rebound.example"}):
        status, _, text = opened.ask("/login", "POST", "username=ada&password=x", **headers)
        assert status == 403
        assert "--origin rebound.example" in text


@pytest.mark.parametrize(
    "headers",
    [
        FOREIGN,
        {"Host": "rebound.example"},
        {"Host": "localhost:9000", "Origin": "http://rebound.example:9000"},
        {"Host": "localhost:9000", "Origin": "http://localhost:8888"},
        {"Host": "localhost:9000", "Origin": "null"},
        {"Host": "lab.example", "Origin": "https://lab.example:9999"},
        {**FOREIGN, "Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
def test_no_websocket_opens_for_another_page(opened, headers):
    with pytest.raises(HTTPClientError) as refused:
        opened.connect(**headers)
    assert refused.value.code == 403
    assert b"--origin" in refused.value.response.body or headers.get("Origin") == "null"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:9000", "Origin": "http://localhost:9000"},  # ssh -L 9000:localhost:5006
        {"Host": "127.0.0.5:1", "Origin": "http://127.0.0.5:1"},
        {"Host": "[::1]:9000", "Origin": "http://[::1]:9000"},
        {"Host": "plain.example", "Origin": "https://plain.example"},
        {"Host": "plain.example", "Origin": "http://plain.example"},
        {"Host": "lab.example", "Origin": "https://lab.example:8443"},  # nginx's $host has no port
        {"Host": "127.0.0.1:5006", "Origin": "https://lab.example:8443"},  # a proxy that writes the Host anew
    ],
    ids=str,
)
def test_a_websocket_opens_for_pages_of_our_own(opened, headers):
    opened.connect(**headers)
    assert opened.ask("/favicon.ico", **headers)[0] == 200


def test_pages_elsewhere_can_neither_embed_nor_frame_it(opened):
    """A script or a picture that a page embeds sends no Origin: the browser says instead where it comes from."""
    for site in ("cross-site", "same-site"):
        status, _, text = opened.ask(
            "/autoload.js?bokeh-autoload-element=x", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors"
        )
        assert (status, "Open the explorer itself" in text) == (403, True)
        assert opened.ask("/favicon.ico", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0] == 200  # a link
    for path in ("/", "/static/js/bokeh.min.js"):
        said = opened.ask(path)[1]
        policy = said["Content-Security-Policy"].split()
        assert policy[:4] == ["frame-ancestors", "'self'", "http://localhost:*", "http://127.0.0.1:*"]
        assert {"lab.example:8443", "plain.example"} <= {*policy}
        assert "*" not in policy
        assert (said["Cross-Origin-Resource-Policy"], said["X-Content-Type-Options"]) == ("same-origin", "nosniff")


def test_no_module_is_imported_for_a_visitor(opened):
    assert opened.ask("/components/this/s/_css/x.css")[0] == 404  # importing it prints, which the fixture looks for


@pytest.mark.parametrize(
    ("host", "origins", "hosts", "strangers"),
    [
        ("127.0.0.1", [], ["localhost", "LOCALHOST.:7", "127.1.2.3", "[::1]:8"], ["192.168.1.5", "a.localhost", "", "x/y", "a@b"]),
        ("::1", [], ["[::1]:5006", "localhost"], ["[::2]:5006", "[x]"]),
        ("localhost", ["tool"], ["127.0.0.1", "tool:99"], ["tool.example", "atool"]),
        ("192.168.1.5", [], ["192.168.1.5:5006", "192.168.1.5"], ["192.168.1.6", "localhost", "rebound.example"]),
        ("0.0.0.0", ["me.example"], ["192.168.1.6:5006", "localhost", "[fe80::1]"], ["rebound.example", "me.example.org"]),
    ],
)  # fmt: skip
def test_a_server_goes_by_its_own_names_on_any_port(host, origins, hosts, strangers):
    admission = Admission.of(host, origins)
    for name in hosts:
        assert admission.refusal({"Host": name}) is None, name
        assert admission.refusal({"Host": name, "Origin": f"http://{name}".rstrip(".")}) is None, name
    for name in strangers:
        assert admission.refusal({"Host": name}), name
        assert admission.refusal({"Host": name, "Origin": f"http://{name}"}), name


def test_a_forwarded_name_is_checked_beside_the_host_and_never_instead():
    forged = {"Host": "rebound.example", "X-Forwarded-Host": "localhost"}
    behind = Admission.of("127.0.0.1", ["lab.example"], forwarded=True)
    for admission in (behind, Admission.of("127.0.0.1", [])):
        assert "rebound.example" in admission.refusal(forged)
    assert "other.example" in behind.refusal({"Host": "localhost", "X-Forwarded-Host": "lab.example, other.example"})
    assert (
        behind.refusal({"Host": "localhost:5006", "X-Forwarded-Host": "lab.example", "Origin": "https://lab.example"})
        is None
    )


def test_a_refusal_repeats_a_stranger_only_as_plain_short_text():
    said = Admission().refusal({"Host": "<script>\x1b[31m" + "é" * 500})
    assert "\x1b" not in said
    assert said.isascii()
    assert len(said) < 250


@pytest.mark.parametrize(
    "origin",
    [
        "https://lab.example",
        "lab.example/path",
        "*",
        "",
        "lab example",
        "lab.example:0",
        "lab.example:99999",
        "::1",
        "a,b",
    ],
)
def test_an_origin_that_is_none_is_a_sentence(origin, run):
    with pytest.raises(AttnvizError, match=r"is no HOST\[:PORT\]. Give .* lab.example.org:8443"):
        Admission.of("127.0.0.1", [origin])


def test_a_prefix_is_a_path_or_a_sentence():
    assert [checked_prefix(p) for p in ("", "/", "/a", "/a/b-c/", "/user/ada%40x.org/proxy/5006")] == [
        "", "", "/a", "/a/b-c", "/user/ada%40x.org/proxy/5006"
    ]  # fmt: skip
    for text in ("a", "//evil.example", "/a//b", "/a/../b", "/a?b", "/a b", "http://x/a", "/(.*)", "/a\\b", "/é"):
        with pytest.raises(AttnvizError, match="is no path"):
            checked_prefix(text)


def test_places_are_read_as_browsers_write_them():
    assert str(Place.read("[::1]:8")) == "[::1]:8"
    assert Place.of_page("https://Lab.Example") == Place("lab.example", 443)
    assert Place.of_page("chrome-extension://abc") is None
    assert address("::1", 5006) == "http://[::1]:5006"
    assert address("127.0.0.1", 1, "/a/") == "http://127.0.0.1:1/a/"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--origin", "http://x"], "no HOST[:PORT]"),
        (["--prefix", "x"], "no path"),
        (["--host", "256.1.1.1"], "256.1.1.1"),
    ],
)
def test_the_command_line_says_what_is_wrong_before_it_asks_for_a_password(arguments, said, run):
    password = [] if "--host" in arguments else ["--user", "ada"]
    done = CliRunner().invoke(cli, ["view", str(run), "--port", "0", *arguments, *password])
    assert isinstance(done.exception, AttnvizError)
    assert said in str(done.exception)
    assert "Password" not in done.output


def test_the_other_loopback_address_works(run):
    try:
        served = Served(run, "--host", "::1", "--prefix", "/below/here")
        assert f"http://[::1]:{served.port}/below/here/ " in served.first
        assert served.ask("/below/here/")[0] == 200
        served.connect("/below/here/ws", Origin=f"http://[::1]:{served.port}")
        status, said, _ = served.ask("/below/here?run=text")
        assert (status, said["Location"]) == (302, "/below/here/?run=text")
        assert served.ask("/")[0] == 404
    finally:
        served.end()


@pytest.fixture(scope="module")
def panel_server(run):
    """Yield the port of ``panel serve dashboards/explorer.py``."""
    file = Path(__file__).parent.parent / "dashboards/explorer.py"
    command = [sys.executable, "-m", "panel", "serve", str(file), "--port", "0", "--args", str(run)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stderr if "http://localhost" in line)
        yield int(re.search(r"localhost:(\d+)", line)[1])
        process.terminate()


def pulled(port, **headers):
    """All that a page with these headers shows, as its browser asks for it: a token by the page, the rest by the websocket."""
    page = HTTPRequest(f"http://localhost:{port}/explorer", headers=headers, request_timeout=120)
    socket = HTTPRequest(f"ws://localhost:{port}/explorer/ws", headers=headers)
    question = [json.dumps({"msgid": "1", "msgtype": "PULL-DOC-REQ"}), "{}", "{}"]

    async def pull():
        text = (await AsyncHTTPClient().fetch(page)).body.decode()
        token = re.search(r'"token":"([^"]+)"', text)[1]
        connection = await websocket_connect(socket, subprotocols=["bokeh", token])
        read = [await connection.read_message() for _ in range(3)]  # that it is there
        for part in question:
            await connection.write_message(part)
        read += [await connection.read_message() for _ in range(3)]
        connection.close()
        return text + str(read)

    return alone(pull)


def test_panels_own_server_shows_nothing_to_another_name(panel_server):
    own, foreign = (
        (pulled(panel_server, Host=host, Origin=f"http://{host}")) for host in ("localhost:9000", FOREIGN["Host"])
    )
    assert "All heads" in own
    assert "All heads" not in foreign
    assert "does not go by the name rebound.example:5006" in foreign
    assert "BOKEH_ALLOW_WS_ORIGIN=rebound.example:5006" in foreign


def test_panels_own_server_is_told_its_names_by_bokehs_variable(monkeypatch):
    monkeypatch.setenv("BOKEH_ALLOW_WS_ORIGIN", "lab.example:8443, *")
    admission = session_admission()
    assert admission.refusal({"Host": "lab.example:8443", "Origin": "https://lab.example:8443"}) is None
    assert admission.refusal(FOREIGN)
