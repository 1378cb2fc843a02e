"""Heads as coloured squares: a click shows or hides one, a double click (or Shift and a click) shows it alone."""

from typing import Any

import panel as pn
import param

from attnviz.explorer.guard import Guarded

__all__ = ["Squares"]

CODE = """
export function render({model}) {
  const box = document.createElement('div')
  box.className = 'squares'
  box.setAttribute('role', 'group')
  box.setAttribute('aria-label', 'Heads')
  const paint = () => {
    const shown = new Set(model.shown)
    while (box.children.length > model.colors.length) box.lastChild.remove()
    model.colors.forEach((color, head) => {
      let square = box.children[head]
      if (!square) {
        square = document.createElement('button')
        square.type = 'button'
        square.textContent = head
        square.title = `Head ${head}: click to show or hide it, double click to see it alone`
        square.addEventListener('click', (event) => model.send_msg({head, only: event.shiftKey}))
        square.addEventListener('dblclick', () => model.send_msg({head, only: true}))
        box.append(square)
      }
      square.setAttribute('aria-label', `Head ${head}`)
      square.setAttribute('aria-pressed', shown.has(head))
      square.style.setProperty('--head', color)
      square.style.setProperty('--number', model.inks[head] ?? '')
    })
  }
  model.on('colors', paint)
  model.on('shown', paint)
  paint()
  return box
}
"""
STYLE = """
.squares { display: flex; flex-wrap: wrap; gap: 4px; }
.squares button {
  width: 26px; height: 22px; padding: 0; border-radius: 5px; cursor: pointer; font: 600 11px/18px var(--av-font);
  border: 2px solid var(--head); background: transparent; color: var(--av-muted);
}
.squares button[aria-pressed=true] { background: var(--head); color: var(--number); }
.squares button:focus-visible { outline: 2px solid var(--av-accent); outline-offset: 1px; }
"""


class Squares(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """One square a head; ``pick`` is called with a head and whether it is to be shown alone."""

    colors = param.List(default=[], doc="Of each head of the layer")
    inks = param.List(default=[], doc="Of each head's number on its colour")
    shown = param.List(default=[], doc="Which heads are shown")
    pick = param.ClassSelector(class_=Guarded, default=None)

    _esm = CODE
    _stylesheets = (STYLE,)
    _rename = {"pick": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def _handle_msg(self, msg: Any) -> None:
        head = msg.get("head") if isinstance(msg, dict) else None
        if self.pick is not None and isinstance(head, int) and 0 <= head < len(self.colors):
            self.pick(head, msg.get("only") is True)
