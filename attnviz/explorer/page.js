// Keys, names for what has none, the words that stand for a canvas, and a sign that something is being drawn.

const SHORTCUTS = new Set(['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'Escape', 'Home', 'Enter', ...'01234567tmbl'])
const SLOW = 150  // milliseconds until a change counts as slow
const SILENT = 10000  // milliseconds until a notebook's kernel counts as silent
const LONGEST = 60000  // milliseconds; an answer that never comes must not leave the sign on the page

// What fails is told to the console; what else the page does goes on.
const attempt = (run) => { try { run() } catch (error) { console.error('attnviz:', error) } }

// A phone takes a page without this for one of a desk, and shrinks it.
const fitPhone = () => {
  if (document.querySelector('meta[name=viewport]')) return
  document.head.append(Object.assign(document.createElement('meta'), {
    name: 'viewport', content: 'width=device-width, initial-scale=1',
  }))
}

const typing = (event) => {
  const at = event.composedPath()[0]
  if (at?.isContentEditable || ['SELECT', 'TEXTAREA'].includes(at?.tagName)) return true
  if (at?.getAttribute?.('role') === 'slider') return event.key !== 'Escape'
  if (event.key === 'Enter' && at?.closest?.('button, a, summary, label, [tabindex]')) return true
  return at?.tagName === 'INPUT' && !['checkbox', 'radio', 'button'].includes(at.type)
}

function* every(root) {  // all elements, those in shadow roots included
  for (const child of root.querySelectorAll('*')) {
    yield child
    if (child.shadowRoot) yield* every(child.shadowRoot)
  }
}

const seek = (place) => {
  const fields = [...every(place)].filter((element) => element.matches?.('.seek, .find'))
    .map((host) => host.shadowRoot?.querySelector('input')).filter((input) => input?.checkVisibility())
  fields[fields.length - 1]?.focus()  // in the table of sequences its own field comes after the side bar's
  return fields.length > 0
}

const press = (target, run) => {
  if (target.tabIndex === 0) return
  target.tabIndex = 0
  target.addEventListener('keydown', (event) => {
    if (event.target !== target || !['Enter', ' '].includes(event.key)) return
    event.preventDefault()
    run()
  })
}

const click = (element) => {
  for (const type of ['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click']) {
    element.dispatchEvent(new MouseEvent(type, {bubbles: true, composed: true, cancelable: true}))
  }
}

// What Bokeh and Tabulator leave without a name, or out of the keyboard's reach.
const NAMES = {
  '.canvas, .canvas-free, .canvas-of-pair': (element, summary) => {
    element.setAttribute('role', 'img')
    element.setAttribute('aria-label', summary)
  },
  '.bk-spin-btn': (element) => {  // the arrow keys do the same in the field
    element.tabIndex = -1
    element.setAttribute('aria-hidden', 'true')
  },
  '.noUi-handle': (element) => {
    const title = element.getRootNode().querySelector('.bk-slider-title')?.textContent.split(':')[0] ?? 'Value'
    const handles = [...element.getRootNode().querySelectorAll('.noUi-handle')]
    const end = handles.length > 1 ? [', from', ', to'][handles.indexOf(element)] : ''
    element.setAttribute('aria-label', `${title}${end}`)
  },
  '.tabulator-cell': (element) => { element.tabIndex = -1 },  // its row is enough to stop at
  '.tabulator-row': (element) => press(element, () => {
    click([...element.children].find((cell) => cell.matches('.tabulator-cell') && cell.offsetWidth))
  }),
  '.tabulator-col.tabulator-sortable': (element) => {
    element.setAttribute('aria-label', `Sort by ${element.querySelector('.tabulator-col-title')?.textContent}`)
    press(element, () => element.click())
  },
}

// After every change of a size or of what is visible, Bokeh lays the whole page out anew: some 40 ms, six times a click. Once
// before the next picture is enough: a click took 344 ms to its words, and takes 190 to its words and its sentence (medians of
// the same hour, 2 shared cores, 2026-11-21).
const gather = (page) => {
  const compute = page.compute_layout.bind(page)
  let due = false
  let anew = false
  const layOut = () => {
    if (anew) page.update_layout()
    due = anew = false
    compute()
  }
  page.compute_layout = () => { due ||= Boolean(requestAnimationFrame(layOut)) }
  page.invalidate_layout = () => {
    anew = true
    page.compute_layout()
  }
}

// Panel tells the address of each state, but not that somebody went back to an earlier one; and would tell that as a new one.
const goBack = (model, document) => {
  const push = history.pushState.bind(history)
  history.pushState = (data, unused, url) => {
    let known = false
    attempt(() => { known = new URL(url, location).href === location.href })
    if (!known) push(data, unused, url)
  }
  window.addEventListener('popstate', () => {
    attempt(() => {
      document.roots().find((root) => root.type === 'panel.models.location.Location').search = location.search
    })
    model.send_msg(`?${location.search.slice(1)}`)
  })
}

// In a notebook only the cell is ours: keys count where the focus is in it, and the notebook leaves those alone. What is drawn
// anew loses the focus, to nobody; after a click of ours it comes back.
const settle = (area) => {
  let ours = false
  area.tabIndex = -1
  area.style.outline = 'none'
  window.addEventListener('keydown', (event) => {  // before JupyterLab, whose word it is; Ctrl-S and the like stay its own
    area.toggleAttribute('data-lm-suppress-shortcuts', !(event.ctrlKey || event.metaKey || event.altKey))
  }, true)
  document.addEventListener('pointerdown', (event) => { ours = event.composedPath().includes(area) }, true)
  area.addEventListener('focusout', () => requestAnimationFrame(() => {
    if (ours && document.activeElement === document.body) area.focus({preventScroll: true})
  }))
}

export function render({model, view}) {
  let cell = view
  while (cell.parent && !cell.model.css_classes?.includes('av')) cell = cell.parent
  const [area, place] = model.in_cell ? [cell.el, cell.shadow_el] : [document.body, document]
  attempt(() => gather(view.root))
  attempt(() => model.in_cell ? settle(area) : goBack(model, view.model.document))
  const root = document.createElement('div')
  const line = Object.assign(document.createElement('div'), {className: 'drawing', hidden: true})
  const words = Object.assign(document.createElement('div'), {className: 'loading', textContent: 'Loading…'})
  words.setAttribute('role', 'status')
  root.append(line, words)

  const keys = model.in_cell ? area : document
  keys.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event)) return
    if (event.key === '/') {
      attempt(() => { if (seek(place)) event.preventDefault() })
    } else if (SHORTCUTS.has(event.key)) {
      event.preventDefault()
      model.send_msg(event.key)
    }
  })

  const watched = new WeakSet()
  let due = null
  const paintSoon = () => { due ??= setTimeout(paint, 100) }
  const paint = () => {
    due = null
    for (const element of every(place)) {
      for (const [selector, name] of Object.entries(NAMES)) {
        if (element.matches(selector)) attempt(() => name(element, model.summary))
      }
      if (element.shadowRoot) watch(element.shadowRoot)
    }
  }
  const observer = new MutationObserver(paintSoon)
  const watch = (place) => {
    if (watched.has(place)) return
    watched.add(place)
    observer.observe(place, {childList: true, subtree: true})
  }
  const dress = () => {
    document.documentElement.lang = 'en'
    for (const element of [document.documentElement, document.body]) {
      element.style.setProperty('background', model.paper, 'important')  // Panel paints the body white
    }
  }
  model.on('summary', paintSoon)
  if (!model.in_cell) {
    fitPhone()
    model.on('paper', dress)
    dress()
  }
  watch(model.in_cell ? place : area)
  paint()

  // A change is followed by a question to the server, which it answers when it has drawn. One question at a time.
  const wait = {since: null, asked: false, again: false}
  const rest = () => {
    Object.assign(wait, {since: null, asked: false, again: false})
    line.hidden = words.hidden = true
    area.removeAttribute('aria-busy')
    words.textContent = 'Loading…'
  }
  const ask = () => {
    Object.assign(wait, {asked: true, again: false})
    model.send_msg('drawn?')
  }
  const begin = () => {
    if (wait.since != null) {
      wait.again = true
      return
    }
    const since = wait.since = Date.now()
    setTimeout(() => { if (wait.since === since && !wait.asked) ask() }, 90)  // Panel holds a change back for 50
    setTimeout(() => {
      if (wait.since !== since) return
      line.hidden = false
      area.setAttribute('aria-busy', 'true')
    }, SLOW)
    if (model.in_cell) setTimeout(() => {
      if (wait.since !== since) return
      words.textContent = 'The kernel is busy or gone. If it was restarted, run this cell again.'
      words.hidden = false
    }, SILENT)
    setTimeout(() => { if (wait.since === since) rest() }, LONGEST)
  }
  const note = model.in_cell ? area.closest('.attnviz-cell')?.querySelector('.attnviz-note') : null
  model.on('msg:custom', () => { if (note) note.hidden = true })
  model.on('msg:custom', () => wait.again ? setTimeout(ask, 60) : rest())
  view.model.document.on_change((event) => {
    const quiet = event.msg_data?.event_name === 'mouseleave' || event.model?.name === 'pointer-sent'
    const ours = [event.model, event.msg_data?.origin].includes(view.model)
    const known = ['ModelChanged', 'MessageSent'].includes(event.kind)
    if (event.sync && known && !quiet && (!ours || SHORTCUTS.has(event.msg_data?.data))) begin()
  })
  requestAnimationFrame(() => requestAnimationFrame(begin))  // sizes are sent first: nothing is drawn before the server knows them
  return root
}
