/** The end of the real WebAssembly, on Node's own thread and in a worker, and what is none. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as ledger from '../dist/ledger.js'
import { createNode } from '../dist/nodejs.js'
import { WasmNode } from '../dist/selkie.js'

const glue = new URL('../dist/ledger.js', import.meta.url)
const wasm = { glue, module: new URL('../dist/ledger_bg.wasm', import.meta.url) }
const network = 'selkie-dev'

test('what other WebAssembly ends by is not the end of a node', async () => {
  const listeners = () => process.listenerCount('uncaughtExceptionMonitor')
  const before = listeners()
  const node = await createNode({ network })
  const theirs = new WebAssembly.Module(TRAP)
  const { exports } = new WebAssembly.Instance(theirs)
  assert.equal(listeners(), before, 'nobody looks at the errors of all the program')
  assert.throws(() => exports.trap(), WebAssembly.RuntimeError)
  assert.deepEqual(await node.peers(), [])
  await node.stop()
})

test('a panic tells its words to all that waits for any node of that WebAssembly, and to no other', async () => {
  const [one, other] = [await createNode({ network, wasm }), await createNode({ network, wasm })]
  const plain = await createNode({ network })
  const unread = one.blocks.subscribe().next()
  assert.throws(() => ledger.panicForTests('out of paper'), WebAssembly.RuntimeError)
  const crash = {
    code: 'crashed',
    fatal: true,
    message: /panicked at src.web.panic.rs.*out of paper/,
  }
  await assert.rejects(unread, crash)
  await assert.rejects(other.peers(), crash)
  await assert.rejects(createNode({ network, wasm }), { code: 'crashed' })
  assert.deepEqual(await plain.peers(), [])
  await plain.stop()
})

test('in a worker too', async () => {
  const application = new URL('./fixtures/panics.js', import.meta.url)
  const node = await createNode({ network, run: 'worker', wasm, application })
  const unread = node.blocks.subscribe().next()
  const submitted = node.transactions.submit(Uint8Array.of(1))
  await assert.rejects(unread, { code: 'crashed', message: /out of paper/ })
  await assert.rejects(submitted, { code: 'crashed' })
  const next = await createNode({ network, run: 'worker' })
  await next.stop()
})

test('an exception that leaves the WebAssembly without a panic is its end as well', async () => {
  const node = await createNode({ network })
  const unread = node.blocks.subscribe().next()
  // As where there is no memory any more: a place that is in none.
  assert.throws(
    () => WasmNode.prototype.peers.call({ __wbg_ptr: 0xffff_fff0 }),
    WebAssembly.RuntimeError,
  )
  await assert.rejects(unread, { code: 'crashed', fatal: true })
  await assert.rejects(createNode({ network }), { code: 'crashed' })
})

/** A module with one function, which is `unreachable`. */
const TRAP = Uint8Array.of(
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 4, 1, 0x60, 0, 0],
  ...[3, 2, 1, 0],
  ...[7, 8, 1, 4, 0x74, 0x72, 0x61, 0x70, 0, 0],
  ...[10, 5, 1, 3, 0, 0, 0x0b],
)
