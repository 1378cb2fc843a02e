"""Behind a proxy, below a path: the page draws, signing in keeps the link, and nothing is asked outside of the path."""

import pytest

from tests.browser.chromium import find_browser
from tests.browser.conftest import ARGUMENTS, Shown
from tests.proxy import proxied
from tests.serving import Served

BELOW = "/lab/attn"
PASSWORD = "correct horse"


class Named(Shown):
    """A page at a name of its own, which the browser finds on this machine."""

    def _local(self, url):
        if not url.startswith(("http://lab.example", "ws://lab.example", "data:", "blob:")):
            self.errors.append(f"asked for {url}")


@pytest.fixture(scope="module")
def elsewhere(browser):
    """Yield a browser for which lab.example is this machine: no secure context, as behind a proxy without encryption."""
    rules = "--host-resolver-rules=MAP lab.example 127.0.0.1"
    made = browser.browser_type.launch(executable_path=find_browser(), args=[*ARGUMENTS, rules])
    yield made
    made.close()


@pytest.mark.parametrize(
    ("strips", "keeps_host"),
    [(False, True), (True, False)],
    ids=["path and host kept", "path stripped, host written anew"],
)
def test_below_a_path_the_page_draws_and_signing_in_keeps_the_link(elsewhere, runs, tmp_path, strips, keeps_host):
    (tmp_path / "password").write_text(PASSWORD)
    with proxied(BELOW, strips=strips, keeps_host=keeps_host) as proxy:
        options = ["--user", "ada", "--password-file", tmp_path / "password", "--origin", f"lab.example:{proxy.own}"]
        served = Served(runs["text"], *options, "--forwarded", *([] if strips else ["--prefix", BELOW]))
        proxy.port = served.port
        shown = Named(elsewhere.new_page())
        try:
            _sign_in(shown, f"http://lab.example:{proxy.own}{BELOW}")
        finally:
            shown.page.close()
            _, said = served.end()
    assert "Traceback" not in said
    assert shown.errors == []
    assert proxy.seen
    assert [path for path in proxy.seen if not path.startswith(f"{BELOW}/") and path != "/favicon.ico"] == []
    assert any("/static/" in path for path in proxy.seen)


def _sign_in(shown, address):
    """Open a link, give a wrong password, then the right one; the link is what is shown in the end."""
    page, link = shown.page, "?view=head&layer=1&head=2"
    page.goto(f"{address}/{link}")
    for password, wrong in (("wrong", True), (PASSWORD, False)):
        assert page.url.startswith(f"{address}/login?next=")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        if wrong:
            page.get_by_text("do not go together").wait_for()
    page.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
    assert page.url.startswith(f"{address}/?")
    shown.assert_until(lambda: shown.text("h1"), lambda text: text == "Layer 1 · Head 2")
    shown.painted("dots")
    page.keyboard.press("6")  # a view that is made only now
    page.locator(".tabulator-row").first.wait_for()
    shown.rest()
    (cookie,) = page.context.cookies(f"{address}/")
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Lax", False)
