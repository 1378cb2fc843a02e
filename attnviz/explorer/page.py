"""What concerns the page as a whole: keys, its background, and the words that stand for the canvas.

A canvas cannot be read without seeing it, so its summary is given to it as a label.
"""

from typing import Any

import panel as pn
import param

__all__ = ["Page"]

CODE = """
export function render({model}) {
  const typing = (event) => ['INPUT', 'SELECT', 'TEXTAREA'].includes(event.composedPath()[0]?.tagName)
  const press = (event) => {
    const known = ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'Escape'].includes(event.key)
    if (!known || typing(event) || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    model.send_msg(event.key)
  }
  const find = (root, found) => {
    for (const child of root.querySelectorAll('*')) {
      if (child.classList.contains('canvas')) found.push(child)
      if (child.shadowRoot) find(child.shadowRoot, found)
    }
    return found
  }
  const paint = () => {
    document.documentElement.lang = 'en'
    for (const element of [document.documentElement, document.body]) {
      element.style.setProperty('background', model.paper, 'important')  // Panel paints the body white
    }
    for (const canvas of find(document, [])) {
      canvas.setAttribute('role', 'img')
      canvas.setAttribute('aria-label', model.summary)
    }
  }
  document.addEventListener('keydown', press)
  model.on('paper', paint)
  model.on('summary', paint)
  paint()
  return document.createElement('span')
}
"""


class Page(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """The page around the explorer; ``key`` is called with the name of an arrow key or ``Escape``."""

    paper = param.String(default="#ffffff", doc="The colour behind everything")
    summary = param.String(default="")
    key = param.Callable(default=None)

    _esm = CODE
    _rename = {"key": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def _handle_msg(self, msg: Any) -> None:
        if callable(self.key):
            self.key(str(msg))
