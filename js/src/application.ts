/**
 * A chain in JavaScript, as the node calls it: many items a call, each within its time.
 *
 * The user's object runs on the node's own thread, in the page or in the worker. Whatever it does has an answer here: one that throws,
 * rejects, answers too late or in a wrong shape has failed, which is a text (for an item: a verdict of its own) and no
 * error. What it says after its time is not heard, and delivers nothing. Long runs of calls give way to the thread's other work.
 *
 * Items are asked about in their order. One whose answer is a promise holds up none of those after it.
 */

import type { Application, ItemKind } from '../index.js'
import { ConfigError, LoadError } from './errors.js'
import { importModule } from './import-module.js'

/** What the node may ask for. */
type Call = keyof Application

const CALLS: readonly Call[] = [
  'checkTransaction',
  'checkBlock',
  'checkVote',
  'checkHeader',
  'splitBlock',
  'joinBlock',
  'deliver',
  'query',
  'stakeOf',
]
const NEEDED: readonly Call[] = CALLS.slice(0, 3)

/** An answer to an item, as the node reads it (`src/web/application.rs`). */
interface Said {
  /** Its place in {@link VERDICTS}; {@link FAILURE} without one. */
  verdict: number
  /** Empty: that of the bytes. */
  id: Uint8Array
  fee: bigint | undefined
  reason: string
}

const VERDICTS: readonly unknown[] = ['accept', 'ignore', 'reject']
const FAILURE = VERDICTS.length
const MAX_ID = 64
const KEY = 32
/** Characters of a reason. */
const MAX_REASON = 1000
/** No block and no answer about state has more bytes. */
const MAX_BYTES = 4 * 1024 * 1024
/** How long calls follow each other before the page may paint, in milliseconds. */
const SLICE = 8
const NONE = new Uint8Array()

/** What is given to `createNode`, where the node runs: an object, or the address of a module that exports one. */
export async function openApplication(given: object | string): Promise<ApplicationHost> {
  const application = typeof given === 'string' ? await load(given) : given
  for (const call of CALLS) {
    const method = (application as Record<string, unknown>)[call]
    const isMissing = method === undefined && (NEEDED as string[]).includes(call)
    if (isMissing || (method !== undefined && typeof method !== 'function')) {
      throw new ConfigError('config', `config: application.${call}: give a function`, {
        fatal: true,
      })
    }
  }
  return new ApplicationHost(application as Application)
}

/** The default export of a module, or what the function makes that is its default export. */
async function load(address: string): Promise<object> {
  let application
  try {
    const module = await importModule(address)
    application = module.default
    if (typeof application === 'function') application = await application()
  } catch (cause) {
    const message = `can't load the application ${address}: ${words(cause)}; it is a module that imports by whole addresses`
    throw new LoadError('load', message, { cause })
  }
  if (typeof application === 'object' && application !== null) return application
  const advice = 'its default export has to be an application, or a function that makes one'
  throw new LoadError('load', `${address} has no application: ${advice}`)
}

/** The node's way to an application. None of its promises is ever rejected. */
export class ApplicationHost {
  /** How long a call may take, in milliseconds; the node sets it. */
  timeout = 10_000
  readonly #application: Application

  constructor(application: Application) {
    this.#application = application
  }

  has(call: Call): boolean {
    return this.#application[call] !== undefined
  }

