"""The controls: a switch, a choice, fields and buttons, each with a name, a sentence of help and a place for both.

Panel's check box, group of buttons and button do not tell their name, or which of them is chosen, to who cannot see them; so these
are made here. What is made from a parameter of ``State`` has its label for a name and its doc for help.
"""

from html import escape
from typing import Any

import panel as pn
import param
from panel.widgets.base import WidgetBase

from attnviz.explorer.acts import soon
from attnviz.explorer.guard import Guarded
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet

__all__ = ["Press", "Segments", "Tick", "box", "button", "field", "foldable", "labelled", "segments", "tick"]

SEGMENTS = """
export function render({model}) {
  const outer = document.createElement('div')
  const title = document.createElement('div')
  const box = document.createElement('div')
  const list = document.createElement('select')
  const tabs = model.tabs
  const name = () => {
    box.title = model.description
    box.setAttribute('aria-label', model.label)
    box.setAttribute('aria-description', model.description)
  }
  const send = (place) => model.send_msg(place)
  const mark = () => {
    const buttons = [...box.children]
    buttons.forEach((button, place) => button.setAttribute(tabs ? 'aria-selected' : 'aria-pressed', place === model.place))
    list.selectedIndex = model.place
    const chosen = buttons[model.place]
    if (tabs && chosen) box.scrollLeft = chosen.offsetLeft - (box.clientWidth - chosen.offsetWidth) / 2
  }
  const draw = () => {
    name()
    title.textContent = model.label
    title.title = box.title
    list.setAttribute('aria-label', model.label)
    box.replaceChildren(...model.names.map((text, place) => {
      const button = document.createElement('button')
      Object.assign(button, {type: 'button', textContent: text, onclick: () => send(place)})
      if (tabs) button.setAttribute('role', 'tab')
      return button
    }))
    list.replaceChildren(...model.names.map((text) => Object.assign(document.createElement('option'), {textContent: text})))
    mark()
  }
  outer.className = 'segmented'
  title.className = 'segments-title'
  box.className = 'choices'
  box.setAttribute('role', tabs ? 'tablist' : 'group')
  list.onchange = () => send(list.selectedIndex)
  model.on('names', draw)
  model.on('label', draw)
  model.on('place', mark)
  draw()
  if (model.titled) outer.append(title)
  outer.append(box)
  if (tabs) outer.append(list)
  return outer
}
"""
TICK = """
export function render({model}) {
  const box = document.createElement('label')
  const input = Object.assign(document.createElement('input'), {type: 'checkbox'})
  const text = document.createElement('span')
  const draw = () => {
    input.checked = model.value
    text.textContent = model.label
    box.title = model.description
    input.setAttribute('aria-description', model.description)
  }
  box.className = 'ticked'
  box.append(input, text)
  input.onchange = () => { model.value = input.checked }
  for (const name of ['value', 'label', 'description']) model.on(name, draw)
  draw()
  return box
}
"""
PRESS = """
export function render({model}) {
  const box = document.createElement('button')
  const draw = () => {
    Object.assign(box, {type: 'button', textContent: model.text, title: model.description, disabled: model.idle})
    box.setAttribute('aria-label', model.label || model.text)
    model.expanded == null ? box.removeAttribute('aria-expanded') : box.setAttribute('aria-expanded', model.expanded)
  }
  box.onclick = () => model.send_msg('press')
  for (const name of ['text', 'label', 'description', 'expanded', 'idle']) model.on(name, draw)
  draw()
  return box
}
"""


