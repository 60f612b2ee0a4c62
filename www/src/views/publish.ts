// The box that publishes a transaction: hex that a person pastes, or bytes made up by the button.
// Whether the chain takes them is the node's to say; its verdict stands below the box.

import { sentence } from '../address'
import { MAX_TRANSACTION, parseHex, randomBitcoinTransaction, randomBytes, toHex } from '../bytes'
import { byId, setText } from '../dom'
import { short } from '../format'

/** How many bytes the button makes up where any bytes will do. */
const RANDOM = 64

/** The publish box; `submit` resolves to the id of the transaction. */
export class PublishBox {
  readonly #field = byId('bytes', HTMLTextAreaElement)
  readonly #button = byId('submit', HTMLButtonElement)
  readonly #random = byId('random', HTMLButtonElement)
  readonly #message = byId('publish-message', HTMLElement)
  #application = 'opaque'

  constructor(submit: (bytes: Uint8Array) => Promise<string>) {
    this.#field.maxLength = 3 * MAX_TRANSACTION
    this.#random.addEventListener('click', () => {
      const bitcoin = this.#application === 'bitcoin'
      this.#field.value = toHex(bitcoin ? randomBitcoinTransaction() : randomBytes(RANDOM))
      this.#say('')
    })
    this.#field.addEventListener('input', () => this.#say(''))
    byId('publish', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault()
      if (this.#button.ariaDisabled !== 'true') void this.#publish(submit)
    })
  }

  /** The chain that the transactions are for. */
  set application(name: string) {
    this.#application = name
    setText(this.#random, name === 'bitcoin' ? 'Random transaction' : 'Random bytes')
  }

  async #publish(submit: (bytes: Uint8Array) => Promise<string>): Promise<void> {
    // Not `disabled`, which would drop the focus of whoever pressed it.
    this.#button.ariaDisabled = 'true'
    try {
      const id = await submit(parseHex(this.#field.value))
      this.#say(`Published as ${short(id, 10, 10)}.`, 'done')
    } catch (error) {
      this.#say(sentence(error), 'error')
    } finally {
      this.#button.ariaDisabled = null
    }
  }

  #say(text: string, kind: 'note' | 'done' | 'error' = 'note'): void {
    setText(this.#message, text)
    this.#message.dataset['kind'] = kind
    if (kind === 'error') this.#field.setAttribute('aria-invalid', 'true')
    else this.#field.removeAttribute('aria-invalid')
  }
}
