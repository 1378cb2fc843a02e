"""Draws on a head's map as a person would, and reads back what is selected."""

import numpy as np
import pandas as pd
import pytest

from attnviz.store import RunDirectory
from attnviz.views import prepare_wall
from tests.browser.conftest import HOSTILE


def takes(shown, tool):
    """Choose what a drag does, and wait until it does so: a busy server answers after the page has come to rest."""
    shown.page.get_by_role("button", name=tool, exact=True).click()
    code = (
        """() => [...Bokeh.documents[0]._all_models.values()].find((m) => m.name === "head").toolbar.active_drag.type"""
    )
    shown.assert_until(lambda: shown.page.evaluate(code), lambda kind: kind.startswith(tool))
    shown.rest()


def drag(shown, figure, corners):
    places = [shown.at(figure, *corner) for corner in corners]
    shown.page.mouse.move(*places[0])
    shown.page.mouse.down()
    for place in places[1:]:
        shown.page.mouse.move(*place, steps=6)
    shown.page.mouse.up()


def counted(shown, queries, keys):
    wanted = f"{queries:,} queries · {keys:,} keys"
    shown.assert_until(lambda: shown.text(".counted"), lambda text: wanted in text)


@pytest.fixture
def opened(shown, server, runs):
    """The page of a head, its run, and where the points lie."""
    run = RunDirectory(runs["text"])
    shown.open(f"{server}?run=text&map=pca&view=head&layer=1&head=2").painted("dots")
    wall = prepare_wall(run, "pca")
    return shown, run, wall.points[wall.index(1, 2)]


def within(points, x0, x1, y0, y1):
    x, y = points.T
    return (x > x0) & (x < x1) & (y > y0) & (y < y1)


def test_a_box_selects_what_lies_in_it_shift_adds_and_escape_clears(opened):
    shown, run, points = opened
    takes(shown, "Box")
    drag(shown, "head", [(-0.2, 0.1), (0.05, -0.15)])
    inside = within(points, -0.2, 0.05, -0.15, 0.1)
    assert 5 < inside.sum() < len(points)
    counted(shown, inside[: run.num_tokens].sum(), inside[run.num_tokens :].sum())
    shown.page.keyboard.down("Shift")
    drag(shown, "head", [(0.06, 0.12), (0.2, -0.1)])
    shown.page.keyboard.up("Shift")
    both = inside | within(points, 0.06, 0.2, -0.1, 0.12)
    assert both.sum() > inside.sum()
    counted(shown, both[: run.num_tokens].sum(), both[run.num_tokens :].sum())
    with shown.page.expect_download() as waiting:
        shown.page.get_by_text("CSV", exact=True).click()
    table = pd.read_csv(waiting.value.path(), keep_default_na=False)
    rows = table["token"] + (table["kind"] == "key") * run.num_tokens
    np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(both))
    shown.page.keyboard.press("Escape")
    shown.assert_until(lambda: shown.page.locator(".counted").is_visible(), lambda visible: not visible)
    shown.goes_to("view=head")


def test_a_lasso_lights_its_points_on_the_wall_too(opened):
    shown, run, points = opened
    takes(shown, "Lasso")
    drag(shown, "head", [(-0.3, -0.3), (0.3, -0.3), (0.3, 0), (-0.3, 0)])
    inside = within(points, -0.3, 0.3, -0.3, 0)
    counted(shown, inside[: run.num_tokens].sum(), inside[run.num_tokens :].sum())
    grey = shown.assert_until(lambda: shown.data("dots", "color"), lambda colors: "#9e9e9e" in colors)
    assert len(grey) - grey.count("#9e9e9e") == inside.sum()


@pytest.mark.slow
def test_a_second_map_lights_the_point_under_the_pointer(opened, server):
    shown, _, points = opened
    shown.open(f"{server}?run=text&map=pca&compare=umap&view=head&layer=1&head=2").painted("dots")
    shown.rest()
    lit = """() => [...Bokeh.documents[0]._all_models.values()].filter((m) => m.name === 'lit').map((m) => {
      const data = m.data instanceof Map ? Object.fromEntries(m.data) : m.data
      return 'size' in data ? data.x.length : 0
    })"""
    shown.page.mouse.move(*shown.at("head", *points[0]))
    shown.assert_until(lambda: sum(shown.page.evaluate(lit)), lambda count: count == 2)


def test_hostile_tokens_of_a_selection_stay_text(shown, server):
    shown.open(f"{server}?run=hostile&map=pca&view=head&layer=0&head=1&token=2").painted("dots")
    takes(shown, "Box")
    drag(shown, "head", [(-0.49, 0.49), (0.49, -0.49)])
    shown.assert_until(lambda: shown.text(".counted"), lambda text: "points selected" in text)
    shown.assert_until(lambda: shown.text(".table.low"), lambda text: "token" in text and "query" in text)
    assert "<script>" in shown.text(".beside")
    assert len(HOSTILE) == 5
    assert shown.page.evaluate("window.hacked") is None
