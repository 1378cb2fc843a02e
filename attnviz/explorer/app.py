"""The explorer: a top bar, a side bar, and one of the views of ``VIEWS``.

A view is a ``View`` in a file of its own; adding one is that file, a name among the choices of
``State.view`` and a line in ``VIEWS``.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import panel as pn
from panel.viewable import Viewer

from attnviz.explorer import library, markup
from attnviz.explorer.beside import Beside
from attnviz.explorer.controls import box, button, segments
from attnviz.explorer.follow import attempt, follow
from attnviz.explorer.guard import sentence as sentence_of
from attnviz.explorer.head import OneHead
from attnviz.explorer.help_panel import HelpPanel
from attnviz.explorer.image_view import ImageView
from attnviz.explorer.library import open_runs
from attnviz.explorer.model_view import ModelView
from attnviz.explorer.neuron_view import NeuronView
from attnviz.explorer.notebook import framed, in_cell, keep_inline
from attnviz.explorer.notices import Notices
from attnviz.explorer.page import Page
from attnviz.explorer.saver import pages, saver
from attnviz.explorer.sequence_view import SentenceView
from attnviz.explorer.sequences_view import SequenceTable
from attnviz.explorer.sidebar import Sidebar
from attnviz.explorer.state import State
from attnviz.explorer.style import colors, sheet
from attnviz.explorer.view import View
from attnviz.explorer.wall import AllHeads
from attnviz.plots.theme import THEMES
from attnviz.store import RunDirectory
from attnviz.views import layer_name, score_phrases, show_text

__all__ = ["VIEWS", "Explorer"]

VIEWS: dict[str, type[View]] = {
    "all": AllHeads,
    "head": OneHead,
    "sentence": SentenceView,
    "image": ImageView,
    "model": ModelView,
    "neuron": NeuronView,
    "sequences": SequenceTable,
}
"""The views by the name they have in ``State.view``."""

STEPS = {"ArrowLeft": (0, -1), "ArrowRight": (0, 1), "ArrowUp": (-1, 0), "ArrowDown": (1, 0)}
MOVES = {"←": "Previous head", "→": "Next head", "↑": "Layer above", "↓": "Layer below"}
LOOKS = 5000  # milliseconds between two looks at the files of the run, on a page at which nobody does anything
DRAGS = {"m": "move", "b": "box", "l": "lasso"}


class _Views(dict[str, View]):
    """The views of a session that somebody has looked at. Making them all took a tenth of the server's time for a page."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    def __missing__(self, name: str) -> View:
        self._state.guard.run(self.make, name)
        return self.get(name) or _NoView(self._state)

    def make(self, name: str) -> None:
        """Make a view anew."""
        self[name] = VIEWS[name](self._state)


class _NoView(View):
    """In place of a view that could not be made; it is tried again at the next change."""

    def summary(self) -> str:
        return ""


