// The log: the last five hundred lines of any level, of which the filter shows some. Newest first,
// so that what happens now is in view without a scroll that runs away from the reader.

import { byId, h, onFrame, setText, within } from '../dom'
import { clip, plural } from '../format'

/** How many lines are kept. */
export const LINES = 500

const LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const

/** How much a line matters. */
export type Level = (typeof LEVELS)[number]

interface Line {
  readonly level: Level
  readonly at: Date
  readonly message: string
}

/** A level by the name that the node gave it; a name unknown here counts as information. */
export function toLevel(name: string): Level {
  return LEVELS.find((level) => level === name.toLowerCase()) ?? 'info'
}

const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' })

/** The log and its filter. */
export class Log {
  readonly #list: HTMLElement
  readonly #empty: HTMLElement
  readonly #count: HTMLElement
  readonly #filter: HTMLSelectElement
  #lines: Line[] = []
  #fresh: Line[] = []

  constructor(section: HTMLElement) {
    this.#list = within(section, '.entries', HTMLElement)
    this.#empty = within(section, '.empty', HTMLElement)
    this.#count = byId('log-count', HTMLElement)
    this.#filter = byId('log-level', HTMLSelectElement)
    this.#filter.addEventListener('change', () => this.#redraw())
    byId('log-clear', HTMLButtonElement).addEventListener('click', () => {
      this.#lines = []
      this.#redraw()
    })
  }

  /** Adds a line. */
  add(level: Level, message: string): void {
    const line = { level, at: new Date(), message: clip(message, 500) }
    this.#lines.push(line)
    if (this.#lines.length > LINES) this.#lines.shift()
    this.#fresh.push(line)
    if (this.#fresh.length > LINES) this.#fresh.shift()
    onFrame(this.#draw)
  }

  #shown(line: Line): boolean {
    return LEVELS.indexOf(line.level) <= LEVELS.indexOf(toLevel(this.#filter.value))
  }

  #redraw(): void {
    this.#list.replaceChildren()
    this.#fresh = [...this.#lines]
    onFrame(this.#draw)
  }

  readonly #draw = (): void => {
    const lines = this.#fresh.filter((line) => this.#shown(line)).reverse()
    this.#fresh = []
    this.#list.prepend(...lines.map(entry))
    const total = this.#lines.filter((line) => this.#shown(line)).length
    while (this.#list.childElementCount > total) this.#list.lastElementChild?.remove()
    this.#empty.hidden = total > 0
    setText(this.#count, plural(total, 'line'))
  }
}

function entry({ level, at, message }: Line): HTMLLIElement {
  const time = h('time', { datetime: at.toISOString() }, clock.format(at))
  return h(
    'li',
    { 'data-level': level },
    time,
    h('span', { class: 'level' }, level),
    h('p', {}, message),
  )
}
