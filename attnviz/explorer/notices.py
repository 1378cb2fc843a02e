"""What the page says of itself, above the view: that something went wrong, or that a run has changed. Texts are set as text."""

from typing import Any

import panel as pn
import param

from attnviz.explorer.style import sheet

__all__ = ["Notices"]

CODE = """
export function render({model}) {
  const box = document.createElement('div')
  box.setAttribute('role', 'status')
  const make = (tag, values) => Object.assign(document.createElement(tag), values)
  const copy = async (details, row, button) => {
    try {
      await navigator.clipboard.writeText(details)
      button.textContent = 'Copied'
    } catch {  // no clipboard without HTTPS
      const field = row.querySelector('textarea') ?? row.appendChild(make('textarea', {readOnly: true, value: details}))
      field.setAttribute('aria-label', 'Details')
      field.select()
      button.textContent = 'Copy it from below'
    }
  }
  const draw = () => box.replaceChildren(...model.notices.map(([text, does, details]) => {
    const row = make('div', {className: `notice ${does}`})
    row.append(make('p', {textContent: text}))
    if (does) {
      const button = make('button', {type: 'button', textContent: does === 'copy' ? 'Copy details' : 'Reload'})
      button.onclick = () => does === 'copy' ? copy(details, row, button) : location.reload()
      row.append(button)
    }
    return row
  }))
  model.on('notices', draw)
  draw()
  return box
}
"""
RULES = """
:host { width: 100% !important; margin: 0 !important; min-height: 0; }
.notice {
  display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; margin: 0 0 6px; padding: 6px 10px 6px 12px;
  font-size: 12px; line-height: 17px; color: var(--av-ink);
  background: var(--av-surface); border: 1px solid var(--av-line); border-left: 3px solid var(--av-accent); border-radius: 8px;
}
.notice.copy { border-left-color: var(--av-key); }
.notice p { flex: 1 1 240px; margin: 0; min-width: 0; overflow-wrap: anywhere; }
.notice button {
  flex: none; font: inherit; font-size: 12px; color: var(--av-ink); background: var(--av-raised); border: 1px solid var(--av-line);
  border-radius: 7px; height: 28px; padding: 3px 10px; cursor: pointer;
}
.notice button:hover { border-color: var(--av-accent); }
.notice button:focus-visible, .notice textarea:focus-visible { outline: 2px solid var(--av-accent); outline-offset: 1px; }
.notice textarea {
  flex: 1 1 100%; height: 120px; font: 11px/15px ui-monospace, monospace; color: var(--av-ink); background: var(--av-page);
  border: 1px solid var(--av-line); border-radius: 6px; resize: vertical;
}
"""


class Notices(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """Sentences above the view, one a line."""

    notices = param.List(
        default=[], doc="(sentence, what its button does: ``copy``, ``reload`` or nothing, what is copied)"
    )

    _esm = CODE
    _stylesheets = (RULES,)

    def __init__(self, **params: Any) -> None:
        super().__init__(css_classes=["notices"], stylesheets=sheet(), margin=0, **params)
