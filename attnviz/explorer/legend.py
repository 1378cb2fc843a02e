"""The legend: its entries are buttons that take their points out of every picture, and bring them back.

The markup comes from ``markup.legend``, where every text of a run is escaped; this adds nothing but clicks.
"""

from typing import Any

import panel as pn
import param

from attnviz.explorer.guard import Guarded
from attnviz.explorer.style import sheet

__all__ = ["Legend"]

CODE = """
export function render({model}) {
  const box = document.createElement('div')
  const paint = () => {
    const root = box.getRootNode()
    const focused = root.activeElement?.dataset?.entry
    box.innerHTML = model.html
    if (focused != null) box.querySelector(`[data-entry="${focused}"]`)?.focus()
  }
  box.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-entry]')
    if (button) model.send_msg([Number(button.dataset.entry), button.getAttribute('aria-pressed') !== 'true'])
  })
  model.on('html', paint)
  paint()
  return box
}
"""


class Legend(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """A legend; ``press`` is called with the number of an entry and whether it is to be shown: told twice, it means the same."""

    html = param.String(default="", doc="Made by ``markup.legend``")
    press = param.ClassSelector(class_=Guarded, default=None)

    _esm = CODE
    _rename = {"press": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def __init__(self, press: Guarded) -> None:
        super().__init__(press=press, css_classes=["legend"], stylesheets=sheet(), margin=0)

    def _handle_msg(self, msg: Any) -> None:
        match msg:
            case [int(number), bool(shown)] if self.press is not None and 0 <= number < 256:
                self.press(number, shown)
