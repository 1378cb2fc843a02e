"""The menu that saves what is seen: PNG and SVG made by the browser from the figures it shows, a page, and a link.

The browser paints its figures once more, at the chosen number of pixels or as SVG, so a picture is what was on the screen: the
window, the selection, the colours. Nothing is asked of the network.
"""

from collections.abc import Callable
from typing import Any

import panel as pn
import param

from attnviz.errors import AttnvizError, DatasetError
from attnviz.explorer.offline import StillPage, head_page, sequence_page
from attnviz.explorer.state import State
from attnviz.explorer.style import sheet

__all__ = ["Saver", "pages", "saver"]

CODE = """
const HELP = {
  png: 'A picture of the figures as they are now. At 2 it has twice as many pixels each way.',
  svg: 'A drawing of the figures as they are now, for papers. Dense points are a picture inside it.',
  head: 'One HTML file of this head that opens without a server. Resting on a point still reads it.',
  sequence: 'One HTML file of the selected sequence under every head, which opens without a server.',
  link: 'The address of this page restores all that is shown.',
}
const seen = (view) => {
  const box = view.el.getBoundingClientRect()
  return box.width > 1 && box.height > 1 && (view.el.checkVisibility?.() ?? true) ? box : null
}
const figures = (document) => {
  const found = []
  const seek = (views) => { for (const view of views) {
    if (view == null) continue
    if (view.canvas_view != null && view.frame != null) {
      const box = view.model.document === document ? seen(view) : null
      if (box) found.push({view, box})
    } else seek(view.child_views ?? [])
  } }
  seek([...(Bokeh.index.roots ?? Object.values(Bokeh.index))])
  const left = Math.min(...found.map((f) => f.box.x)), top = Math.min(...found.map((f) => f.box.y))
  return found.map(({view, box}) => ({view, x: box.x - left, y: box.y - top, w: box.width, h: box.height}))
}
const extent = (all) => [Math.max(...all.map((f) => f.x + f.w)), Math.max(...all.map((f) => f.y + f.h))]
const png = (all, paper, wanted) => {
  const [w, h] = extent(all), scale = Math.min(wanted, 16000 / w, 16000 / h, Math.sqrt(2e8 / (w * h)))
  const canvas = Object.assign(document.createElement('canvas'), {width: Math.round(w * scale), height: Math.round(h * scale)})
  const ctx = canvas.getContext('2d'), own = Object.getOwnPropertyDescriptor(window, 'devicePixelRatio')
  ctx.fillStyle = paper
  ctx.fillRect(0, 0, canvas.width, canvas.height)
  Object.defineProperty(window, 'devicePixelRatio', {configurable: true, value: scale})  // Bokeh paints at this ratio
  try {
    for (const f of all) ctx.drawImage(f.view.export('png').canvas, f.x * scale, f.y * scale, f.w * scale, f.h * scale)
  } finally {
    own ? Object.defineProperty(window, 'devicePixelRatio', own) : delete window.devicePixelRatio
  }
  return new Promise((done) => canvas.toBlob(done, 'image/png'))
}
const svg = (all, paper, title) => {
  const [w, h] = extent(all), space = 'http://www.w3.org/2000/svg'
  const page = document.implementation.createDocument(space, 'svg', null), root = page.documentElement
  const add = (name, values) => {
    const element = page.createElementNS(space, name)
    for (const [key, value] of Object.entries(values)) element.setAttribute(key, value)
    return root.appendChild(element)
  }
  for (const [key, value] of Object.entries({width: w, height: h, viewBox: `0 0 ${w} ${h}`})) root.setAttribute(key, value)
  add('title', {}).textContent = title
  add('rect', {width: w, height: h, fill: paper})
  for (const f of all) {
    const text = f.view.export('svg').ctx.get_serialized_svg(true)
    const drawn = page.importNode(new DOMParser().parseFromString(text, 'image/svg+xml').documentElement, true)
    for (const [key, value] of Object.entries({x: f.x, y: f.y, width: f.w, height: f.h})) drawn.setAttribute(key, value)
    root.appendChild(drawn)
  }
  return new Blob([new XMLSerializer().serializeToString(page)], {type: 'image/svg+xml'})
}
const download = (blob, name) => {
  const link = Object.assign(document.createElement('a'), {href: URL.createObjectURL(blob), download: name})
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60000)
}

export function render({model, view}) {
  const make = (tag, values, ...children) => {
    const element = Object.assign(document.createElement(tag), values)
    element.append(...children)
    return element
  }
  const told = make('p', {className: 'save-told', role: 'status'}), say = (text) => { told.textContent = text }
  const where = make('input', {readOnly: true, hidden: true, ariaLabel: 'Link to what is shown'})
  const act = (name, text, run) => make('button', {type: 'button', textContent: text, title: HELP[name], onclick: async () => {
    say('One moment …')
    try { say(await run() ?? '') } catch (error) { console.error(error); say('This could not be saved.') }
  }})
  const scale = make('select', {ariaLabel: 'Pixels of the PNG', title: HELP.png},
    ...[1, 2, 3, 4].map((n) => make('option', {value: n, textContent: `${n}×`, selected: n === 2})))
  const drawn = () => {
    const all = figures(view.model.document)
    if (!all.length) throw new Error('no figure is shown')
    return all
  }
  const copy = async () => {
    Object.assign(where, {value: location.href, hidden: false})
    where.select()
    try { await navigator.clipboard.writeText(location.href) } catch { return 'Copy it from the field above.' }
    return 'The link is copied.'
  }
  const ask = (what) => () => { model.send_msg(what); return 'One moment …' }
  const menu = make('details', {className: 'save'}, make('summary', {textContent: 'Save', title: 'Save what is shown'}),
    make('div', {className: 'save-menu'},
      make('div', {className: 'save-row'}, act('png', 'Picture (PNG)', async () => {
        download(await png(drawn(), model.paper, Number(scale.value)), `${model.name_of}.png`)
        return 'The PNG is in your downloads.'
      }), scale),
      act('svg', 'Drawing (SVG)', () => {
        download(svg(drawn(), model.paper, model.summary), `${model.name_of}.svg`)
        return 'The SVG is in your downloads.'
      }),
      act('head', 'Page of this head (HTML)', ask('head')),
      act('sequence', 'Page of this sequence (HTML)', ask('sequence')),
      act('link', 'Copy link', copy), where, told))
  model.on('msg:custom', (event) => {
    const {html, name, problem} = event.data ?? event
    if (html) download(new Blob([html], {type: 'text/html'}), name)
    say(html ? 'The page is in your downloads.' : problem)
  })
  menu.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !menu.open) return
    event.stopPropagation()
    menu.open = false
    menu.firstChild.focus()
  })
  document.addEventListener('pointerdown', (event) => { if (!event.composedPath().includes(menu)) menu.open = false })
  return menu
}
"""