class Explorer(Viewer):  # type: ignore[misc]  # panel publishes no usable types
    """The whole page.

    Parameters
    ----------
    runs
        Run directories, opened or not, or opened ones by the names that addresses give them. Nothing else can be opened from the
        page.

    Raises
    ------
    DatasetError
        If a run cannot be opened.
    """

    place = "the page"

    def __init__(self, runs: Sequence[RunDirectory | str | Path] | Mapping[str, RunDirectory]) -> None:
        super().__init__()
        self._demand: Callable[[], None] | None = None
        self.state = State(runs if isinstance(runs, Mapping) else open_runs(runs))
        page = pn.state.curdoc
        self._served = page is not None and page.session_context is not None
        self._notices, self._told = Notices(), dict[str, list[tuple[str, str, str]]]()
        self._guard_session()
        self._in_cell = in_cell()
        self._sync_address()
        guard = self.state.guard
        self._page = Page(
            key=guard(self._press),
            back=guard(self.state.return_to),
            in_cell=self._in_cell,
            css_classes=["page"],
            stylesheets=sheet(),
        )
        self._sidebar = Sidebar(self.state)
        self._views = _Views(self.state)
        self._build()
        told = [*State.ADDRESS, "problem", "selection"]
        follow(self.state, told, act=self._look_at_run)
        self._demand = follow(self.state, told, act=self._show, last=True)
        if page is not None and self._served:
            page.add_periodic_callback(guard(self._look_at_run), LOOKS)  # ends with the session
        for part in (*self._parts, self._add_beside, self._views.make):
            self.state.guard.repeat(part, self._demand)
        attempt(self.state, act=self._show)

    def __panel__(self) -> pn.viewable.Viewable:
        """Return the page."""
        return self._root

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        """Return what a notebook shows."""
        bundle = framed(super()._repr_mimebundle_(include, exclude), self.state.run)
        keep_inline(self._root)
        return bundle

    def save(self, path: str | Path) -> Path:
        """Write the head that is shown as one HTML file that needs no server. Raises ``DatasetError`` if none is open."""
        return pages(self.state)("head").save(path)

    def _build(self) -> None:
        self._brand, self._title, self._chips, self._summary = (
            _html(n) for n in ("brand", "title", "chips", "summary")
        )
        self._banner = pn.pane.HTML("", css_classes=["banner"], stylesheets=sheet(), visible=False)
        self._plates = {name: box("plate framed" if view.framed else "plate") for name, view in VIEWS.items()}
        self._beside: pn.viewable.Viewable | None = None
        self._stage = box("stage", self._banner, *self._plates.values())
        moves = zip(MOVES.items(), STEPS.values(), strict=True)
        guard = self.state.guard
        arrows = [
            button(sign, guard(self._mover(step)), f"{name}, or the arrow key.", label=name)
            for (sign, name), step in moves
        ]
        self._moves = box("moves", *arrows)
        main = box("main", self._head_line(), self._notices, self._stage, self._summary)
        self._body = box("body", self._sidebar, main)
        self._root = box("av", self._top(), self._body, self._page)
        self._root.stylesheets = [colors(), *sheet()]

    def _top(self) -> pn.viewable.Viewable:
        tabs = segments(self.state, "view", titled=False, tabs=True)
        guard = self.state.guard
        self._menu = button(
            "☰", guard(self._toggle_side), "Run, map, colours, search.", "menu", label="Options and legend"
        )
        self._toggle = button("", guard(self._switch_theme), "Change between light and dark.", "theme")
        return box("top", self._menu, self._brand, tabs, self._toggle, HelpPanel(self.state, in_cell=self._in_cell))

    def _head_line(self) -> pn.viewable.Viewable:
        guard = self.state.guard
        fit = button("Reset view", guard(self._fit), "Show everything again.")
        self._clear = button("Clear selection", guard(self.state.clear), "Select nothing: neither a token nor points.")
        self._saver = saver(self.state, lambda: self._views[self.state.view].swatches(), in_cell=self._in_cell)
        return box("head-line", self._moves, self._title, self._chips, self._clear, fit, self._saver)

    def _mover(self, step: tuple[int, int]) -> Callable[[], None]:
        return lambda: self.state.step(*step)

    def _press(self, key: str) -> None:
        if self._views[self.state.view].press(key):
            return
        if key == "Escape":
            nothing = self.state.token is None and not len(self.state.selected)
            self.state.param.update(view="all") if nothing else self.state.clear()
        elif key in STEPS:
            if self.state.view in ("head", "neuron", "image"):
                self.state.step(*STEPS[key])
        elif key in ("0", "Home"):
            self._fit()
        elif key == "t":
            self._switch_theme()
        elif key in DRAGS:
            self.state.drag = DRAGS[key]
        elif (
            len(key) == 1 and key.isdecimal() and int(key) <= len(views := list(self.state.param.view.objects.values()))
        ):
            self.state.view = views[int(key) - 1]

    def _fit(self) -> None:
        self._views[self.state.view].fit()

    def _toggle_side(self) -> None:
        self._menu.expanded = self._sidebar.toggle()

    def _switch_theme(self) -> None:
        self.state.theme = "dark" if self.state.theme == "light" else "light"

    def _show(self) -> None:
        """Bring everything that is not a picture up to date: each part by itself, so that one may fail."""
        for part in self._parts:
            self.state.guard.run(part)

    @property
    def _parts(self) -> list[Callable[[], None]]:
        return [self._show_frame, self._show_stage, self._show_title, self._show_chips, self._show_summary]

    def _show_frame(self) -> None:
        state = self.state
        self._root.css_classes = ["av", state.theme, *(["in-cell"] if self._in_cell else [])]
        self._toggle.text = "Dark" if state.theme == "light" else "Light"
        self._brand.object = markup.brand(state.directory)
        self._moves.visible = state.view in ("head", "neuron", "image")
        self._clear.idle = state.token is None and not len(state.selected)

    def _show_title(self) -> None:
        self._title.object = markup.heading(*self._heading())

    def _show_chips(self) -> None:
        self._chips.object = markup.chips(self._scores()) if self.state.view == "head" else ""

    def _show_summary(self) -> None:
        state = self.state
        summary = self._views[state.view].summary()
        self._summary.object = markup.line(summary)
        self._page.param.update(paper=THEMES[state.theme].page, summary=summary)
        theme = THEMES[state.theme]
        self._saver.param.update(
            paper=theme.page, ink=theme.ink, muted=theme.muted, summary=summary, name_of=self._file_name()
        )

    def _file_name(self) -> str:
        """Return what a saved picture is called."""
        place = f"layer{self.state.layer}-head{self.state.head}" if self.state.view == "head" else self.state.view
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.state.run)[:80]
        return f"{name}-{place}"

    def _show_stage(self) -> None:
        """Show the open view, or why there is nothing to see; a picture that could not be brought up to date is no picture."""
        state = self.state
        view = self._views[state.view]
        sentence = state.problem
        if state.map is None and not sentence and VIEWS[state.view].of_map:
            sentence = (
                f"Run {state.run} has no complete map yet, so there is nothing to see. Make one with `attnviz project`."
            )
        self._banner.object = markup.note(sentence)
        self._banner.visible = bool(sentence)
        for name, plate in self._plates.items():
            if not sentence and name == state.view and name in self._views and not len(plate):
                plate.append(view)  # what nobody has looked at is neither sent nor laid out
            plate.visible = not sentence and name == state.view and not state.guard.has_failed(view)
        split = not sentence and state.view == "head"
        if split and self._beside is None:
            state.guard.run(self._add_beside)
        if self._beside is not None:
            self._beside.visible = split
        self._stage.css_classes = ["stage", "split"] if split else ["stage"]

    def _add_beside(self) -> None:
        self._beside = Beside(self.state).__panel__()
        self._stage.append(self._beside)

    def _heading(self) -> tuple[str, str]:
        state = self.state
        view = self._views[state.view]
        if isinstance(view, SentenceView | ImageView):
            return view.heading()
        if isinstance(view, _NoView):
            return next(title for title, name in state.param.view.objects.items() if name == state.view), ""
        if state.view == "model":
            return "Model", "Layers down, heads across: where each head looks in one sequence. Click a head to open it."
        if state.view in ("head", "neuron"):
            return f"{layer_name(state.directory.layers[state.layer])} · Head {state.head}", ""
        if state.view == "sequences":
            return "Sequences", "Click a sequence to open it. Click a column's title to sort."
        if state.local:
            return (
                "All heads",
                "Every tile shows the same part of its head. Drag and scroll inside one, click to open it.",
            )
        if state.order:
            return "All heads", "In the order of the chosen number, row by row. Click a head to open it."
        return "All heads", "Layers down, heads across. Drag and scroll to move, click a head to open it."

    def _scores(self) -> list[str]:
        state = self.state
        if state.map is None or state.problem:
            return []
        return score_phrases(library.scores(state.directory, state.map), state.layer, state.head)

    def _guard_session(self) -> None:
        """Let faults be told on the page, those too that Panel itself meets in this session."""
        self.state.guard.tell = self._tell_faults
        if self._served:  # elsewhere it would be everybody's
            pn.config.exception_handler = self.state.guard.catch

    def _tell_faults(self) -> None:
        faults = self.state.guard.faults
        details = "\n\n".join(fault.details for fault in faults)
        self._told["fault"] = [(sentence_of(faults), "copy", details)] if faults else []
        self._tell_notices()
        if self._demand is not None:
            self._demand()

    def _look_at_run(self) -> None:
        """Say so if the run is another by now, at once where something could not be read."""
        sentence = self.state.changes.look(now=bool(self.state.problem))
        self._told["change"] = [(sentence, "reload" if self._served else "", "")] if sentence else []
        self._tell_notices()

    def _tell_notices(self) -> None:
        notices = [notice for kind in ("address", "change", "fault") for notice in self._told.get(kind, [])]
        if notices != self._notices.notices:
            self._notices.notices = notices

    def _sync_address(self) -> None:
        """Take the state from the address, and keep the address up to date from then on."""
        location = None if self._in_cell else pn.state.location  # a notebook's address is the notebook's
        if location is None:
            return
        asked = parse_qs(location.search.removeprefix("?"), keep_blank_values=True)
        refused = self.state.restore(location.search)
        location.search = self.state.address()
        self._told["address"] = [(said, "", "")] if (said := _not_here(refused, asked, self.state.run)) else []
        self._tell_notices()

        def tell() -> None:
            location.search = self.state.address()
            self._told["address"] = []
            self._tell_notices()

        follow(self.state, State.ADDRESS, act=tell)


def _not_here(refused: Sequence[str], asked: Mapping[str, Sequence[str]], run: str) -> str:
    """Return the sentence for what an address asks for and does not get; an empty one where it gets all."""
    if not refused:
        return ""
    lacking = ", ".join(f"{name} “{show_text(asked[name][0], longest=40)}”" for name in refused)
    shown = f" Run {show_text(run, longest=40)} is shown instead." if "run" in refused else ""
    return f"The address asks for what is not here: {lacking}.{shown}"


def _html(name: str) -> pn.pane.HTML:
    return pn.pane.HTML("", css_classes=[name], stylesheets=sheet(), margin=0)
