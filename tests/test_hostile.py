"""Whatever a run holds is shown as text, and whatever it lacks is a sentence: never code that runs, never a traceback."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import panel as pn
import pytest
from click.testing import CliRunner

import attnviz
from attnviz.cli import cli
from attnviz.errors import AttnvizError, DatasetError
from attnviz.explorer import Explorer
from attnviz.explorer.app import VIEWS
from attnviz.explorer.follow import attempt
from attnviz.plots.raster import Window
from attnviz.views import colorings
from tests import fakes
from tests.hostile import FLAG, TEXTS, pieces, truncated, without, write_hostile_run
from tests.pace import some

KNOWN = {"p", "span", "b", "i", "em", "div", "h1", "h2", "h3", "br", "table", "tr", "td", "th", "thead", "tbody"}
KNOWN |= {"button", "label", "kbd", "dl", "dt", "dd", "ul", "ol", "li", "a", "strong", "small", "code", "mark", "hr"}


class Elements(HTMLParser):
    """Collects what a browser would make of a text."""

    def __init__(self):
        super().__init__()
        self.bad = []

    def handle_starttag(self, tag, attributes):
        named = [
            name for name, value in attributes if name.startswith("on") or (FLAG in (value or "") and name != "title")
        ]
        if tag not in KNOWN or named:
            self.bad.append((tag, attributes))


def bad_elements(html):
    found = Elements()
    found.feed(html)
    return found.bad


def written_html(explorer):
    """Everything that the explorer gives a browser as HTML."""
    page = explorer.__panel__()
    for pane in page.select(pn.pane.HTML):
        yield str(pane.object or "")
    for pane in page.select(pn.pane.Markdown):
        pytest.fail(f"Markdown shows {pane.object!r}: it makes HTML of what looks like HTML")


@pytest.fixture(scope="module", params=["text", "image"])
def hostile(request, tmp_path_factory):
    return write_hostile_run(tmp_path_factory.mktemp("hostile") / "run", image=request.param == "image")


def draw(shown):
    if shown._wires is not None:
        shown._wires.window = Window(-0.6, 0.6, -0.6, 0.6, 300, 300)
        shown._draw(shown._wires.window)


@pytest.mark.parametrize("view", VIEWS)
def test_every_text_of_a_run_is_shown_as_text(hostile, view):
    explorer = Explorer([hostile])
    state = explorer.state
    state.restore(f"?view={view}&layer=1&head=2&token=3&search=%3Cscript%3E")
    for color in list(colorings(state.directory))[-4:]:  # hostile columns
        state.color = color
        draw(explorer._views[view])
        state.select(7, "key")
        for html in written_html(explorer):
            assert bad_elements(html) == []
        assert state.problem == ""


def test_titles_and_sentences_of_a_run_stay_short(hostile):
    explorer = Explorer([hostile])
    explorer.state.restore("?view=head&layer=1&head=2&token=3")
    for html in written_html(explorer):
        assert not re.search(r"(long){20}|n{200}|m{200}", re.sub(r'title="[^"]*"', "", html)), html[:300]


def test_pages_to_keep_hold_hostile_texts_as_data(hostile):
    run = attnviz.open(hostile)
    for page in (
        run.head(1, 2).view(token=3, color=f"data:{TEXTS[1]}"),
        run.view(color=f"data:{TEXTS[1]}"),
        run.sequence_view(4),
    ):
        assert page.html.count("</script>") == page.html.count("<script")
        assert bad_elements(re.search(r"<h1>.*(?=<div id)", page.html, re.S)[0]) == []
        assert bad_elements(page._repr_html_().replace("<iframe", "<p").replace("srcdoc", "title")) == []
        assert len(page.html.encode()) < 5_000_000


def test_the_command_line_shows_hostile_names(hostile, tmp_path):
    for command in (["info", str(hostile)], ["export", str(hostile), "--out", str(tmp_path / "x.csv")]):
        done = CliRunner().invoke(cli, command)
        assert done.exception is None or isinstance(done.exception, AttnvizError)


CHANGES = {  # what a visitor does in a view: parts of an address, one after the other
    "all": (
        "map=pca",
        "map=umap&color=neighbors_kept",
        "color=norm&order=map:attention_recall",
        "search=cat&where=sequences",
    ),
    "head": ("map=pca&layer=1&head=1&token=4", "map=umap&color=neighbors_kept", "compare=pca&size_by_norm=true"),
    "model": ("sequence=2",),
    "neuron": ("layer=1&head=1&token=4",),
    "sentence": ("layer=1&sequence=2&sentence_form=matrix&sentence_values=true", "sentence_scope=mean"),
}
NEEDED = {  # of each view: nothing can be shown without it
    "all": ("tokens", "sequences", "maps", "scores"),
    "head": ("tokens", "sequences", "maps", "scores", "vectors"),
    "model": ("tokens", "sequences", "vectors"),
    "neuron": ("tokens", "sequences", "vectors"),
    "sentence": ("tokens", "sequences", "vectors"),
    "sequences": ("tokens", "sequences"),
}
PIECES = {  # one of each kind
    "tokens": "tokens.parquet",
    "sequences": "sequences.parquet",
    "heads": "heads.parquet",
    "recipe": "recipe.toml",
    "vectors": "vectors/layer=1/shard-00000.parquet",
    "maps": "maps/pca/layer=1/part-0.parquet",
    "a map's manifest": "maps/pca/_map.json",
    "scores": "scores/map=pca/layer=1/part-0.parquet",
    "faithfulness": "faithfulness/map=umap/layer=1/part-0.parquet",
    "terms": "terms/layer=5/part-0.parquet",
    "pictures": "media/images.parquet",
}


KINDS = ("text", "image", "pair")
LACKING = {"text": ("terms", "pictures"), "image": ("terms",), "pair": ("pictures",)}  # what such runs do not have
BROKEN = [(kind, piece) for kind in KINDS for piece in PIECES if piece not in LACKING[kind]]
FIRST = [next(broken for broken in BROKEN if broken[1] == piece) for piece in PIECES]  # each piece in one kind of run


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """Two runs alike: one to break, one that stays healthy."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("whole", "healthy"):
        if request.param == "pair":
            fakes.write_fake_streams(folder / name, "pair", sink=True)
        else:
            fakes.write_fake_run(folder / name, image=request.param == "image", maps=("pca", "umap"))
    return folder / "whole"


