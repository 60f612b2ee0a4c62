// A child process that prints one JSON object per line, and the events that a test waits for in it. Any
// other line counts as `{ type: 'text', text }`.
//
// Nothing is polled and nothing slept for: `until` looks at what was printed already and then at each
// line as it comes. A child that ends while somebody waits fails that wait with what it said on stderr.

import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { createInterface } from 'node:readline'
import { deferred } from './deferred.mjs'

/** How long any single event may take, in milliseconds; a wait has to end some time. */
export const PATIENCE = 60_000

/** At most so much of stderr is kept, in characters. */
const KEPT = 8192

export class Lines {
  /** All that was printed so far. */
  events = []
  /** Resolves to the exit code, or to the signal's name. */
  exit
  #child
  #news = new EventEmitter().setMaxListeners(0)
  #stderr = ''
  #ended

  constructor(command, args, options = {}) {
    this.#child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
    this.#child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#stderr = (this.#stderr + text).slice(-KEPT)
    })
    const lines = createInterface({ input: this.#child.stdout })
    lines.on('line', (line) => {
      this.events.push(line.startsWith('{') ? JSON.parse(line) : { type: 'text', text: line })
      this.#news.emit('line', this.events.at(-1))
    })
    const failed = once(this.#child, 'error').then(([error]) => error.message)
    const closed = once(this.#child, 'close').then(([code, signal]) => code ?? signal)
    this.exit = Promise.race([closed, failed]).then((how) => {
      this.#ended = new Error(`${command} ${args.join(' ')}\nended (${how}): ${this.#stderr}`)
      this.#news.emit('end')
      return how
    })
  }

  /** The first event with these fields, or for which a function is true. */
  async until(wanted) {
    const fits =
      typeof wanted === 'function'
        ? wanted
        : (event) => Object.entries(wanted).every(([field, value]) => event[field] === value)
    const found = this.events.find(fits)
    if (found !== undefined) return found
    if (this.#ended) throw this.#ended
    const { promise, resolve, reject } = deferred()
    const look = (event) => fits(event) && resolve(event)
    const end = () => reject(this.#ended)
    const late = setTimeout(() => {
      const last = this.events.slice(-5).map((event) => JSON.stringify(event))
      const what = typeof wanted === 'function' ? String(wanted) : JSON.stringify(wanted)
      reject(new Error(`${PATIENCE} ms without ${what}; the last events:\n${last.join('\n')}`))
    }, PATIENCE)
    this.#news.on('line', look).once('end', end)
    try {
      return await promise
    } finally {
      clearTimeout(late)
      this.#news.off('line', look).off('end', end)
    }
  }

  /** Ends the child as Ctrl-C does, and resolves to its exit code. */
  async stop() {
    this.#child.kill('SIGINT')
    return this.exit
  }

  /** Ends it at once, with nothing put in order, and resolves to the signal's name. */
  async kill() {
    this.#child.kill('SIGKILL')
    return this.exit
  }
}
