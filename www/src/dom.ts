// The few helpers that the views share. Whatever a peer says reaches the page through
// `textContent` only, never as markup.

/** The element of this id, which index.html promises to be of this class. */
export function byId<T extends Element>(id: string, type: abstract new (...args: never[]) => T): T {
  const element = document.getElementById(id)
  if (element instanceof type) return element
  throw new Error(`index.html has no ${type.name} with the id "${id}".`)
}

/** The first element inside `root` that matches, which index.html promises to be there. */
export function within<T extends Element>(
  root: ParentNode,
  selector: string,
  type: abstract new (...args: never[]) => T,
): T {
  const element = root.querySelector(selector)
  if (element instanceof type) return element
  throw new Error(`index.html has no ${type.name} that matches "${selector}".`)
}

/** A new element with attributes and children; strings become text. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/** Sets the text only where it differs, so that unchanged cells cost no layout. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

/** One of the icons of the sprite in index.html. */
export function icon(name: 'copy' | 'done' | 'wrong'): SVGSVGElement {
  const space = 'http://www.w3.org/2000/svg'
  const svg = document.createElementNS(space, 'svg')
  svg.setAttribute('class', `icon ${name}`)
  svg.setAttribute('aria-hidden', 'true')
  svg.setAttribute('focusable', 'false')
  const use = document.createElementNS(space, 'use')
  use.setAttribute('href', `#icon-${name}`)
  svg.append(use)
  return svg
}

const frame = new Set<() => void>()

/**
 * Runs `draw` at the next animation frame, once, however often it is asked for until then. A burst
 * of a thousand items costs one drawing; a hidden tab draws nothing at all.
 */
export function onFrame(draw: () => void): void {
  if (frame.size === 0) {
    requestAnimationFrame(() => {
      const due = [...frame]
      frame.clear()
      for (const task of due) task()
    })
  }
  frame.add(draw)
}

/** Tells a screen reader something that the page shows to the eye already. */
export function announce(text: string): void {
  byId('announce', HTMLElement).textContent = text
}

/** How many characters of an id are shown whatever the width. */
const TAIL = 8

/** An id of which the middle gives way where the room is narrow; the text is whole. */
export function idText(id: string): HTMLSpanElement {
  return h(
    'span',
    { class: 'id-text mono', title: id },
    h('span', {}, id.slice(0, -TAIL)),
    h('span', {}, id.slice(-TAIL)),
  )
}

/** A button, and behind it what has no room in its row: by touch and keyboard too, where a title is by the mouse alone. */
export function disclosure(title: string): [button: HTMLButtonElement, whole: HTMLElement] {
  const button = h('button', { type: 'button', class: 'tag', title })
  const whole = h('p', { class: 'whole mono', popover: '' })
  button.popoverTargetElement = whole
  return [button, whole]
}

/** A button that copies `text`; `what` names it for those who hear the page. */
export function copyButton(text: string, what: string): HTMLButtonElement {
  const label = `Copy ${what}`
  const button = h('button', { type: 'button', class: 'copy', 'aria-label': label, title: label })
  button.append(icon('copy'))
  button.addEventListener('click', () => {
    // Over plain http there is none.
    const clipboard = navigator.clipboard as Clipboard | undefined
    const copied = clipboard?.writeText(text) ?? Promise.reject(new Error('no clipboard'))
    copied.then(
      () => {
        button.replaceChildren(icon('done'))
        announce(`Copied ${what}.`)
        setTimeout(() => button.replaceChildren(icon('copy')), 1500)
      },
      () => announce('The browser did not allow the copy. Select the text instead.'),
    )
  })
  return button
}