  /** Resolves to the answer, or to a text that says how the application failed. */
  async ask(call: Call, args: unknown[]): Promise<unknown> {
    const application = this.#application
    try {
      switch (call) {
        case 'checkTransaction':
        case 'checkBlock':
        case 'checkVote':
        case 'checkHeader':
          return encode(await this.#check(call, ...(args as Checks)))
        case 'splitBlock': {
          const block = args[0] as Uint8Array
          return places(block, await this.#inTime(application.splitBlock?.(block)))
        }
        case 'joinBlock': {
          const [header, transactions] = args as [Uint8Array, Uint8Array[]]
          const block = await this.#inTime(application.joinBlock?.(header, transactions))
          return block === undefined ? undefined : bytes('the block', block)
        }
        case 'deliver': {
          const [kind, data] = args as [ItemKind, Uint8Array]
          await this.#inTime(application.deliver?.({ kind, data }))
          return true
        }
        case 'query': {
          const [key, height] = args as [Uint8Array, bigint | undefined]
          const state = await this.#inTime(application.query?.(key, height))
          if (state === undefined) return undefined
          const { value, proof = NONE } = state
          return [u64('height', state.height), bytes('value', value), bytes('proof', proof)]
        }
        case 'stakeOf': {
          const stake = await this.#inTime(application.stakeOf?.(args[0] as string))
          return u64('stake', stake)
        }
      }
    } catch (error) {
      return words(error)
    }
  }

  /** What is said to each of these items; each that is accepted is delivered before that, if it is to be. */
  async #check(
    call: CheckCall,
    items: Uint8Array[],
    keys: Uint8Array,
    delivers: Uint8Array,
  ): Promise<Said[]> {
    const application = this.#application
    const kind = KINDS[call]
    let isOver = false
    const judge = (data: Uint8Array, index: number) => {
      const key = keys.slice(index * KEY, (index + 1) * KEY)
      const said = after(application[call]!(data, key), (answer) => read(call, answer))
      return after(said, (said) => {
        // What was accepted too late is not accepted.
        if (said.verdict !== 0 || delivers[index] !== 1 || isOver) return said
        return after(application.deliver?.({ kind, data }), () => said)
      })
    }

    const answers = new Array<Said | undefined>(items.length)
    const waiting: Promise<void>[] = []
    let began = performance.now()
    for (const [index, data] of items.entries()) {
      try {
        const said = judge(data, index)
        if (isPromise(said)) {
          const told = Promise.resolve(said).catch(failure)
          waiting.push(told.then((said) => void (isOver || (answers[index] = said))))
        } else {
          answers[index] = said
        }
      } catch (error) {
        answers[index] = failure(error)
      }
      if (performance.now() - began > SLICE) {
        await macrotask()
        began = performance.now()
      }
    }
    let late: Said | undefined
    if (waiting.length > 0) {
      await this.#inTime(Promise.all(waiting)).catch((error) => (late = failure(error)))
    }
    isOver = true
    return Array.from(answers, (said) => said ?? late!)
  }

  /** Waits for an answer, as long as it may take. */
  async #inTime<T>(answer: T | PromiseLike<T>): Promise<T> {
    if (!isPromise(answer)) return answer
    let timer: Timer
    const late = new Promise<never>((_, reject) => {
      const message = `it has not answered within ${this.timeout} ms (protocol.validation.application_timeout)`
      timer = setTimeout(() => reject(new Error(message)), this.timeout) as unknown as Timer
      // Node's process ends without it.
      timer.unref?.()
    })
    try {
      return await Promise.race([answer, late])
    } finally {
      clearTimeout(timer! as unknown as number)
    }
  }
}

type CheckCall = 'checkTransaction' | 'checkBlock' | 'checkVote' | 'checkHeader'
type Checks = [items: Uint8Array[], keys: Uint8Array, delivers: Uint8Array]
type Timer = { unref?(): void }

const KINDS: Record<CheckCall, ItemKind> = {
  checkTransaction: 'transaction',
  checkBlock: 'block',
  checkVote: 'vote',
  checkHeader: 'block',
}

/** Goes on with a value at once, or when it is there. */
function after<T, U>(
  value: T | PromiseLike<T>,
  next: (value: T) => U | PromiseLike<U>,
): U | PromiseLike<U> {
  return isPromise(value) ? Promise.resolve(value).then(next) : next(value)
}

function isPromise<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | undefined)?.then === 'function'
}

