// What a test's page has at hand: the package, and short ways to say what a test does in a page.

import * as selkie from '/selkie/browser.js'

globalThis.selkie = selkie

/** Starts a node, `globalThis.node`; its events are kept for `happened`. */
globalThis.start = async (options) => {
  const node = await selkie.createNode({
    network,
    storage: 'memory',
    ...options,
  })
  globalThis.node = node
  const seen = []
  const waiting = new Set()
  for (const type of TYPES) {
    node.addEventListener(type, ({ detail }) => {
      seen.push({ type, detail })
      for (const look of waiting) look()
    })
  }
  globalThis.happened = (type, fits = () => true) =>
    new Promise((resolve) => {
      const look = () => {
        const found = seen.find((event) => event.type === type && fits(event.detail))
        if (found) waiting.delete(look) && resolve(found.detail)
      }
      waiting.add(look)
      look()
    })
  return node.peerId
}

const TYPES = [
  'peer:connect',
  'peer:disconnect',
  'peer:refused',
  'peer:identify',
  'dial:error',
  'item:refused',
  'peer:score',
  'application:error',
  'protocol:error',
  'sync:progress',
  'identity:ephemeral',
  'book:lost',
  'network:offline',
  'network:online',
  'node:freeze',
  'node:resume',
  'node:wake',
  'node:stop',
]

const network = { id: 'selkie-test', application: 'bitcoin' }

/** What became of a promise, as plain data: `{ value }` or `{ error }`. */
globalThis.outcome = (promise) =>
  promise.then(
    (value) => ({ value }),
    (error) => ({
      error: {
        name: error.name,
        code: error.code,
        fatal: error.fatal,
        message: error.message,
        ours: error instanceof selkie.SelkieError,
      },
    }),
  )

/** The first item of a subscription for which a check holds; the subscription ends with it. */
globalThis.first = async (items, fits = () => true) => {
  for await (const item of items) {
    if (fits(item)) return item
  }
  throw new Error('the subscription ended before that')
}

/** Bitcoin's id of some bytes: their double SHA-256, shown in reversed order. */
globalThis.bitcoinId = async (bytes) => {
  const digest = await crypto.subtle.digest('SHA-256', await crypto.subtle.digest('SHA-256', bytes))
  return toHex(new Uint8Array(digest).reverse())
}

globalThis.toHex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')

globalThis.fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16))

/** The database of address books, in which the page itself may look and write. */
const books = async (mode, ask) => {
  const opened = indexedDB.open('selkie/book', 1)
  opened.onupgradeneeded = () => opened.result.createObjectStore('book')
  const database = await requested(opened)
  const found = await requested(ask(database.transaction('book', mode).objectStore('book')))
  database.close()
  return found
}

const requested = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })

/** Until the node has written its address book. */
globalThis.kept = async () => {
  while ((await books('readonly', (store) => store.get(network.id))) === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Puts something in the address book's place: bytes, or what is none. */
globalThis.keep = (bytes) => {
  const value = Array.isArray(bytes) ? new Uint8Array(bytes) : bytes
  return books('readwrite', (store) => store.put(value, network.id))
}
