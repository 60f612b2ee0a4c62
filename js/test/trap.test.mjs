/** What a trap comes to on Node's own thread, where nobody calls the node as it happens. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createNode } from '../dist/nodejs.js'

test('the errors of a program are looked at as long as a node runs in it', async () => {
  const listeners = () => process.listenerCount('uncaughtExceptionMonitor')
  const before = listeners()
  const nodes = [await createNode({ network: 'selkie-dev' })]
  nodes.push(await createNode({ network: 'selkie-dev' }))
  assert.equal(listeners(), before + 1)
  for (const node of nodes) await node.stop()
  assert.equal(listeners(), before)
})

test('a trap that nobody catches rejects what waits for the node, in a program that goes on', async () => {
  const node = await createNode({ network: 'selkie-dev' })
  const unread = node.blocks.subscribe().next()
  const trap = new WebAssembly.RuntimeError('unreachable')
  // As Node tells it, before a handler of the program lets that go on.
  process.emit('uncaughtExceptionMonitor', new Error('of somebody else'), 'uncaughtException')
  process.emit('uncaughtExceptionMonitor', trap, 'uncaughtException')
  await assert.rejects(unread, { code: 'crashed', fatal: true })
  await assert.rejects(node.peers(), { code: 'crashed' })
  await assert.rejects(createNode({ network: 'selkie-dev' }), { code: 'crashed' })
})