/** An answer to an item, if it is one. */
function read(call: CheckCall, answer: unknown): Said {
  if (typeof answer !== 'object' || answer === null) {
    throw new TypeError(`its answer is ${kindOf(answer)}; give { verdict, id?, fee?, reason? }`)
  }
  const { verdict, id, fee, reason = '' } = answer as Record<string, unknown>
  const place = VERDICTS.indexOf(verdict)
  if (place < 0) {
    throw new TypeError(`its verdict is ${kindOf(verdict)}; give 'accept', 'ignore' or 'reject'`)
  }
  if (id === undefined && call === 'checkHeader' && place === 0) {
    throw new TypeError('a header that is accepted needs the id of its block')
  }
  if (id !== undefined && !(id instanceof Uint8Array && id.length > 0 && id.length <= MAX_ID)) {
    throw new TypeError(`its id is ${kindOf(id)}; give a Uint8Array of 1 to ${MAX_ID} bytes`)
  }
  if (typeof reason !== 'string') {
    throw new TypeError(`its reason is ${kindOf(reason)}; give a string`)
  }
  return {
    verdict: place,
    // The application may write the next one to the same place.
    id: id === undefined ? NONE : id.slice(),
    fee: fee === undefined ? undefined : u64('fee', fee),
    reason: reason.slice(0, MAX_REASON),
  }
}

function failure(error: unknown): Said {
  return { verdict: FAILURE, id: NONE, fee: undefined, reason: words(error) }
}

/** All answers in one piece: see `Answer` in `src/web/application.rs`. */
function encode(answers: Said[]): Uint8Array {
  const text = new TextEncoder()
  const reasons = answers.map(({ reason }) => (reason === '' ? NONE : text.encode(reason)))
  let size = 0
  for (const [index, { id, fee }] of answers.entries()) {
    size += 5 + id.length + (fee === undefined ? 0 : 8) + reasons[index]!.length
  }
  const bytes = new Uint8Array(size)
  const view = new DataView(bytes.buffer)
  let at = 0
  for (const [index, { verdict, id, fee }] of answers.entries()) {
    bytes[at++] = verdict
    bytes[at++] = id.length
    bytes.set(id, at)
    at += id.length
    bytes[at++] = Number(fee !== undefined)
    if (fee !== undefined) {
      view.setBigUint64(at, fee, true)
      at += 8
    }
    const reason = reasons[index]!
    view.setUint16(at, reason.length, true)
    bytes.set(reason, at + 2)
    at += 2 + reason.length
  }
  return bytes
}

/** Where in a block its parts are: a beginning and an end for each, those of the header first. */
function places(block: Uint8Array, parts: unknown): Uint32Array | undefined {
  if (parts === undefined) return undefined
  const { header, transactions } = Object(parts) as { header: unknown; transactions: unknown }
  if (!Array.isArray(transactions)) {
    throw new TypeError(`its answer is ${kindOf(parts)}; give { header, transactions }`)
  }
  return Uint32Array.from(
    [header, ...transactions].flatMap((part: unknown) => {
      const isPart = part instanceof Uint8Array && part.buffer === block.buffer
      if (!isPart || block.length === 0) {
        throw new TypeError("a part is none of the block's bytes; make it by block.subarray()")
      }
      const begin = part.byteOffset - block.byteOffset
      return [begin, begin + part.length]
    }),
  )
}

function bytes(name: string, value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) {
    throw new TypeError(`${name} is ${kindOf(value)}; give a Uint8Array`)
  }
  if (value.length <= MAX_BYTES) return value
  throw new RangeError(`${name} has ${value.length} bytes, over the limit of ${MAX_BYTES}`)
}

function u64(name: string, value: unknown): bigint {
  const number = Number.isSafeInteger(value) ? BigInt(value as number) : value
  if (typeof number === 'bigint' && BigInt.asUintN(64, number) === number) return number
  throw new TypeError(`its ${name} is ${kindOf(value)}; give a bigint from 0n to 2n ** 64n - 1n`)
}

function kindOf(value: unknown): string {
  if (value instanceof Uint8Array) return `a Uint8Array of ${value.length} bytes`
  if (['string', 'number', 'bigint'].includes(typeof value)) return JSON.stringify(String(value))
  return value === null ? 'null' : `of type ${typeof value}`
}

/** A thrown value in words, whatever it is. */
export function words(error: unknown): string {
  try {
    return String(error).slice(0, MAX_REASON)
  } catch {
    return 'it threw what can not be shown'
  }
}

/** Resolves in a later macrotask: that of a message, since a hidden tab's timers ring once a second. */
function macrotask(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      resolve()
    }
    port2.postMessage(undefined)
  })
}
