"""How the explorer feels: names and keys for everything, help, a first visit, waiting, nothing that jumps or is cut off."""

import pytest

from tests.browser.conftest import Shown
from tests.pace import some

VIEWS = {
    "all": "All heads",
    "head": "One head",
    "model": "Model",
    "neuron": "Neuron",
    "sentence": "Sentence",
    "image": "Image",
    "sequences": "Sequences",
}
NAMED = {
    "button",
    "checkbox",
    "combobox",
    "textbox",
    "spinbutton",
    "slider",
    "tab",
    "radio",
    "link",
    "switch",
    "searchbox",
}
DEEP = """
  const deep = function* (root) {
    for (const e of root.querySelectorAll('*')) { yield e; if (e.shadowRoot) yield* deep(e.shadowRoot) }
  }
"""
CONTROLS = f"""() => {{ {DEEP}
  const found = [...deep(document)].filter((e) => e.checkVisibility() && !e.disabled && !e.closest('[aria-hidden=true]')
    && (e.matches('button, input, select, summary, [role=slider], [role=tab]') || e.tabIndex === 0))
  return found.map((e, number) => {{ e._number = number; return e.outerHTML.slice(0, 120) }})
}}"""
FOCUSED = """() => { let e = document.activeElement; while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement
  return e?._number ?? null }"""
WIDEST = f"""() => {{ {DEEP}
  return [...deep(document)].filter((e) => e.matches('button, input, select, label, h1, summary') && e.checkVisibility())
    .map((e) => [e.outerHTML.slice(0, 90), e.getBoundingClientRect()]).filter(([, box]) => box.width && box.right > innerWidth + 1)
    .map(([html]) => html)
}}"""
LAYOUTS = """() => {
  const page = Object.values(Bokeh.index.roots ?? Bokeh.index)[0]
  const layOut = page.update_layout.bind(page)
  window.layouts = 0
  page.update_layout = () => { window.layouts += 1; layOut() }
}"""
SLOW = """window._send = WebSocket.prototype.send
window._sent = Promise.resolve()
WebSocket.prototype.send = function (data) {  // in order: the pieces of one message must not mix with another's
  const wait = new Promise((done) => setTimeout(done, window.slow ?? 0))
  window._sent = Promise.all([window._sent, wait]).then(() => window._send.call(this, data))
}"""


def at(server, view, **more):
    """The address of a view; every one of them has something to show."""
    rest = "".join(f"&{name}={value}" for name, value in more.items())
    run = "picture" if view == "image" else "text"
    return f"{server}?run={run}&map=pca&view={view}&layer=1&head=2&token=12{rest}"


