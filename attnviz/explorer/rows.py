"""A short list with bars; its rows can be clicked and reached by keyboard, and their texts are never read as HTML."""

from typing import Any

import panel as pn
import param

from attnviz.explorer.guard import Guarded
from attnviz.explorer.markup import ISOLATE
from attnviz.explorer.style import sheet

__all__ = ["Rows"]

CODE = (
    """
export function render({model}) {
  const list = document.createElement('div')
  list.className = 'rows'
  const make = (tag, name, text) => {
    const made = document.createElement(tag)
    made.className = name
    made.textContent = text
    return made
  }
  const draw = () => list.replaceChildren(...model.items.map((item, number) => {
    const row = make(model.clickable ? 'button' : 'div', 'one', '')
    row.title = item.hint ?? ''
    const bar = make('span', 'bar', '')
    const fill = make('i', '', '')
    fill.style.width = `${100 * Math.min(1, Math.max(0, item.share))}%`
    bar.append(fill)
    const name = isolate(make('bdi', 'name', ''), item.name)
    row.append(name, make('span', 'place', item.place), bar, make('span', 'number', item.number))
    if (model.clickable) row.addEventListener('click', () => model.send_msg(number))
    return row
  }))
  model.on('items', draw)
  draw()
  return list
}
"""
    + ISOLATE
)


class Rows(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """Rows of ``name``, ``place``, ``share`` (of a full bar, 0…1), ``number``, ``hint``; ``click`` gets the number of a row."""

    items = param.List(default=[])
    clickable = param.Boolean(default=False)
    click = param.ClassSelector(class_=Guarded, default=None)

    _esm = CODE
    _rename = {"click": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def __init__(self, click: Guarded | None = None) -> None:
        super().__init__(click=click, clickable=click is not None, css_classes=["list"], stylesheets=sheet(), margin=0)

    def _handle_msg(self, msg: Any) -> None:
        if self.click is not None and isinstance(msg, int) and 0 <= msg < len(self.items):
            self.click(msg)
