// Follows a ledger by its headers as soon as the page is open, and reads a key. What took how long, in ms since then, stands in the
// document: `keptMs` and `kept`, the height that was found in IndexedDB; `readMs`, all headers were there and the key was proven.
//
// ?peer=ADDRESS&height=LEAST&key=HEX&network=JSON

import { createNode } from '/selkie/browser.js'

const query = new URLSearchParams(location.search)
const least = BigInt(query.get('height'))
const key = Uint8Array.from(query.get('key').match(/../g), (pair) => parseInt(pair, 16))
const { dataset } = document.documentElement

const node = await createNode({
  network: JSON.parse(query.get('network')),
  storage: 'indexeddb',
  bootstrap: [query.get('peer')],
})
globalThis.node = node

/** The first height that it tells of is the one that it has found. */
const kept = new Promise((resolve) => {
  node.addEventListener('sync:progress', ({ detail }) => resolve(detail.done), { once: true })
})

/** A peer says so: until then there may be none to ask, and what was found may not be all. */
const synced = new Promise((resolve) => {
  node.addEventListener('sync:done', ({ detail: { height } }) => {
    if (height >= least) resolve()
  })
})

dataset.kept = String(await kept)
dataset.keptMs = String(performance.now())

await synced
await node.state.get(key)
dataset.readMs = String(performance.now())