@pytest.mark.parametrize("view", some(VIEWS, "head"))
def test_every_control_has_a_name(shown, server, view):
    shown.open(at(server, view))
    shown.rest()
    session = shown.page.context.new_cdp_session(shown.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    known = [node for node in nodes if not node["ignored"] and node["role"]["value"] in NAMED]
    nameless = [
        (node["role"]["value"], node.get("description", {}).get("value"))
        for node in known
        if not node.get("name", {}).get("value", "").strip()
    ]
    assert len(known) > 20
    assert nameless == []


@pytest.mark.parametrize("view", some(VIEWS, "sentence"))
def test_every_control_is_reached_by_keyboard(shown, server, view):
    shown.open(at(server, view))
    shown.rest()
    controls = shown.page.evaluate(CONTROLS)
    reached = set()
    for _ in range(len(controls) + 10):
        shown.page.keyboard.press("Tab")
        reached.add(shown.page.evaluate(FOCUSED))
    assert [html for number, html in enumerate(controls) if number not in reached] == []


def test_a_click_lays_the_page_out_once_for_its_pictures_and_once_for_its_lists(shown, server):
    """Each time takes some 40 ms, and Bokeh by itself does it after every change: half a click's time."""
    shown.open(at(server, "head")).painted("dots")
    first = shown.assert_until(lambda: shown.data("weights", "alpha"), bool)
    shown.page.keyboard.press("Escape")
    shown.assert_until(lambda: shown.text(".beside"), lambda text: "Click a point" in text)
    shown.rest()
    shown.page.evaluate(LAYOUTS)
    place = shown.data("dots", "x")[40], shown.data("dots", "y")[40]
    shown.page.mouse.click(*shown.at("head", *place))
    shown.assert_until(lambda: shown.data("weights", "alpha"), lambda seen: seen != first)
    shown.assert_until(lambda: shown.text(".beside"), lambda text: "Nearest" in text)
    shown.rest()
    assert 1 <= shown.page.evaluate("window.layouts") <= 2


@pytest.mark.slow
def test_a_row_and_a_title_of_the_table_do_with_enter_what_a_click_does(shown, server):
    shown.open(at(server, "sequences"))
    shown.page.locator(".tabulator-row").first.wait_for()
    shown.assert_until(
        lambda: shown.page.locator(".tabulator-row").first.get_attribute("tabindex"), lambda tab: tab == "0"
    )
    shown.page.locator(".tabulator-col", has_text="Tokens").press("Enter")
    shown.assert_until(
        lambda: shown.page.locator(".tabulator-col", has_text="Tokens").get_attribute("aria-sort"),
        lambda sort: sort != "none",
    )
    shown.rest()
    shown.page.locator(".tabulator-row").nth(3).press("Enter")
    shown.goes_to("view=head")


def test_help_opens_by_key_takes_the_focus_and_gives_it_back(shown, server):
    shown.open(at(server, "sentence"))
    shown.rest()
    before = shown.page.get_by_role("button", name="Reset view")
    before.focus()
    shown.page.keyboard.press("?")
    dialog = shown.page.get_by_role("dialog", name="Help")
    dialog.wait_for()
    assert dialog.evaluate("(e) => e.contains(e.getRootNode().activeElement)")
    text = dialog.inner_text()
    for words in ("Sentence", "Weigh by value norm", "Light or dark", "trustworthiness", "attnviz "):
        assert words in text
    shown.page.keyboard.press("t")
    shown.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert before.evaluate("(e) => e.getRootNode().activeElement === e")
    shown.goes_to("view=sentence")  # neither key reached the page behind
    shown.goes_to("token=12")
    assert "theme" not in shown.page.url
    shown.page.get_by_role("button", name="Help").click()
    dialog.wait_for()
    shown.page.get_by_role("button", name="Close").click()
    dialog.wait_for(state="hidden")


@pytest.mark.slow
def test_keys_change_views_theme_and_drag_but_not_while_typing(shown, server):
    shown.open(at(server, "all"))
    shown.rest()
    shown.page.keyboard.press("2")
    shown.goes_to("view=head")
    shown.page.keyboard.press("t")
    shown.goes_to("theme=dark")
    shown.page.keyboard.press("b")
    box = shown.page.get_by_role("button", name="Box", exact=True)
    shown.assert_until(lambda: box.get_attribute("aria-pressed"), lambda pressed: pressed == "true")
    shown.page.keyboard.press("/")
    shown.page.keyboard.type("t3?m")
    search = shown.page.get_by_label("Search", exact=True)
    assert search.input_value() == "t3?m"
    assert shown.page.get_by_role("dialog").count() == 0
    search.press("Control+a")
    for _ in range(3):  # past the two lists beside it, which take letters themselves
        shown.page.keyboard.press("Tab")
    shown.page.keyboard.press("Control+b")
    shown.page.keyboard.press("m")
    shown.assert_until(lambda: box.get_attribute("aria-pressed"), lambda pressed: pressed == "false")
    shown.goes_to("view=head")
    shown.goes_to("theme=dark")


def test_a_first_visit_is_greeted_once(browser, server):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    shown = Shown(context.new_page()).open(at(server, "all"))
    card = shown.page.get_by_role("complementary", name="First steps")
    card.wait_for()
    shown.painted("wall-image")
    figure = shown.page.locator(".plate").first.bounding_box()
    box = card.bounding_box()
    assert box["x"] + box["width"] <= figure["x"]  # it covers no picture
    shown.page.get_by_role("button", name="Got it").click()
    assert card.count() == 0
    shown.open(at(server, "all"))
    shown.rest()
    assert card.count() == 0
    assert shown.errors == []
    context.close()


def test_a_slow_answer_shows_a_line_that_goes_and_moves_nothing(shown, server):
    shown.page.add_init_script(SLOW)
    shown.open(at(server, "head"))
    shown.rest()
    stage = shown.page.locator(".stage").bounding_box()
    line = shown.page.locator(".drawing")
    shown.page.evaluate("window.slow = 700")
    shown.page.keyboard.press("ArrowRight")
    shown.assert_until(lambda: line.evaluate("(e) => !e.hidden"), bool, seconds=2)
    assert shown.page.locator("body").get_attribute("aria-busy") == "true"
    assert shown.page.locator(".stage").bounding_box() == stage
    shown.page.evaluate("window.slow = 0")
    shown.rest()
    shown.goes_to("head=3")
    assert shown.page.locator("body").get_attribute("aria-busy") is None


@pytest.mark.parametrize("width", some([1280, 1440], 1280))
def test_the_bar_above_a_head_is_one_row_and_nothing_moves_as_points_are_chosen(shown, server, width):
    shown.page.set_viewport_size({"width": width, "height": 800})
    shown.open(f"{server}?run=text&map=pca&view=head&layer=1&head=2").painted("dots")
    shown.rest()
    bar, stage = (shown.page.locator(name).first for name in (".one-head .tools", ".stage"))
    heights = bar.evaluate(
        "(e) => [...e.shadowRoot.children].map((c) => c.getBoundingClientRect()).filter((b) => b.height > 20)"
    )
    assert len({round(box["bottom"]) for box in heights}) == 1
    before = [item.bounding_box() for item in (bar, stage)]
    shown.page.mouse.click(*shown.at("head", *shown.data("dots", "x")[:1], shown.data("dots", "y")[0]))
    shown.goes_to("token=")
    shown.rest()
    assert [item.bounding_box() for item in (bar, stage)] == before
    assert "Layer 1 · Head 2" in shown.page.get_by_role("heading", level=1).inner_text()


@pytest.mark.slow
def test_what_panel_hides_is_hidden(shown, server):
    shown.open(at(server, "all"))
    shown.rest()
    assert not shown.page.get_by_role("button", name="Next head").is_visible()
    assert not shown.page.get_by_label("Find a sequence").is_visible()
    shown.open(at(server, "sentence", sentence_scope="mean"))
    shown.rest()
    assert not shown.page.get_by_role("button", name="Next sequence").is_visible()
    assert not shown.page.get_by_role("button", name="Next head").is_visible()


@pytest.mark.parametrize("view", some(VIEWS, "all"))
def test_on_a_phone_nothing_is_cut_off(shown, server, view):
    shown.page.set_viewport_size({"width": 390, "height": 844})
    shown.open(at(server, view))
    shown.rest()
    assert shown.page.evaluate(WIDEST) == []
    chosen = shown.page.get_by_role("combobox", name="View")
    assert chosen.evaluate("(e) => e.value") == VIEWS[view]
    chosen.select_option("Sequences")
    shown.goes_to("view=sequences")
    titles = shown.page.locator(".tabulator-col-title:visible")
    widest = "Reference" if view == "image" else "Text"
    shown.assert_until(lambda: titles.all_inner_texts(), lambda found: found[:3] == ["#", "Tokens", widest])


def test_on_a_phone_controls_are_folded(shown, server):
    shown.page.set_viewport_size({"width": 390, "height": 844})
    shown.open(at(server, "sentence"))
    shown.rest()
    matrix, more = (
        shown.page.get_by_role("button", name="Matrix"),
        shown.page.get_by_role("button", name="More controls"),
    )
    assert not matrix.is_visible()
    shown.page.locator(".fold:visible button").click()
    matrix.wait_for(state="visible")
    assert more.locator("visible=true").get_attribute("aria-expanded") == "true"