class Saver(pn.custom.JSComponent):  # type: ignore[misc]  # panel publishes no usable types
    """The menu. ``page`` is called with ``head`` or ``sequence`` and returns a page and the name of its file."""

    paper = param.String(default="#ffffff", doc="The colour behind the figures")
    summary = param.String(default="", doc="The title of an SVG")
    name_of = param.String(default="attnviz", doc="What files are called")
    page = param.Callable(default=None)

    _esm = CODE
    _rename = {"page": None}  # noqa: RUF012  # panel's way to keep a parameter on the server

    def _handle_msg(self, msg: Any) -> None:
        try:
            made = self.page(str(msg))
        except AttnvizError as error:
            self._send_msg({"problem": str(error)})
        else:
            self._send_msg({"html": made.html, "name": f"{self.name_of}.html"})


def saver(state: State) -> Saver:
    """Return the menu of a session."""
    return Saver(page=pages(state), css_classes=["saver"], stylesheets=sheet())


def pages(state: State) -> Callable[[str], StillPage]:
    """Return what makes a page of what a session shows: of its ``head``, or of the chosen ``sequence``."""

    def make(what: str) -> StillPage:
        if state.map is None or state.problem:
            raise DatasetError("There is nothing to save yet.")
        if what == "head" and state.view != "all":
            return head_page(state)
        if what == "sequence" and state.token is not None and state.view != "all":
            return sequence_page(state, int(state.directory.tokens["sequence_id"].iloc[state.token]))
        missing = "Open a head first." if what == "head" else "Click a point first: its sequence is what is saved."
        raise DatasetError(missing)

    return make
