import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RemoteEngine, serve } from '../dist/bridge.js'
import { createNodeOn } from '../dist/create.js'
import { LoadError } from '../dist/errors.js'
import { FakeNode, fakeBuilds, never, once, turn } from './fake.mjs'

const MODULE = new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0))

/** A node behind a real message channel; `fail` is what a worker's error event does. */
async function startRemote({ posted = [], load, module = Promise.resolve(MODULE), signal } = {}) {
  const { port1, port2 } = new MessageChannel()
  const glue = FakeNode.glue()
  let unreadable, crash
  const end = (port, transferred = []) => ({
    post: (message, transfer = []) => {
      transferred.push(...transfer)
      port.postMessage(message, transfer)
    },
    onMessage: (listener) => (port.onmessage = ({ data }) => listener(data)),
    onFailure: (listener) => (unreadable = listener),
  })
  const moved = []
  const own = async (module, _, crashed) => {
    assert.ok(module)
    crash = crashed
    return glue
  }
  serve(end(port2, moved), load ?? own)
  let fail
  let closed = 0
  const requests = end(port1)
  const port = {
    ...requests,
    post: (message, transfer) => {
      posted.push(structuredClone(message))
      requests.post(message, transfer)
    },
    onFailure: (listener) => (fail = listener),
    close: async () => (closed++, port1.close(), port2.close()),
  }
  const createNode = createNodeOn({
    defaultStorage: 'memory',
    builds: fakeBuilds,
    engine: (run, { glue }, { signal }) => RemoteEngine.open(port, module, glue, signal),
  })
  const start = createNode({ network: 'selkie-dev', run: 'worker', signal })
  // It may reject before the test has come to look at it.
  start.catch(() => {})
  return {
    start,
    fake: glue.node,
    moved,
    /** What the WebAssembly in the worker does at its end. */
    crash: (words) => crash(words),
    fail: (why) => fail(why),
    /** What a worker's `messageerror` does. */
    unreadable: (why) => unreadable(why),
    closed: () => closed,
  }
}

test('a node behind a port is as one on this thread', async (t) => {
  const { fake, start } = await startRemote()
  const node = await start
  t.after(() => node.stop())
  assert.equal(node.peerId, '12D3KooFake')
  const connect = once(node, 'peer:connect')
  fake.events.push({ type: 'peer:connect', peerId: 'a' })
  assert.deepEqual((await connect).detail, { peerId: 'a' })

  const blocks = node.blocks.subscribe()
  const next = blocks.next()
  while (!fake.queues.has(1)) await turn()
  fake.queues.get(1).push({ kind: 'block', id: 'x', data: Uint8Array.of(1), missed: 0 })
  assert.equal((await next).value.id, 'x')
  await blocks.return()
})

test('bytes of answers are moved, bytes of requests stay with the caller', async (t) => {
  const { fake, moved, start } = await startRemote()
  const node = await start
  t.after(() => node.stop())
  const value = new Uint8Array(1000).fill(1)
  const part = new Uint8Array(1000).subarray(10, 20)
  fake.answers.requestState = () => ({ height: 9n, value, proof: part })
  const key = Uint8Array.of(1, 2)
  const answer = await node.state.get(key)
  assert.deepEqual([answer.height, answer.value.length, answer.proof.length], [9n, 1000, 10])
  assert.deepEqual([value.length, part.length, key.length], [0, 10, 2])
  assert.equal(moved.length, 2, 'the identity, and the value')
  const blocks = node.blocks.subscribe()
  while (!fake.queues.has(1)) await turn()
  const items = ['x', 'y'].map((id) => ({ kind: 'block', id, data: new Uint8Array(9), missed: 0 }))
  for (const item of items) fake.queues.get(1).push(item)
  for (const { id } of items) assert.equal((await blocks.next()).value.id, id)
  assert.deepEqual(
    items.map(({ data }) => data.length),
    [0, 0],
    'those of all items that are pulled at once',
  )
})

test('a part of a large buffer goes without the rest of it', async (t) => {
  const posted = []
  const { fake, start } = await startRemote({ posted })
  const node = await start
  t.after(() => node.stop())
  const file = new Uint8Array(64 * 1024 * 1024).fill(7)
  for (const part of [file.subarray(5, 15), Buffer.from(file.buffer, 5, 10)]) {
    fake.answers.submit = (kind, bytes) => bytes.join()
    assert.equal(await node.transactions.submit(part), Array(10).fill(7).join())
    const [, bytes] = posted.findLast(({ method }) => method === 'submit').args
    assert.equal(bytes.buffer.byteLength, 10)
  }
  assert.equal(file.length, 64 * 1024 * 1024, 'it is still there')
})

