// The button that opens the help, the help, and the card that greets a first visit. Texts are set as text, never as HTML.

export function render({model, view}) {
  let cell = view
  while (cell.parent && !cell.model.css_classes?.includes('av')) cell = cell.parent
  const area = model.in_cell ? cell.el : document
  const make = (tag, values, ...children) => {
    const element = Object.assign(document.createElement(tag), values)
    element.append(...children)
    return element
  }
  const body = make('div', {className: 'help-body'})
  const close = make('button', {type: 'button', className: 'help-close', textContent: 'Close', onclick: () => dialog.close()})
  const title = make('h2', {id: 'help-title', className: 'help-title', textContent: 'Help'})
  const dialog = make('dialog', {className: 'help-dialog'}, make('div', {className: 'help-head'}, title, close), body)
  dialog.setAttribute('role', 'dialog')
  dialog.setAttribute('aria-modal', 'true')
  dialog.setAttribute('aria-labelledby', 'help-title')
  body.tabIndex = 0
  body.setAttribute('role', 'region')
  body.setAttribute('aria-label', 'Text of the help')
  const write = (tag, textContent) => make(tag, {textContent})
  const section = ([title, rows]) => make('section', {}, write('h3', title),
    ...rows.filter(([term]) => !term).map(([, said]) => write('p', said)),
    make('dl', {}, ...rows.filter(([term]) => term).flatMap(([term, said]) => [write('dt', term), write('dd', said)])))
  const fill = () => body.replaceChildren(...model.sections.map(section))
  const open = () => {
    if (dialog.open) return
    hide()
    fill()
    before = document.activeElement
    while (before?.shadowRoot?.activeElement) before = before.shadowRoot.activeElement
    if (model.in_cell) dialog.show()  // a modal one would cover the notebook
    else dialog.showModal()
    close.focus()
  }
  let before = null
  dialog.addEventListener('close', () => (before?.isConnected ? before : opener).focus?.())
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close() })  // beside it
  dialog.addEventListener('keydown', (event) => {
    event.stopPropagation()
    if (model.in_cell && event.key === 'Escape') dialog.close()
  })
  const opener = make('button', {type: 'button', className: 'help-opener', textContent: '?', title: 'Help and keys', onclick: open})
  opener.setAttribute('aria-label', 'Help')
  opener.setAttribute('aria-haspopup', 'dialog')
  area.addEventListener('keydown', (event) => {
    const at = event.composedPath()[0]
    const typing = at?.isContentEditable || ['INPUT', 'SELECT', 'TEXTAREA'].includes(at?.tagName) && at.type !== 'checkbox'
    if (event.key !== '?' || typing || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    open()
  })

  const seen = () => { try { return localStorage.getItem(model.seen) != null } catch { return true } }
  const hide = () => {
    card.remove()
    try { localStorage.setItem(model.seen, 'seen') } catch { /* a browser that keeps nothing asks again */ }
  }
  const card = make('aside', {className: 'help-card'},
    write('strong', 'First time here?'), ...model.hint.map((text) => write('p', text)),
    make('div', {className: 'help-row'},
      make('button', {type: 'button', textContent: 'Got it', onclick: () => { hide(); opener.focus() }}),
      make('button', {type: 'button', textContent: 'More help', onclick: open})))
  card.setAttribute('aria-label', 'First steps')
  model.on('sections', () => { if (dialog.open) fill() })
  return make('div', {}, opener, dialog, ...(seen() ? [] : [card]))
}
