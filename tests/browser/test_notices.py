"""What the page says of itself: a fault with details to copy, and a run that was replaced."""

import shutil

from tests import fakes
from tests.browser.conftest import serving

PLANT = """
import attnviz.explorer.model_view as model
whole = model.lay_tiles
def fail(run):
    if model.planted: raise ValueError("planted <b>bold</b>")
    return whole(run)
model.lay_tiles, model.planted = fail, True
import attnviz.explorer.headmap as head
def point(*given, **named): raise KeyError("hover")
head.describe_token = point
"""


def test_a_fault_is_a_sentence_with_details_to_copy_and_the_page_goes_on(shown, runs):
    page = shown.page
    with serving([runs["text"]], before=PLANT, fails=True) as address:
        shown.open(f"{address}?view=model")
        notice = page.locator(".notice")
        notice.wait_for()
        assert notice.count() == 1
        assert shown.text(".notice p") == (
            "Something went wrong in Model: ValueError: planted <b>bold</b>. "
            "This is a fault of attnviz; the rest of the page goes on."
        )
        assert notice.locator("b").count() == 0
        page.get_by_role("button", name="Copy details").click()
        shown.assert_until(lambda: page.locator(".notice button").text_content(), lambda text: text != "Copy details")
        if page.locator(".notice textarea").count():
            copied = page.locator(".notice textarea").input_value()
        else:
            page.context.grant_permissions(["clipboard-read"])
            copied = page.evaluate("navigator.clipboard.readText()")
        assert "ValueError: planted <b>bold</b>" in copied
        assert "run: text" in copied
        page.keyboard.press("2")  # keys go on: One head
        shown.assert_until(notice.count, lambda count: count == 0)
        shown.painted("dots")
        page.keyboard.press("3")
        notice.wait_for()


def test_an_address_that_asks_for_what_is_not_here_is_told_until_something_changes(shown, server):
    shown.open(f"{server}?run=nobody's&view=foo&map=pca")
    notice = shown.page.locator(".notice")
    notice.wait_for()
    assert shown.text(".notice p") == (
        "The address asks for what is not here: run “nobody's”, view “foo”. Run text is shown instead."
    )
    shown.page.keyboard.press("2")
    shown.assert_until(notice.count, lambda count: count == 0)
    shown.open(f"{server}?run=text&map=pca")
    shown.painted("wall-image")
    assert notice.count() == 0


ENDED = """  # as for a browser that takes longer than Bokeh waits for it
import panel as pn
whole = pn.io.server.get_server
at_once = {"unused_session_lifetime_milliseconds": 1, "check_unused_sessions_milliseconds": 1}
pn.io.server.get_server = lambda *given, **named: whole(*given, **named, **at_once)
"""


def test_a_page_whose_session_has_ended_before_it_connects_is_the_same_page(shown, runs):
    with serving([runs["text"]], before=ENDED) as address:
        shown.open(f"{address}?view=head&layer=1&head=2&map=pca").painted("dots")
        assert "Layer 1 · Head 2" in shown.text("h1")  # and nothing was asked of another server: ``shown`` sees to it


def test_a_phone_is_given_the_page_at_its_own_width(browser, server):
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.goto(server)
    page.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle && innerWidth === 390")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_a_run_that_was_replaced_is_told_and_loaded_again(shown, tmp_path):
    page = shown.page
    path = fakes.write_fake_run(tmp_path / "text", sequences=10)
    with serving([path]) as address:
        shown.open(address)
        shown.painted("wall-image")
        path.rename(tmp_path / "old")
        shutil.copytree(fakes.write_fake_run(tmp_path / "new/text", sequences=14), path)
        page.keyboard.press("6")  # Sequences
        shown.assert_until(lambda: page.locator(".notice").all_text_contents(), bool)
        assert "was replaced at" in shown.text(".notice p")
        assert "10 sequences" in shown.text(".counts")
        page.get_by_role("button", name="Reload").click()
        shown.assert_until(
            lambda: page.locator(".counts").all_text_contents(), lambda texts: "14 sequences" in str(texts)
        )
        assert page.locator(".notice").count() == 0


def test_a_page_that_nobody_touches_says_that_its_run_was_replaced(shown, tmp_path):
    path = fakes.write_fake_run(tmp_path / "text", sequences=10)
    soon = "import attnviz.explorer.app as app; app.LOOKS = 200\n"
    with serving([path], before=soon) as address:
        shown.open(address)
        shown.painted("wall-image")
        made = fakes.write_fake_run(tmp_path / "new/text", sequences=14)
        path.rename(tmp_path / "old")  # the page may look before the next is there
        made.rename(path)
        shown.assert_until(lambda: " ".join(shown.page.locator(".notice").all_text_contents()), bool)
        shown.assert_until(lambda: shown.text(".notice p"), lambda text: "was replaced at" in text)