class Press(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """A button; ``act`` is called when it is pressed."""

    text = param.String(default="", doc="What stands on it")
    label = param.String(default="", doc="What it is called, where that is a sign")
    description = param.String(default="")
    expanded = param.Boolean(default=None, allow_None=True, doc="Whether what it opens is open")
    idle = param.Boolean(default=False, doc="Whether there is nothing to press it for")
    act = param.ClassSelector(class_=Guarded, default=None)

    _esm = PRESS
    _rename = {"act": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def _handle_msg(self, msg: Any) -> None:
        if self.act is not None:
            soon(self.act)


class Tick(pn.custom.JSComponent, WidgetBase):  # type: ignore[misc]  # panel publishes no usable types
    """A check box that is called what stands beside it."""

    value = param.Boolean(default=False)
    description = param.String(default="")

    _esm = TICK


class Segments(pn.custom.JSComponent, WidgetBase):  # type: ignore[misc]  # panel publishes no usable types
    """A few choices side by side; as ``tabs``, they become a list where the page is narrow."""

    value = param.Parameter()
    options = param.ClassSelector(class_=(dict, list), default={})
    description = param.String(default="")
    titled = param.Boolean(default=False, doc="Whether the name stands above the choices")
    tabs = param.Boolean(default=False)
    names = param.List(default=[])
    place = param.Integer(default=0)
    choose = param.ClassSelector(class_=Guarded, default=None, doc="Called with the value of what is clicked")

    _esm = SEGMENTS
    _rename = {"value": None, "options": None, "choose": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.param.watch(lambda *events: self._place(), ["value", "options"])
        self._place()

    @property
    def _choices(self) -> dict[str, Any]:
        return self.options if isinstance(self.options, dict) else {str(choice): choice for choice in self.options}

    def _place(self) -> None:
        values = list(self._choices.values())
        self.param.update(names=list(self._choices), place=values.index(self.value) if self.value in values else -1)

    def _handle_msg(self, msg: Any) -> None:
        values = list(self._choices.values())
        if self.choose is not None and isinstance(msg, int) and 0 <= msg < len(values):
            soon(self.choose, values[msg])


def tick(state: State, name: str, label: str = "") -> Tick:
    """Return the switch of a parameter."""
    named = {"label": label} if label else {}
    made: Tick = Tick.from_param(state.param[name], css_classes=["tick"], stylesheets=sheet(), margin=0, **named)
    return made


def segments(state: State, name: str, label: str = "", *, titled: bool = True, tabs: bool = False) -> Segments:
    """Return the choices of a parameter side by side."""
    named = {"label": label} if label else {}
    made: Segments = Segments.from_param(
        state.param[name],
        choose=state.guard(lambda value: setattr(state, name, value)),
        titled=titled,
        tabs=tabs,
        css_classes=["tabs"] if tabs else ["choice"],
        stylesheets=sheet(),
        margin=0,
        **named,
    )
    return made


def field(widget: type[pn.widgets.Widget], state: State, name: str, *classes: str, **options: Any) -> pn.widgets.Widget:
    """Return a field, list or slider of a parameter, its name above it; resting on the name reads the help."""
    return widget.from_param(
        state.param[name], css_classes=["field", *classes], stylesheets=sheet(), margin=0, **options
    )


def labelled(text: str, *items: object, description: str = "") -> pn.Column:
    """Return controls in a row, with what they are called above them."""
    title = f'<span title="{escape(description)}">{escape(text)}</span>'
    named = pn.pane.HTML(title, css_classes=["label"], stylesheets=sheet(), margin=0)
    return box("control", named, box("control-row", *items))


def foldable(state: State, name: str, first: list[Any], rest: list[Any]) -> pn.Column:
    """Return a bar of controls; on a phone the ``rest`` is seen once it is asked for."""
    for item in rest:
        item.css_classes = [*item.css_classes, "more"]

    def toggle() -> None:
        switch.expanded = not switch.expanded
        made.css_classes = [name, "open"] if switch.expanded else [name]
        switch.text = "Less" if switch.expanded else "More"

    switch = button(
        "More",
        state.guard(toggle),
        "Show the other controls of this view, or hide them.",
        "fold",
        label="More controls",
    )
    switch.expanded = False
    made = box(name, *first, switch, *rest)
    return made


def button(text: str, act: Guarded, description: str = "", *classes: str, label: str = "") -> Press:
    """Return a button; ``label`` is what it is called where its text is only a sign."""
    return Press(
        text=text,
        label=label,
        description=description,
        act=act,
        css_classes=["button", *classes],
        stylesheets=sheet(),
        margin=0,
    )


def box(name: str, *items: object) -> pn.Column:
    """Return items one below the other, unless the style sheet has something else to say for the names."""
    return pn.Column(*items, css_classes=name.split(), stylesheets=sheet(), margin=0)
