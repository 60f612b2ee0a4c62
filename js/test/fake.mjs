/**
 * A node without a network behind wasm-bindgen's surface: it records calls, answers what the test
 * says, and queues items and events as the real one does.
 */

import { crashAll, LocalEngine } from '../dist/engine.js'
import { createNodeOn } from '../dist/create.js'

/** Items for readers who pull; `undefined` to all of them at the end. */
class Queue {
  #items = []
  #readers = []
  #closed = false
  /** How many `next()` are unanswered. */
  get credit() {
    return this.#readers.length
  }
  push(item) {
    const reader = this.#readers.shift()
    if (reader) reader(item)
    else this.#items.push(item)
  }
  /** All there are, or the next one. */
  async pull() {
    if (this.#items.length > 0) return this.#items.splice(0)
    const item = await this.next()
    return item && [item]
  }
  next() {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift())
    if (this.#closed) return Promise.resolve(undefined)
    return new Promise((resolve) => this.#readers.push(resolve))
  }
  /** What was not pulled is gone, as it is with a subscription that ends, and with `stop`. */
  drop() {
    this.#items = []
    this.close()
  }
  close() {
    this.#closed = true
    for (const reader of this.#readers.splice(0)) reader(undefined)
  }
}

export class FakeNode {
  calls = []
  events = new Queue()
  /** Streams that peers open. */
  streams = new Queue()
  /** Subscription handle to its queue. */
  queues = new Map()
  /** Set by a test: what a method answers. */
  answers = {}
  stopped = false

  static glue(node = new FakeNode()) {
    return {
      node,
      generateIdentity: () => crypto.getRandomValues(new Uint8Array(68)),
      start: async (config, application, keeps, kept) => {
        Object.assign(node, { config, application, keeps, kept })
        await node.answers.start?.()
        return node
      },
    }
  }

  peerId = () => '12D3KooFake'
  nextEvent = () => this.events.next()
  subscribe = (kind) => this.#open('subscribe', kind)
  subscribeTopic = async (topic, validate) => this.#open('subscribeTopic', topic, validate)
  next = (handle) => {
    this.calls.push(['next', handle])
    return this.queues.get(handle).pull()
  }
  unsubscribe = (handle) => {
    this.calls.push(['unsubscribe', handle])
    this.queues.get(handle).drop()
  }
  stop = async () => {
    this.stopped = true
    for (const queue of this.queues.values()) queue.drop()
    this.events.close()
    this.streams.close()
    await this.answers.stop?.()
  }
  dial = this.#answer('dial')
  disconnect = this.#answer('disconnect')
  report = this.#answer('report')
  submit = this.#answer('submit')
  submitAll = this.#answer('submitAll')
  publish = this.#answer('publish')
  requestState = this.#answer('requestState')
  watchState = async (keys) => this.#open('watchState', keys)
  handle = this.#answer('handle')
  unhandle = this.#answer('unhandle')
  nextStream = () => this.streams.next()
  open = this.#answer('open')
  read = this.#answer('read')
  write = this.#answer('write')
  closeWrite = this.#answer('closeWrite')
  reset = this.#answer('reset')
  connectionEnd = () => never()
  peers = this.#answer('peers')
  score = this.#answer('score')
  book = this.#answer('book')
  saveBook = () => this.answers.saveBook?.() ?? new Uint8Array([1, 2, 3])
  bookLost = this.#answer('bookLost')
  bans = this.#answer('bans')
  ban = this.#answer('ban')
  unban = this.#answer('unban')
  protect = this.#answer('protect')
  unprotect = this.#answer('unprotect')
  expectDuty = this.#answer('expectDuty')
  wake = this.#answer('wake')
  connections = this.#answer('connections')
  topics = this.#answer('topics')
  metrics = this.#answer('metrics')
  syncStatus = this.#answer('syncStatus')

  called(method) {
    return this.calls.filter(([name]) => name === method).map(([, ...args]) => args)
  }

  #open(...call) {
    this.calls.push(call)
    const handle = this.queues.size + 1
    this.queues.set(handle, new Queue())
    return handle
  }

  #answer(method) {
    return async (...args) => {
      this.calls.push([method, ...args])
      return this.answers[method]?.(...args)
    }
  }
}

const OWN_GLUE = {}

/** The builds of a package: of one it has the glue, of the other the address. */
export const fakeBuilds = {
  selkie: () => ({ glue: OWN_GLUE, module: () => 'selkie_bg.wasm' }),
  ledger: () => ({ glue: 'ledger.js', module: () => 'ledger_bg.wasm' }),
}

/** A platform that runs the fake on this thread. `crash` is the end of its WebAssembly. */
export function fakePlatform({ openIdentity, glue = FakeNode.glue(), ...more } = {}) {
  const engines = new Set()
  const platform = {
    defaultStorage: 'memory',
    builds: fakeBuilds,
    engine: async () => new LocalEngine(glue, engines),
    openIdentity,
    ...more,
  }
  const crash = () => crashAll(engines, 'panicked at a fake')
  return { fake: glue.node, createNode: createNodeOn(platform), crash }
}

export async function startFake(options = {}, parts = {}) {
  const platform = fakePlatform(parts)
  const node = await platform.createNode({ network: 'selkie-dev', ...options })
  return { ...platform, node }
}

/** A promise that never settles. */
export const never = () => new Promise(() => {})

/** Until what was posted to the event loop so far has run. */
export const turn = () => new Promise((resolve) => setTimeout(resolve))

/** The next event of a type. */
export const once = (target, type) =>
  new Promise((resolve) => target.addEventListener(type, resolve, { once: true }))
