/** Nodes of the real WebAssembly, one of which judges by an application of ours. */

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, describe, test } from 'node:test'
import { createNode, SelkieError } from '../dist/nodejs.js'
import { once } from './fake.mjs'

const NETWORK = 'pay-chain'
const utf8 = (text) => new TextEncoder().encode(text)
const text = (bytes) => new TextDecoder().decode(bytes)
const sha256 = (bytes) => createHash('sha256').update(bytes).digest()

/** By what a text begins with. */
function judge(bytes) {
  const [word] = text(bytes).split(' ')
  switch (word) {
    case 'pay':
      return { verdict: 'accept', id: utf8(text(bytes)), fee: 5 }
    case 'later':
      return Promise.resolve({ verdict: 'accept' })
    case 'steal':
      return { verdict: 'reject', reason: 'it pays nobody' }
    case 'throw':
      throw new RangeError('out of paper')
    case 'hang':
      return new Promise(() => {})
    case 'garbage':
      return { verdict: 'perhaps' }
    default:
      return { verdict: 'ignore', reason: 'it says nothing' }
  }
}

const nodes = []
let ports = 4200
after(() => Promise.all(nodes.map((node) => node.stop())))

/** Two nodes with a connection: one that takes anything, and one with the application. */
async function two(application, { config, first } = {}) {
  const address = `/memory/${(ports += 1)}`
  const judging = await createNode({
    network: NETWORK,
    application: { checkTransaction: judge, checkBlock: judge, checkVote: judge, ...application },
    config: { network: { listen_addresses: [address] }, ...config },
  })
  const plain = await createNode({ network: NETWORK, ...first })
  nodes.push(judging, plain)
  await plain.dial(address)
  return { plain, judging }
}

const submit = (node, item) => node.transactions.submit(utf8(item))

/** All events of a type from now on. */
function heard(node, type) {
  const details = []
  node.addEventListener(type, ({ detail }) => details.push(detail))
  return details
}

