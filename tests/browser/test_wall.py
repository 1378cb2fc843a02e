"""The wall, the legend, the search and the table of sequences, clicked through and read back."""

import pytest

from attnviz.store import RunDirectory


@pytest.fixture(scope="module")
def text_run(runs):
    return RunDirectory(runs["text"])


def side(shown):
    """The text of the side bar."""
    return shown.text(".side")


def test_heads_are_ordered_by_a_number_and_open_where_they_lie(shown, server, text_run):
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    shown.page.get_by_label("Order of heads").select_option(label="Most faithful: attention recall")
    shown.assert_until(lambda: shown.page.url, lambda url: "order=map%3Aattention_recall" in url or "order=map:" in url)
    shown.assert_until(lambda: shown.text(".summary"), lambda text: "highest attention recall first" in text)
    numbers = text_run.scores("pca")["attention_recall"].sort_values(ascending=False)
    shown.page.locator(".tick", has_text="Lowest first").locator("input").click()
    shown.assert_until(lambda: shown.text(".summary"), lambda text: "lowest attention recall first" in text)
    shown.painted("wall-image")
    layer, head = numbers.index[-2]
    shown.page.mouse.click(*shown.at("wall", 1.5, -0.5))
    shown.assert_until(lambda: shown.page.url, lambda url: f"view=head&layer={layer}&head={head}" in url)


def test_an_entry_of_the_legend_hides_its_points_by_mouse_and_by_keyboard(shown, server):
    shown.open(f"{server}?run=text&map=pca&color=special").painted("wall-image")
    entry = shown.page.get_by_role("button", name="special")
    assert entry.get_attribute("aria-pressed") == "true"

    def assert_pressed(pressed):
        shown.assert_until(lambda: entry.get_attribute("aria-pressed"), lambda seen: seen == pressed)
        shown.assert_until(lambda: "hidden=" in shown.page.url, lambda hidden: hidden == (pressed == "false"))

    entry.click()
    assert_pressed("false")
    entry.focus()
    shown.page.keyboard.press("Enter")
    assert_pressed("true")
    shown.page.keyboard.press("Enter")  # the focus stayed where it was
    assert_pressed("false")


def summed(shown, queries, keys=None):
    """Wait until the summary says how many queries and keys each head shows."""
    sentence = f"in each {queries:,} queries and {queries if keys is None else keys:,} keys"
    shown.assert_until(lambda: shown.text(".summary"), lambda text: sentence in text)


def test_the_summary_counts_what_is_shown_after_each_change(shown, server, text_run):
    tokens = text_run.tokens
    every, special, punctuation = len(tokens), tokens["is_special"].sum(), tokens["text"].isin([",", "."]).sum()
    shown.open(f"{server}?run=text&map=pca&color=special").painted("wall-image")
    summed(shown, every)
    shown.page.get_by_role("button", name="special").click()
    summed(shown, every - special)
    shown.page.get_by_role("button", name="punctuation").click()
    summed(shown, every - special - punctuation)
    shown.page.get_by_role("button", name="special").click()
    summed(shown, every - punctuation)
    shown.page.get_by_label("Hide special tokens").click()
    summed(shown, every - special - punctuation)
    shown.page.get_by_label("Hide special tokens").click()
    summed(shown, every - punctuation)
    shown.page.get_by_role("button", name="Keys", exact=True).click()
    summed(shown, 0, every - punctuation)
    shown.page.get_by_role("button", name="Both", exact=True).click()
    summed(shown, every - punctuation)
    assert shown.text(".summary").endswith("coloured by special / punctuation. Bars show trustworthiness.")


@pytest.mark.slow
def test_the_summary_follows_to_another_run_though_a_token_was_chosen(shown, server, text_run):
    shown.open(f"{server}?run=text&map=pca&token=3").painted("wall-image")
    summed(shown, len(text_run.tokens))
    shown.page.get_by_label("Run", exact=True).select_option("pair")
    shown.assert_until(lambda: "run=pair" in shown.page.url, bool)
    shown.assert_until(
        lambda: shown.text(".summary"), lambda text: "in each" in text and f"{len(text_run.tokens)} q" not in text
    )


