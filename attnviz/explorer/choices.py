"""Tokens to choose from: as running text, or as rows with bars. Texts are set as text, never as HTML."""

from typing import Any

import panel as pn
import param

from attnviz.explorer.guard import Guarded
from attnviz.explorer.markup import ISOLATE

__all__ = ["Choices"]

CODE = (
    """
export function render({model}) {
  const box = document.createElement('div')
  const draw = () => {
    box.className = model.bars ? 'bars' : 'flow'
    box.setAttribute('role', 'group')
    box.setAttribute('aria-label', model.title)
    box.replaceChildren(...model.items.map(([text, note, share, chosen], place) => {
      const button = document.createElement('button')
      const part = (name, content) => {
        const element = document.createElement(name === 'name' ? 'bdi' : 'span')
        element.className = name
        element.textContent = content
        button.append(element)
        return element
      }
      button.type = 'button'
      button.title = note
      button.setAttribute('aria-pressed', chosen)
      isolate(part('name', ''), text)
      if (model.bars) {
        const bar = document.createElement('i')
        bar.style.width = `${100 * share}%`
        part('track', '').append(bar)
        part('note', note)
      }
      button.onclick = () => model.send_msg(place)
      return button
    }))
  }
  model.on('items', draw)
  draw()
  return box
}
"""
    + ISOLATE
)
RULES = """
:host { width: 100% !important; margin: 0 !important; }
button { font: inherit; font-size: 12px; color: var(--av-ink); background: none; border: 1px solid transparent; border-radius: 5px;
  cursor: pointer; }
button:hover { background: var(--av-page); }
button:focus-visible { outline: 2px solid var(--av-accent); }
.flow { display: flex; flex-wrap: wrap; gap: 1px; max-height: 108px; overflow-y: auto; }
.flow button { padding: 1px 4px; color: var(--av-muted); white-space: pre; }
.flow button[aria-pressed=true] { color: var(--av-ink); border-color: var(--av-query); background: var(--av-page); }
.bars { display: grid; gap: 1px; }
.bars button { display: grid; grid-template-columns: minmax(0, 1fr) 34% 56px; gap: 8px;
  align-items: center; padding: 2px 6px; text-align: left; }
.bars button[aria-pressed=true] { border-color: var(--av-key); background: var(--av-page); }
.bars .name { text-align: left; overflow: hidden; text-overflow: ellipsis; white-space: pre; }
.bars .note { text-align: right; font-variant-numeric: tabular-nums; color: var(--av-muted); }
.bars i { display: block; height: 7px; min-width: 2px; border-radius: 4px; background: var(--av-key); }
"""


class Choices(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """Buttons, one per token; ``choose`` is called with the place of the one that was clicked."""

    items = param.List(default=[], doc="(text, note, share of a bar, whether it is chosen) of each")
    bars = param.Boolean(default=False, doc="Whether they are rows with bars")
    title = param.String(default="")
    choose = param.ClassSelector(class_=Guarded, default=None)

    _esm = CODE
    _stylesheets = [RULES]  # noqa: RUF012  # panel's way
    _rename = {"choose": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def _handle_msg(self, msg: Any) -> None:
        if self.choose is not None and isinstance(msg, int) and 0 <= msg < len(self.items):
            self.choose(msg)