test('an aborted dial is given up in the worker too, and what is over is not', async (t) => {
  const posted = []
  const { fake, start } = await startRemote({ posted })
  const node = await start
  t.after(() => node.stop())
  const given = []
  fake.answers.dial = (address, signal) => (given.push(signal), address === '/memory/1' && never())
  const abort = new AbortController()
  const dial = node.dial('/memory/1', { signal: abort.signal })
  while (given.length === 0) await turn()
  abort.abort('enough')
  await assert.rejects(dial, (reason) => reason === 'enough')
  while (!given[0].aborted) await turn()
  await node.dial('/memory/2')
  await turn()
  assert.deepEqual(
    [given[1].aborted, posted.filter((message) => 'abort' in message).length],
    [false, 1],
  )
})

test('errors keep code, fatal and message on their way', async (t) => {
  const { fake, start } = await startRemote()
  const node = await start
  t.after(() => node.stop())
  const error = { code: 'dial', fatal: false }
  fake.answers.dial = () => Promise.reject(Object.assign(new Error('no such peer'), error))
  await assert.rejects(node.dial('/memory/1'), {
    name: 'DialError',
    message: 'no such peer',
    ...error,
  })
})

test('an abort ends the waiting, and the late answer is let go', async (t) => {
  const { fake, start } = await startRemote()
  const node = await start
  t.after(() => node.stop())
  let answer
  const asked = new Promise((asked) => {
    fake.answers.dial = () => new Promise((resolve) => ((answer = resolve), asked()))
  })
  const abort = new AbortController()
  const dial = node.dial('/memory/1', { signal: abort.signal })
  await asked
  abort.abort()
  await assert.rejects(dial, { name: 'AbortError' })
  answer('late')
  fake.answers.submit = () => 'id'
  assert.equal(await node.blocks.submit(Uint8Array.of(1)), 'id')
})

test('a crash in the worker rejects what is pending', async () => {
  const { crash, fake, start } = await startRemote()
  const node = await start
  const asked = new Promise((asked) => {
    fake.answers.dial = () => (asked(), never())
  })
  const dial = node.dial('/memory/1')
  await asked
  crash('panicked at a fake')
  await assert.rejects(dial, { code: 'crashed', fatal: true, message: /panicked at a fake/ })
  await assert.rejects(node.metrics(), { code: 'crashed' })
})

test('a worker that ends is a crash', async () => {
  const { fail, start } = await startRemote()
  const node = await start
  const peers = node.gossip.subscribe('topic').next()
  fail('out of memory')
  await assert.rejects(peers, { code: 'crashed', message: /out of memory/ })
})

test('a message that the worker can not read is a crash, for nobody will answer it', async () => {
  const { start, unreadable } = await startRemote()
  const node = await start
  const peers = node.gossip.subscribe('topic').next()
  unreadable('a message to it can not be read')
  await assert.rejects(peers, { code: 'crashed', message: /can not be read/ })
})

test('an answer that can not be sent is an error', async (t) => {
  const { fake, start } = await startRemote()
  const node = await start
  t.after(() => node.stop())
  fake.answers.metrics = () => ({ count: () => 5 })
  await assert.rejects(node.metrics(), { code: 'internal', message: /could not be cloned/ })
})

for (const [when, parts] of Object.entries({
  'the module has arrived': { module: never() },
  'it has loaded': { load: never },
})) {
  test(`a worker that ends before ${when} rejects createNode`, async () => {
    const { closed, fail, start } = await startRemote(parts)
    fail('its script did not load')
    await assert.rejects(start, { code: 'crashed', message: /did not load/ })
    assert.equal(closed(), 1)
  })

  test(`an abort before ${when} ends the worker`, async () => {
    const abort = new AbortController()
    const { closed, start } = await startRemote({ ...parts, signal: abort.signal })
    abort.abort('enough')
    await assert.rejects(start, (reason) => reason === 'enough')
    assert.equal(closed(), 1)
  })
}

test('a module that does not arrive, or that the worker can not use, ends the worker', async () => {
  for (const parts of [
    { module: Promise.reject(new LoadError('load', 'it is absent')) },
    { load: () => Promise.reject(new WebAssembly.LinkError('it is absent')) },
  ]) {
    const { closed, start } = await startRemote(parts)
    await assert.rejects(start, { message: /it is absent/ })
    assert.equal(closed(), 1)
  }
})