@pytest.mark.slow
def test_a_tile_tells_how_faithful_the_map_is_to_its_head(shown, server, text_run):
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    trust = float(text_run.scores("pca").loc[(1, 2), "trustworthiness"])
    for y in (-1.03, -1.96):  # its heading, its bar
        shown.page.mouse.move(*shown.at("wall", 2.3, y))
        told = shown.assert_until(lambda: shown.data("tip", "text"), bool)[0]
        assert f"trustworthiness {trust:.2f}" in told
        assert "Layer 1 · Head 2" in told
        shown.page.mouse.move(*shown.at("wall", 2.3, 0.03))
        shown.assert_until(lambda: shown.data("tip", "text"), lambda text: not text)


@pytest.mark.slow
def test_a_pattern_is_searched_in_tokens_and_labels_and_a_bad_one_is_said(shown, server, text_run):
    shown.open(f"{server}?run=text&map=pca&search=^s.*n$&how=regex").painted("wall-image")
    count = int(text_run.tokens["text"].str.contains("^s.*n$").sum())
    shown.assert_until(
        lambda: side(shown), lambda text: f"{count} queries and {count} keys match, in every head" in text
    )
    assert count > 0
    field = shown.page.get_by_placeholder("token…")
    field.fill("[s")
    field.press("Enter")
    shown.assert_until(lambda: side(shown), lambda text: "is no regular expression: missing ]" in text)
    shown.page.get_by_label("Search in").select_option("labels")
    field.fill("label [01]")
    field.press("Enter")
    of_labels = text_run.sequences["label"].isin(["label 0", "label 1"])
    tokens, sequences = int(text_run.sequences["num_tokens"][of_labels].sum()), int(of_labels.sum())
    sentence = f"{tokens} queries and {tokens} keys match, in every head. They are of {sequences} sequences."
    shown.assert_until(lambda: side(shown), lambda text: sentence in text)


def test_scrolling_far_into_a_tile_opens_its_head_at_that_place(shown, server):
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    shown.page.mouse.move(*shown.at("wall", 2.6, -1.4))
    for _ in range(60):
        if "view=head" in shown.page.url:
            break
        shown.page.mouse.wheel(0, -240)
        shown.page.wait_for_timeout(120)
    shown.assert_until(lambda: shown.page.url, lambda url: "view=head&layer=1&head=2" in url)
    shown.painted("dots")

    def reach():
        (x0, _), (x1, _) = shown.at("head", -0.5, 0), shown.at("head", 0.5, 0)
        frame = shown.page.viewport_size["width"]
        return (x1 - x0) / frame

    shown.assert_until(reach, lambda share: share > 0.6)  # as near as the wall was, not the whole head
    shown.page.get_by_role("tab", name="All heads").click()
    shown.rest()
    assert "view=head" not in shown.page.url


def test_one_window_moves_in_all_tiles(shown, server):
    shown.open(f"{server}?run=text&map=pca&local=true").painted("wall-image")
    wide = shown.data("wall-image", "dw")[0]
    shown.page.mouse.move(*shown.at("wall", 0.6, -0.4))
    for _ in range(6):
        shown.page.mouse.wheel(0, -240)
        shown.page.wait_for_timeout(80)
    shown.assert_until(lambda: shown.page.url, lambda url: "near_zoom=" in url)
    zoomed = shown.page.url
    assert "near_x=0." in zoomed
    assert shown.data("wall-image", "dw")[0] == pytest.approx(wide)
    shown.page.mouse.down()
    shown.page.mouse.move(*shown.at("wall", 0.9, -0.4), steps=5)
    shown.page.mouse.up()
    shown.assert_until(lambda: shown.page.url, lambda url: url != zoomed)
    shown.page.get_by_role("button", name="Reset view").click()
    shown.assert_until(lambda: shown.page.url, lambda url: "near_" not in url)


