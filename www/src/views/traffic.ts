// Bytes in and out: totals, the rate since the last reading, and a minute of it as a line.

import { byId, setText } from '../dom'
import { bytes, rate } from '../format'

/** How many readings the line shows; one is taken each second. */
const READINGS = 60
const WIDTH = 240
const HEIGHT = 40

/** The outline of `values` in a box of WIDTH by HEIGHT, newest at the right edge. */
export function outline(values: readonly number[]): string {
  const top = Math.max(1, ...values)
  const step = WIDTH / (READINGS - 1)
  const start = WIDTH - (values.length - 1) * step
  // Two units of air above and one below keep the stroke inside the box.
  return values
    .map((value, at) => {
      const y = HEIGHT - 1 - (value / top) * (HEIGHT - 3)
      return `${at === 0 ? 'M' : 'L'}${(start + at * step).toFixed(1)} ${y.toFixed(1)}`
    })
    .join('')
}

class Line {
  readonly #total: HTMLElement
  readonly #rate: HTMLElement
  readonly #stroke: SVGPathElement
  readonly #area: SVGPathElement
  readonly #values: number[] = []
  #last: { readonly bytes: number; readonly at: number } | undefined

  constructor(way: 'in' | 'out') {
    const space = 'http://www.w3.org/2000/svg'
    this.#total = byId(`bytes-${way}`, HTMLElement)
    this.#rate = byId(`rate-${way}`, HTMLElement)
    this.#stroke = document.createElementNS(space, 'path')
    this.#area = document.createElementNS(space, 'path')
    this.#stroke.setAttribute('class', 'stroke')
    this.#area.setAttribute('class', 'area')
    const svg = document.createElementNS(space, 'svg')
    svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`)
    svg.setAttribute('preserveAspectRatio', 'none')
    svg.setAttribute('focusable', 'false')
    svg.append(this.#area, this.#stroke)
    byId(`spark-${way}`, HTMLElement).append(svg)
  }

  read(total: number, at: number): void {
    const last = this.#last
    this.#last = { bytes: total, at }
    setText(this.#total, bytes(total))
    if (last === undefined || at <= last.at) return
    // A node that was restarted counts from zero again.
    const speed = (Math.max(0, total - last.bytes) * 1000) / (at - last.at)
    setText(this.#rate, rate(speed))
    this.#values.push(speed)
    if (this.#values.length > READINGS) this.#values.shift()
    const line = outline(this.#values)
    const left = WIDTH - ((this.#values.length - 1) * WIDTH) / (READINGS - 1)
    this.#stroke.setAttribute('d', line)
    this.#area.setAttribute('d', `${line}V${HEIGHT}H${left.toFixed(1)}Z`)
  }
}

/** The two figures of traffic. */
export class Traffic {
  readonly #in = new Line('in')
  readonly #out = new Line('out')

  /** Takes a reading of the totals at `at` milliseconds. */
  read(bytesIn: number, bytesOut: number, at: number): void {
    this.#in.read(bytesIn, at)
    this.#out.read(bytesOut, at)
  }
}
