/** What a node leaves behind that has stopped: nothing, however its calls have ended. */

import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createNode } from '../dist/nodejs.js'
import { once, turn } from './fake.mjs'

const NETWORK = 'selkie-dev'
const PROTOCOL = '/leaks/1'
const never = () => new Promise(() => {})
const fails = (call) => assert.rejects(call)

/** What keeps the process up, or would: ports, channels, threads, timers, sockets. */
function resources() {
  return process.getActiveResourcesInfo().toSorted().join(' ')
}

/** All that a user may do with a node, and what is then in the middle of it. */
async function use(run, directory, ports) {
  const { signal } = new AbortController()
  const config = { network: { listen_addresses: [`/memory/${ports}`] } }
  const application = { checkTransaction: never, checkBlock: never, checkVote: never }
  const one = await createNode({
    network: NETWORK,
    run,
    config,
    storage: { directory },
    signal,
    ...(run === 'page' && { application }),
  })
  await one.handle(PROTOCOL, never, { signal })
  const aborted = AbortSignal.abort()
  const waiting = [
    one.blocks.subscribe({ signal }).next(),
    one.gossip.subscribe('weather', { validate: true, signal }).next(),
    fails(one.dial('/memory/1', { signal })),
    fails(one.dial('/ip4/127.0.0.1/tcp/1/ws', { signal })),
    fails(one.dial('/memory/2', { signal: aborted })),
    fails(one.state.get(Uint8Array.of(1), { signal })),
    fails(one.transactions.submit(Uint8Array.of(1), { signal })),
  ]
  if (run === 'page') {
    const other = await createNode({ network: NETWORK, signal })
    const connects = once(one, 'peer:connect')
    await other.dial(`/memory/${ports}`, { signal })
    await connects
    // Nobody reads it, or ends it.
    await other.open(one.peerId, PROTOCOL, { signal })
    await other.stop()
  }
  await one.stop()
  await Promise.all(waiting)
  assert.equal(getEventListeners(signal, 'abort').length, 0)
}

for (const run of ['page', 'worker']) {
  test(`a ${run}'s node leaves nothing behind`, { timeout: 120_000 }, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'selkie-leaks-'))
    t.after(() => rm(directory, { recursive: true }))
    // What stays from the first one on is the WebAssembly.
    await use(run, directory, 4701)
    await turn()
    const before = resources()
    for (let time = 0; time < 3; time += 1) await use(run, directory, 4702 + time)
    // What is ending may take a moment; what stays is a leak, and the test's time is over.
    while (resources() !== before) await turn()
  })
}