def test_a_tooltip_does_not_outlast_the_pointer(shown, server):
    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    x, y = shown.at("wall", 0.6, -0.4)
    shown.page.mouse.move(x, y)
    shown.assert_until(lambda: shown.data("tip", "text"), bool)
    for pause in (30, 60, 90, 150):
        shown.page.mouse.move(x, y)
        shown.page.mouse.move(x + 3, y)
        shown.page.wait_for_timeout(pause)
        shown.page.mouse.move(x + 5, y)
        shown.page.mouse.move(30, 400)
        shown.page.wait_for_timeout(600)  # what is still on its way
        assert not shown.data("tip", "text")


@pytest.mark.slow
def test_a_sequence_is_found_in_the_table_and_opened(shown, server, text_run):
    shown.open(f"{server}?run=text&map=pca&view=sequences")
    field = shown.page.get_by_placeholder("text, reference, label…")
    field.fill("fake:17")
    field.press("Enter")
    shown.assert_until(lambda: shown.text(".summary"), lambda text: text.startswith("1 of 30 sequences"))
    shown.page.locator(".tabulator-cell", has_text="fake:17").click()
    token = text_run.token_slice(17).start
    shown.assert_until(lambda: shown.page.url, lambda url: f"token={token}" in url and "view=head" in url)


@pytest.mark.slow
def test_the_table_sorts_over_all_pages(shown, server, text_run):
    shown.open(f"{server}?run=text&map=pca&view=sequences")
    shown.page.locator(".tabulator-col", has_text="Tokens").click()
    least = int(text_run.sequences["num_tokens"].min())
    cell = (
        shown.page.locator(".tabulator-row").first.locator(".tabulator-cell").nth(2)
    )  # before it: an index that is not shown, #
    shown.assert_until(lambda: cell.inner_text(), lambda text: text == str(least))
    first = int(shown.page.locator(".tabulator-row").first.locator(".tabulator-cell").nth(1).inner_text())
    shown.page.locator(".tabulator-row").first.click()
    token = text_run.token_slice(first).start
    shown.assert_until(lambda: shown.page.url, lambda url: f"token={token}&" in url + "&")


def test_the_table_shows_hostile_labels_as_they_are(shown, server):
    shown.open(f"{server}?run=hostile&map=pca&view=sequences")
    shown.page.locator(".tabulator-cell", has_text="<script>window.hacked=1</script>").first.wait_for()
    assert shown.page.evaluate("window.hacked") is None


def test_a_cell_without_a_value_is_empty(shown, server):
    shown.open(f"{server}?run=unmapped&view=sequences")
    field = shown.page.locator(".tabulator-col", has_text="label").get_attribute("tabulator-field")
    prices = shown.page.locator(f'.tabulator-cell[tabulator-field="{field}"]')
    assert [text.strip() for text in prices.all_inner_texts()[:2]] == ["", "1.00"]


@pytest.mark.slow
def test_the_whole_wall_stays_in_sight_as_the_page_changes_its_size_until_one_moves_it(shown, server):
    limits = """() => { const {x_range, y_range} = [...Bokeh.documents[0]._all_models.values()].find((m) => m.name === 'wall')
      return [x_range.start, x_range.end, y_range.start, y_range.end] }"""

    def seen():
        return shown.page.evaluate(limits)

    shown.open(f"{server}?run=text&map=pca").painted("wall-image")
    for size in ((1000, 700), (1440, 500), (1440, 900)):
        shown.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
        shown.rest()
        x0, x1, y0, y1 = seen()
        assert x0 <= 0
        assert x1 >= 4
        assert y0 <= -3
        assert y1 >= 0
        assert min(x1 - x0 - 4, y1 - y0 - 3) < 0.3  # and it fills one side
    shown.page.mouse.move(*shown.at("wall", 1.5, -1.5))
    shown.page.mouse.wheel(0, -120)
    shown.assert_until(seen, lambda now: now[1] - now[0] < x1 - x0 - 0.1)
    shown.rest()
    unit = (seen()[1] - seen()[0]) / 1440
    shown.page.set_viewport_size({"width": 1240, "height": 900})
    shown.rest()
    assert (seen()[1] - seen()[0]) / 1240 < 1.2 * unit
