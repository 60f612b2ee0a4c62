// The box that takes an address. One dial at a time; while it lasts the button cancels it, and
// what went wrong stands below the field until the next try.

import { addressProblem, sentence, type Surroundings } from '../address'
import { byId, setText } from '../dom'
import { short } from '../format'

/** What the box asks of the page around it. */
export interface ConnectOptions {
  /** Dials, and resolves to the id of the peer once it is ready. */
  readonly dial: (address: string, signal: AbortSignal) => Promise<string>
  readonly surroundings: () => Surroundings
}

/** The connect box. */
export class ConnectBox {
  readonly #field = byId('address', HTMLInputElement)
  readonly #button = byId('dial', HTMLButtonElement)
  readonly #message = byId('connect-message', HTMLElement)
  readonly #options: ConnectOptions
  #dialling: AbortController | undefined
  /** A person is at the box: what the page does by itself no longer speaks here. */
  #taken = false
  #prefilled = ''

  constructor(options: ConnectOptions) {
    this.#options = options
    byId('connect', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault()
      if (this.#dialling === undefined) void this.connect()
      else this.#dialling.abort()
    })
    this.#field.addEventListener('input', () => {
      this.#taken = true
      this.#say('')
    })
  }

  /** Puts an address into the field, unless a person is at it or has left one there. */
  prefill(address: string): void {
    if (this.#taken || !['', this.#prefilled].includes(this.#field.value)) return
    this.#field.value = address
    this.#prefilled = address
  }

  /** Shows why a dial failed that nobody started by hand, unless a person is at the box. */
  fail(reason: string): void {
    if (!this.#taken) this.#say(reason, 'error')
  }

  /** Dials what the field holds. */
  async connect(): Promise<void> {
    this.#taken = true
    const address = this.#field.value.trim()
    const problem = addressProblem(address, this.#options.surroundings())
    if (problem !== undefined) {
      this.#say(problem, 'error')
      this.#field.focus()
      return
    }
    const dialling = new AbortController()
    this.#dialling = dialling
    this.#button.textContent = 'Cancel'
    this.#say('Connecting…')
    try {
      const peerId = await this.#options.dial(address, dialling.signal)
      this.#say(`Connected to ${short(peerId)}.`, 'done')
      this.#taken = false
    } catch (error) {
      if (dialling.signal.aborted) this.#say('Cancelled.')
      else this.#say(sentence(error), 'error')
    } finally {
      this.#dialling = undefined
      this.#button.textContent = 'Connect'
    }
  }

  #say(text: string, kind: 'note' | 'done' | 'error' = 'note'): void {
    setText(this.#message, text)
    this.#message.dataset['kind'] = kind
    if (kind === 'error') this.#field.setAttribute('aria-invalid', 'true')
    else this.#field.removeAttribute('aria-invalid')
  }
}
