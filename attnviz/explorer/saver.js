// The menu: pictures of the figures with their legend and caption, pages asked of the server, and the address.

const HELP = {
  png: 'A picture of the figures as they are now, with legend and caption. At 2 it has twice as many pixels each way.',
  svg: 'A drawing of the figures as they are now, with legend and caption, for papers. Dense points are a picture inside it.',
  head: 'One HTML file of this head that opens without a server. Resting on a point still reads it.',
  wall: 'One HTML file of all heads as one picture that opens without a server. Resting on a head still names it.',
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
// The legend and the caption below the figures, as rectangles and lines of text; both kinds of picture draw these.
const SIZE = 12, LINE = 18, EDGE = 12
const measure = (() => {
  const ctx = document.createElement('canvas').getContext('2d')
  return (text, font) => { ctx.font = `${SIZE}px ${font}`; return ctx.measureText(text).width }
})()
const below = (width, {legend, summary, ink, muted, font}) => {
  const rects = [], texts = []
  let x = EDGE, y = EDGE
  for (const {label, colors, count} of legend) {
    const box = colors.length > 2 ? 90 : colors.length ? 11 : 0
    const text = count == null ? label : `${label}  ${count.toLocaleString('en')}`
    const wide = box + (box ? 5 : 0) + measure(text, font)
    if (x > EDGE && x + wide > width - EDGE) { x = EDGE; y += LINE }
    colors.forEach((fill, i) => rects.push({x: x + i * box / colors.length, y: y + 2, width: box / colors.length + 0.3, height: 11, fill}))
    texts.push({x: x + box + (box ? 5 : 0), y: y + 12, text, fill: colors.length ? ink : muted})
    x += wide + 16
  }
  if (legend.length) y += LINE
  let line = ''
  const end = () => { texts.push({x: EDGE, y: y + 12, text: line, fill: muted}); y += LINE; line = '' }
  for (const word of summary.split(' ').filter(Boolean)) {
    if (line && measure(`${line} ${word}`, font) > width - 2 * EDGE) end()
    line = line ? `${line} ${word}` : word
  }
  if (line) end()
  return {rects, texts, height: y > EDGE ? y + EDGE - 4 : 0}
}
const extent = (all) => [Math.max(...all.map((f) => f.x + f.w)), Math.max(...all.map((f) => f.y + f.h))]
const png = (all, said, wanted) => {
  const [w, high] = extent(all), {rects, texts, height} = below(w, said), h = high + height, scale = Math.min(wanted, 16000 / w, 16000 / h, Math.sqrt(2e8 / (w * h)))
  const canvas = Object.assign(document.createElement('canvas'), {width: Math.round(w * scale), height: Math.round(h * scale)})
  const ctx = canvas.getContext('2d'), own = Object.getOwnPropertyDescriptor(window, 'devicePixelRatio')
  ctx.fillStyle = said.paper
  ctx.fillRect(0, 0, canvas.width, canvas.height)
  Object.defineProperty(window, 'devicePixelRatio', {configurable: true, value: scale})  // Bokeh paints at this ratio
  try {
    for (const f of all) ctx.drawImage(f.view.export('png').canvas, f.x * scale, f.y * scale, f.w * scale, f.h * scale)
  } finally {
    own ? Object.defineProperty(window, 'devicePixelRatio', own) : delete window.devicePixelRatio
  }
  ctx.setTransform(scale, 0, 0, scale, 0, high * scale)
  for (const {x, y, width, height, fill} of rects) { ctx.fillStyle = fill; ctx.fillRect(x, y, width, height) }
  ctx.font = `${SIZE}px ${said.font}`
  for (const {x, y, text, fill} of texts) { ctx.fillStyle = fill; ctx.fillText(text, x, y) }
  return new Promise((done) => canvas.toBlob(done, 'image/png'))
}
const svg = (all, said) => {
  const [w, high] = extent(all), {rects, texts, height} = below(w, said), h = high + height, space = 'http://www.w3.org/2000/svg'
  const page = document.implementation.createDocument(space, 'svg', null), root = page.documentElement
  const add = (name, values) => {
    const element = page.createElementNS(space, name)
    for (const [key, value] of Object.entries(values)) element.setAttribute(key, value)
    return root.appendChild(element)
  }
  for (const [key, value] of Object.entries({width: w, height: h, viewBox: `0 0 ${w} ${h}`})) root.setAttribute(key, value)
  add('title', {}).textContent = said.summary
  add('rect', {width: w, height: h, fill: said.paper})
  for (const f of all) {
    const text = f.view.export('svg').ctx.get_serialized_svg(true)
    const drawn = page.importNode(new DOMParser().parseFromString(text, 'image/svg+xml').documentElement, true)
    for (const [key, value] of Object.entries({x: f.x, y: f.y, width: f.w, height: f.h})) drawn.setAttribute(key, value)
    root.appendChild(drawn)
  }
  for (const {y, ...rect} of rects) add('rect', {...rect, y: y + high})
  for (const {x, y, text, fill} of texts) {
    add('text', {x, y: y + high, fill, 'font-family': said.font, 'font-size': SIZE}).textContent = text
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
  let heard = null
  const said = async () => {  // the legend is made when it is needed
    const legend = await new Promise((done, fail) => {
      heard = {done, fail}
      model.send_msg('legend')
      setTimeout(() => fail(new Error('the legend did not come')), 20000)  // no picture without what its colours mean
    })
    const {paper, ink, muted, font, summary} = model
    return {paper, ink, muted, font, summary, legend}
  }
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
        download(await png(drawn(), await said(), Number(scale.value)), `${model.name_of}.png`)
        return 'The PNG is in your downloads.'
      }), scale),
      act('svg', 'Drawing (SVG)', async () => {
        download(svg(drawn(), await said()), `${model.name_of}.svg`)
        return 'The SVG is in your downloads.'
      }),
      act('head', 'Page of this head (HTML)', ask('head')),
      act('wall', 'Page of all heads (HTML)', ask('wall')),
      act('sequence', 'Page of this sequence (HTML)', ask('sequence')),
      ...(model.in_cell ? [] : [act('link', 'Copy link', copy), where]), told))
  model.on('msg:custom', (event) => {
    const {html, name, problem, legend} = event.data ?? event
    const waiting = heard
    heard = null
    if (legend) return waiting?.done(legend)
    if (problem) waiting?.fail(new Error(problem))
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
