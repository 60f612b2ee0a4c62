import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import { startFake, turn } from './fake.mjs'

const block = (id, missed = 0) => ({ kind: 'block', id, data: Uint8Array.of(1), missed })
const END = { done: true, value: undefined }

/** A subscription to blocks, once the fake has opened it, with the queue behind it. */
async function subscribed(options) {
  const { crash, fake, node } = await startFake()
  const blocks = node.blocks.subscribe(options)
  await turn()
  return { crash, fake, node, blocks, queue: fake.queues.get(1) }
}

test('a next() pulls what is there, and nothing is pulled without it', async () => {
  const { blocks, fake, queue } = await subscribed()
  for (const id of ['a', 'b', 'c']) queue.push(block(id))
  await turn()
  assert.deepEqual(fake.called('next'), [])
  for (const id of ['a', 'b', 'c']) assert.equal((await blocks.next()).value.id, id)
  await turn()
  assert.deepEqual(fake.called('next'), [[1]])
  const next = blocks.next()
  await turn()
  assert.deepEqual(fake.called('next'), [[1], [1]])
  queue.push(block('d'))
  assert.equal((await next).value.id, 'd')
})

test('a watch of the state yields its changes, and ends as others do', async () => {
  const { fake, node } = await startFake()
  const keys = [Uint8Array.of(1), Uint8Array.of(2)]
  const watch = node.state.watch(keys)
  await turn()
  assert.deepEqual(fake.called('watchState'), [[keys]])
  const values = keys.map((key) => ({ key, value: new Uint8Array() }))
  const change = { height: 7n, root: new Uint8Array(32), values }
  fake.queues.get(1).push(change)
  for await (const one of watch) {
    assert.deepEqual(one, change)
    break
  }
  await turn()
  assert.deepEqual(fake.called('unsubscribe'), [[1]])
})

test('a watch that is not offered says so at the first next()', async () => {
  const { fake, node } = await startFake()
  fake.watchState = async () => {
    throw Object.assign(new Error('this chain can prove no key'), { code: 'not-offered' })
  }
  const watch = node.state.watch([Uint8Array.of(1)])
  await assert.rejects(watch.next(), { code: 'not-offered' })
  assert.deepEqual(await watch.next(), END)
})

test('what was pulled and not read ends with the subscription', async () => {
  const abort = new AbortController()
  const { blocks, queue } = await subscribed({ signal: abort.signal })
  for (const id of ['a', 'b']) queue.push(block(id))
  assert.equal((await blocks.next()).value.id, 'a')
  abort.abort()
  await assert.rejects(blocks.next(), { name: 'AbortError' })
  assert.deepEqual(await blocks.next(), END)
})

test('calls of next() that overlap take turns', async () => {
  const { blocks, queue } = await subscribed()
  const both = Promise.all([blocks.next(), blocks.next()])
  await turn()
  assert.equal(queue.credit, 1)
  queue.push(block('a'))
  queue.push(block('b'))
  assert.deepEqual(
    (await both).map(({ value }) => value.id),
    ['a', 'b'],
  )
})

test('items that come between subscribe() and the first next() are kept', async () => {
  const { blocks, queue } = await subscribed()
  queue.push(block('early', 3))
  assert.deepEqual((await blocks.next()).value, block('early', 3))
})

test('leaving a loop ends the subscription', async () => {
  const { blocks, fake, queue } = await subscribed()
  queue.push(block('a'))
  for await (const { id } of blocks) {
    assert.equal(id, 'a')
    break
  }
  await turn()
  assert.deepEqual(fake.called('unsubscribe'), [[1]])
  assert.deepEqual(await blocks.next(), END)
  await blocks.return()
  await turn()
  assert.equal(fake.called('unsubscribe').length, 1)
})

test('return() ends a next() under way', async () => {
  const { blocks } = await subscribed()
  const next = blocks.next()
  await turn()
  assert.deepEqual(await blocks.return(), END)
  assert.deepEqual(await next, END)
})

test('return() before the topic is joined leaves it once it is', async () => {
  const { fake, node } = await startFake()
  const messages = node.gossip.subscribe('topic')
  assert.deepEqual(await messages.return(), END)
  await turn()
  assert.deepEqual(fake.called('unsubscribe'), [[1]])
})

test('an abort rejects the next() under way and ends the subscription', async () => {
  const abort = new AbortController()
  const { blocks, fake } = await subscribed({ signal: abort.signal })
  const next = blocks.next()
  await turn()
  abort.abort('enough')
  await assert.rejects(next, (reason) => reason === 'enough')
  assert.deepEqual(await blocks.next(), END)
  await turn()
  assert.deepEqual(fake.called('unsubscribe'), [[1]])
})

test('an abort between two next() is thrown by the second, once', async () => {
  const abort = new AbortController()
  const { blocks, queue } = await subscribed({ signal: abort.signal })
  queue.push(block('a'))
  await blocks.next()
  abort.abort('enough')
  await assert.rejects(blocks.next(), (reason) => reason === 'enough')
  assert.deepEqual(await blocks.next(), END)
})

test('an aborted signal opens nothing', async () => {
  const { blocks, fake } = await subscribed({ signal: AbortSignal.abort() })
  await assert.rejects(blocks.next(), { name: 'AbortError' })
  assert.deepEqual(fake.calls, [])
})

test('an abort after return() is no news', async () => {
  const abort = new AbortController()
  const { blocks } = await subscribed({ signal: abort.signal })
  await blocks.return()
  abort.abort()
  assert.deepEqual(await blocks.next(), END)
})

test('a signal that goes on keeps nothing of what has ended', async () => {
  const { signal } = new AbortController()
  const heard = () => getEventListeners(signal, 'abort').length
  const left = await subscribed({ signal })
  assert.equal(heard(), 1)
  await left.blocks.return()
  await turn()
  assert.equal(heard(), 0)
  const unread = [await subscribed({ signal }), await subscribed({ signal })]
  assert.equal(heard(), 2)
  await unread[0].node.stop()
  unread[1].crash()
  await turn()
  assert.equal(heard(), 0)
  await assert.rejects(unread[1].blocks.next(), { code: 'crashed' })
})

test('a crash is thrown once, without a reader by the next one', async () => {
  const { blocks, crash } = await subscribed()
  crash()
  await assert.rejects(blocks.next(), { code: 'crashed' })
  assert.deepEqual(await blocks.next(), END)
})

test('a topic that can not be joined is thrown by next()', async () => {
  const { fake, node } = await startFake()
  fake.subscribeTopic = () =>
    Promise.reject(Object.assign(new Error('too long'), { code: 'topic' }))
  const messages = node.gossip.subscribe('topic')
  await turn()
  await assert.rejects(messages.next(), { code: 'topic', message: 'too long' })
})

test('validated messages report their verdict; others have none to give', async () => {
  const { fake, node } = await startFake()
  const validated = node.gossip.subscribe('topic', { validate: true })
  const plain = node.gossip.subscribe('topic')
  await turn()
  assert.deepEqual(fake.called('subscribeTopic'), [
    ['topic', true],
    ['topic', false],
  ])
  const message = { topic: 'topic', data: Uint8Array.of(7), source: 'a', missed: 0 }
  for (const queue of fake.queues.values()) queue.push({ ...message, token: 'token' })
  const { report, ...rest } = (await validated.next()).value
  assert.deepEqual(rest, message)
  await report('reject')
  assert.deepEqual(fake.called('report'), [['token', 'reject']])
  assert.deepEqual((await plain.next()).value, message)
})
