// The lists of blocks and transactions. An item costs the page one row of at most fifty, drawn at
// the next animation frame however many came since the last; the counters count them all.

import { copyButton, disclosure, h, idText, onFrame, setText, within } from '../dom'
import { age, bytes, short } from '../format'
import type { Check } from '../verify'

/** How many rows a list keeps. */
export const ROWS = 50

/** What a row says. The item's bytes are not kept. */
export interface Entry {
  readonly id: string
  readonly size: number
  readonly source: string
  readonly receivedAt: number
  /** For a block: what the tab's own check finds. */
  readonly check?: Promise<Check>
}

const checks: Record<Check, string> = {
  verified: '✓ hash',
  mismatch: '✗ hash',
  unknown: '–',
}

/** A bounded, live list, newest first. */
export class Feed {
  readonly #body: HTMLTableSectionElement
  readonly #empty: HTMLElement
  readonly #what: string
  readonly #arrivals = new WeakMap<Element, number>()
  #fresh: Entry[] = []
  #paused = false

  /** `what` names one item for those who hear the page. */
  constructor(section: HTMLElement, what: string) {
    this.#what = what
    this.#body = within(section, 'tbody', HTMLTableSectionElement)
    this.#empty = within(section, '.empty', HTMLElement)
    const pause = within(section, '.pause', HTMLButtonElement)
    pause.addEventListener('click', () => {
      this.#paused = !this.#paused
      pause.setAttribute('aria-pressed', String(this.#paused))
      onFrame(this.#draw)
    })
    setInterval(() => this.#tick(), 1000)
  }

  /** Adds an item; of those that wait to be drawn the oldest make room. */
  push(entry: Entry): void {
    this.#fresh.push(entry)
    if (this.#fresh.length > ROWS) this.#fresh.shift()
    onFrame(this.#draw)
  }

  readonly #draw = (): void => {
    if (this.#paused || this.#fresh.length === 0) return
    const entries = this.#fresh.reverse()
    this.#fresh = []
    this.#empty.hidden = true
    this.#body.prepend(...entries.map((entry) => this.#row(entry)))
    while (this.#body.rows.length > ROWS) this.#body.lastElementChild?.remove()
  }

  #row(entry: Entry): HTMLTableRowElement {
    const cell = (kind: string, ...content: (Node | string)[]) =>
      h('td', { role: 'cell', class: kind }, ...content)
    const when = cell('number age', age(Date.now() - entry.receivedAt))
    this.#arrivals.set(when, entry.receivedAt)
    const row = h(
      'tr',
      { role: 'row' },
      cell(
        'id',
        h(
          'span',
          { class: 'pair' },
          idText(entry.id),
          copyButton(entry.id, `the id of ${this.#what} ${short(entry.id)}`),
        ),
      ),
      cell('number size', bytes(entry.size)),
      cell('mono from', ...source(entry.source)),
    )
    if (entry.check !== undefined) {
      const found = h('span', { class: 'check' }, '…')
      row.append(cell('checked', found))
      void entry.check.then((check) => {
        found.dataset['check'] = check
        setText(found, checks[check])
      })
    }
    row.append(when)
    return row
  }

  #tick(): void {
    const now = Date.now()
    for (const cell of this.#body.querySelectorAll('.age')) {
      setText(cell, age(now - (this.#arrivals.get(cell) ?? now)))
    }
  }
}

/** Who sent it, whose whole id is behind the short one; nobody, where this tab did. */
function source(id: string): Node[] {
  if (id === '') return []
  const [button, whole] = disclosure('Sent by')
  button.append(short(id, 4, 6))
  whole.append(id)
  return [button, whole]
}