def look(explorer, view):
    """Do in a view what a visitor does; return the sentences about the run that were shown."""
    state, told = explorer.state, []
    shown = explorer._views[view]
    for change in CHANGES.get(view, ("sequence=0",)):
        state.restore(f"?{change}")
        attempt(state, act=lambda: draw(shown))  # as the page's handlers do
        assert explorer._plates[view].visible != bool(state.problem)
        assert explorer._banner.visible == bool(state.problem)
        assert state.problem in unescape(explorer._banner.object)
        told += [state.problem, *[unescape(html) for html in written_html(explorer)]]
    told = [sentence for sentence in told if re.search("missing|damaged|no complete map", sentence)]
    assert "Traceback" not in "".join(told)
    return told


def offered(explorer, run):
    explorer.state.restore(f"?run={run}")
    return list(explorer.state.param.view.objects.values())


def test_a_whole_run_is_shown_in_every_view(whole):
    explorer = Explorer([whole])
    for view in offered(explorer, "whole"):
        explorer.state.restore(f"?view={view}")
        assert look(explorer, view) == []


def looked_at(views, piece):
    """The views that need a piece, and two that do not, others for each piece."""
    idle = [view for view in views if piece not in NEEDED.get(view, ())]
    turn = list(PIECES).index(piece)
    return [
        view for view in views if view not in idle or idle.index(view) in {turn % len(idle), (turn + 3) % len(idle)}
    ]


@pytest.mark.parametrize("every", some([True, False], False), ids=["every view", "some views"])
@pytest.mark.parametrize("how", some([without, truncated], without))
@pytest.mark.parametrize(("whole", "piece"), some(BROKEN, *FIRST), indirect=["whole"])
def test_a_run_with_a_piece_missing_is_shown_or_refused_with_a_sentence(whole, piece, how, every, tmp_path):
    assert Path(PIECES[piece]) in pieces(whole)
    broken = how(whole, PIECES[piece], tmp_path / "broken")
    explorer = Explorer([whole.with_name("healthy"), broken])
    state = explorer.state
    views = offered(explorer, "healthy")
    for view in views if every else looked_at(views, piece):
        state.restore("?run=whole")
        state.restore(f"?view={view}")
        told = look(explorer, view)
        if piece in NEEDED.get(view, ()):
            assert told, f"{view}: {piece} is broken and nothing is said"
        state.restore(f"?run=healthy&view={view}&map=pca&color=kind&layer=1&head=1&token=4")
        attempt(state, act=lambda shown=explorer._views[view]: draw(shown))
        assert (view, state.view, state.problem) == (view, view, "")
        assert explorer._plates[view].visible
        assert not explorer._banner.visible
        assert explorer._views[view].summary()


@pytest.mark.parametrize("piece", ["tokens.parquet", "sequences.parquet"])
def test_a_page_opens_on_the_first_run_that_can_be_read(whole, piece, tmp_path):
    broken = without(whole, piece, tmp_path / "broken")
    explorer = Explorer([broken, whole.with_name("healthy")])
    state = explorer.state
    assert (state.run, state.problem) == ("healthy", "")
    state.run = "whole"
    assert piece in state.problem
    assert piece in unescape(explorer._banner.object)
    state.layer = 1  # what is wrong with the run stays
    state.order = ""
    assert piece in state.problem
    state.run = "healthy"
    assert (state.problem, explorer._banner.visible) == ("", False)
    with pytest.raises(DatasetError, match=re.escape(piece)):
        Explorer([broken])


@pytest.mark.parametrize("how", [without, truncated])
def test_a_run_without_its_manifest_is_refused_with_a_sentence(whole, how, tmp_path):
    with pytest.raises(DatasetError, match=r"(?s)manifest.*[.`]$"):
        Explorer([how(whole, "manifest.json", tmp_path / "broken")])