describe('a node with an application of its user', () => {
  test('takes what it accepts, delivers it before subscribers have it, and once', async () => {
    const delivered = []
    const deliver = ({ kind, data }) => void delivered.push([kind, text(data)])
    const { plain, judging } = await two({ deliver })
    const items = judging.transactions.subscribe()
    for (const [item, id] of [
      ['pay Ann 5', Buffer.from('pay Ann 5')],
      ['later Ann 6', sha256('later Ann 6')],
    ]) {
      const next = items.next()
      assert.equal(await submit(plain, item), sha256(item).toString('hex'))
      const { value } = await next
      assert.deepEqual([value.id, text(value.data)], [id.toString('hex'), item])
      assert.deepEqual(delivered.splice(0), [['transaction', item]])
    }
    const votes = judging.votes.subscribe()
    await plain.votes.submit(utf8('pay a vote'))
    assert.equal(text((await votes.next()).value.data), 'pay a vote')
    assert.deepEqual(delivered, [['vote', 'pay a vote']])
    // The other way too.
    const theirs = plain.transactions.subscribe()
    assert.equal(await submit(judging, 'pay Bob 7'), Buffer.from('pay Bob 7').toString('hex'))
    assert.equal(text((await theirs.next()).value.data), 'pay Bob 7')
  })

  test('makes who sends what it rejects pay', async () => {
    const { plain, judging } = await two()
    const [refused, scored] = [once(judging, 'item:refused'), once(judging, 'peer:score')]
    await submit(plain, 'steal 5')
    assert.deepEqual((await refused).detail, {
      kind: 'transaction',
      source: plain.peerId,
      reason: 'it pays nobody',
    })
    const { peerId, score } = (await scored).detail
    assert.equal(peerId, plain.peerId)
    assert.ok(score < 0)
    await assert.rejects(submit(judging, 'steal 6'), { code: 'rejected', message: /pays nobody/ })
    await assert.rejects(submit(judging, 'what'), { code: 'ignored', message: /says nothing/ })
  })

  test('tells what became of each of many', async () => {
    const { plain, judging } = await two()
    const list = ['pay 1', 'steal 2', 'throw 3', 'pay 1', 'later 5']
    const fates = await judging.transactions.submitAll(list.map(utf8))
    assert.deepEqual(
      fates.map(({ id, error }) => error?.code ?? text(Buffer.from(id, 'hex')).slice(0, 5)),
      ['pay 1', 'rejected', 'ignored', 'duplicate', text(sha256('later 5')).slice(0, 5)],
    )
    assert.ok(fates[1].error instanceof SelkieError)
    assert.match(fates[1].error.message, /pays nobody/)
    assert.deepEqual(await judging.transactions.submitAll([]), [])
    await plain.stop()
    const many = [1, 2, 3].map((number) => utf8(`pay ${number} more`))
    await assert.rejects(judging.transactions.submitAll(many), { code: 'no-peers' })
  })

  test('ignores what the application fails over, says so, and goes on', async () => {
    const validation = { application_timeout: '50ms' }
    const { plain, judging } = await two({}, { config: { protocol: { validation } } })
    const scores = heard(judging, 'peer:score')
    for (const [item, reason] of [
      ['throw 1', /RangeError: out of paper/],
      ['hang 1', /it has not answered within 50 ms/],
      ['garbage 1', /its verdict is "perhaps"/],
    ]) {
      const [refused, failed] = [once(judging, 'item:refused'), once(judging, 'application:error')]
      await submit(plain, item)
      assert.match(
        (await refused).detail.reason,
        new RegExp(`the application failed: .*${reason.source}`),
      )
      const { call, count, reason: told } = (await failed).detail
      assert.deepEqual([call, count], ['checkTransaction', 1])
      assert.match(told, reason)
    }
    const next = judging.transactions.subscribe().next()
    await submit(plain, 'pay Ann 5')
    await next
    assert.deepEqual(scores, [])
  })

  test('ends the waiting of an application that waits for its own node', async () => {
    let judging
    const checkTransaction = async (bytes) => {
      if (text(bytes).startsWith('nest')) await submit(judging, `pay for ${text(bytes)}`)
      return { verdict: 'accept' }
    }
    const protocol = { validation: { application_timeout: '100ms' } }
    const both = await two({ checkTransaction }, { config: { protocol } })
    judging = both.judging
    const numbers = [1, 2, 3, 4, 5, 6, 7, 8]
    const fates = await Promise.allSettled(numbers.map((n) => submit(judging, `nest ${n}`)))
    assert.equal(fates.length, 8)
    assert.equal(await submit(judging, 'free'), sha256('free').toString('hex'))
  })

  test('serves state', async () => {
    const query = async (key, height) => ({ height: height ?? 9n, value: key, proof: HALF })
    const HALF = Uint8Array.of(1, 2)
    const { plain } = await two({ query })
    assert.deepEqual(await plain.state.get(utf8('Ann')), {
      height: 9n,
      value: utf8('Ann'),
      proof: HALF,
    })
    assert.equal((await plain.state.get(utf8('Ann'), { at: 3n })).height, 3n)
    const { plain: other } = await two({ query: () => Promise.reject(new Error('no disk')) })
    await assert.rejects(other.state.get(utf8('Ann')), { code: 'refused' })
  })

  test('is asked what stands behind a peer', async () => {
    let stakeOf
    const asked = new Promise((resolve) => (stakeOf = (peer) => (resolve(peer), 7n)))
    const { plain } = await two({ stakeOf })
    assert.equal(await asked, plain.peerId)
  })

  test('moves blocks by their parts', async () => {
    const chain = (delivered) => ({
      checkTransaction: () => ({ verdict: 'accept' }),
      checkVote: () => ({ verdict: 'accept' }),
      checkBlock: (block) => ({ verdict: 'accept', id: sha256(block.subarray(0, 32)) }),
      checkHeader: (header) => ({ verdict: 'accept', id: sha256(header) }),
      splitBlock: (block) => ({
        header: block.subarray(0, 32),
        transactions: Array.from({ length: (block.length - 32) / 100 }, (_, index) =>
          block.subarray(32 + index * 100, 132 + index * 100),
        ),
      }),
      joinBlock: (header, transactions) => {
        const block = Buffer.concat([header, ...transactions])
        return sha256(block.subarray(32)).equals(header) ? new Uint8Array(block) : undefined
      },
      deliver: ({ kind, data }) => void (kind === 'block' && delivered.push(data.length)),
    })
    const [here, there] = [[], []]
    const { plain, judging } = await two(chain(here), { first: { application: chain(there) } })
    const failures = [heard(plain, 'application:error'), heard(judging, 'application:error')]
    const transactions = [1, 2, 3].map((number) => new Uint8Array(100).fill(number))
    // It has some of them before.
    const known = judging.transactions.subscribe()
    for (const bytes of transactions.slice(0, 2)) await plain.transactions.submit(bytes)
    for (const _ of [1, 2]) await known.next()
    const rest = Buffer.concat(transactions)
    const block = new Uint8Array(Buffer.concat([sha256(rest), rest]))
    const next = judging.blocks.subscribe().next()
    const id = await plain.blocks.submit(block)
    const { value } = await next
    assert.deepEqual([value.id, value.data], [id, block])
    assert.deepEqual([here, there], [[332], [332]])
    assert.deepEqual(failures, [[], []])
  })

  test('runs it in the worker of the node', async (t) => {
    const application = new URL('./fixtures/chain.js', import.meta.url)
    const node = await createNode({ network: NETWORK, run: 'worker', application })
    t.after(() => node.stop())
    await assert.rejects(submit(node, 'steal 5'), { code: 'rejected', message: /pays nobody/ })
    await assert.rejects(submit(node, 'pay Ann 5'), { code: 'no-peers' })
    const failed = once(node, 'application:error')
    await assert.rejects(submit(node, 'throw'), { code: 'ignored', message: /out of paper/ })
    assert.equal((await failed).detail.call, 'checkTransaction')
  })

  test('says why its module is of no use, from the worker too', async () => {
    const application = new URL('data:text/javascript,export default 5')
    for (const run of ['page', 'worker']) {
      await assert.rejects(createNode({ network: NETWORK, run, application }), {
        name: 'LoadError',
        code: 'load',
        message: /has no application/,
      })
    }
  })
})
