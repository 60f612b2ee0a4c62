/** What a user's application does, and what the node is told of it. */

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { openApplication } from '../dist/application.js'
import { ConfigError, LoadError } from '../dist/errors.js'
import { never, startFake, turn } from './fake.mjs'

// The deadline of a call keeps no process up; the node does that elsewhere.
const up = setInterval(() => {}, 1000)
after(() => clearInterval(up))

const accept = () => ({ verdict: 'accept' })
const HASH = new Uint8Array(32).fill(9)

/** An application with these methods beside those that it needs, as the node asks it; late after 20 ms. */
async function hostOf(methods) {
  const application = { checkTransaction: accept, checkBlock: accept, checkVote: accept }
  const host = await openApplication({ ...application, ...methods })
  host.timeout = 20
  return host
}

/** What is said to these transactions, each of one byte and to be delivered. */
async function said(methods, transactions, call = 'checkTransaction') {
  const host = await hostOf(methods)
  const items = transactions.map((byte) => Uint8Array.of(byte))
  const keys = new Uint8Array(32 * items.length).fill(9)
  const answers = await host.ask(call, [items, keys, new Uint8Array(items.length).fill(1)])
  assert.ok(answers instanceof Uint8Array, String(answers))
  return decoded(answers)
}

function decoded(bytes) {
  const view = new DataView(bytes.buffer)
  const answers = []
  for (let at = 0; at < bytes.length;) {
    const verdict = ['accept', 'ignore', 'reject', 'failed'][bytes[at]]
    const id = [...bytes.slice(at + 2, at + 2 + bytes[at + 1])]
    at += 2 + id.length
    const fee = bytes[at] === 1 ? view.getBigUint64(at + 1, true) : undefined
    at += fee === undefined ? 1 : 9
    const end = at + 2 + view.getUint16(at, true)
    answers.push({ verdict, id, fee, reason: new TextDecoder().decode(bytes.slice(at + 2, end)) })
    at = end
  }
  return answers
}

describe('items', () => {
  test('are answered in their order, by values and by promises', async () => {
    const id = Uint8Array.of(1, 2, 3)
    const answers = await said(
      {
        checkTransaction: ([number]) => {
          id[0] = number
          const answer = {
            verdict: ['accept', 'ignore', 'reject'][number],
            id,
            fee: BigInt(number),
          }
          if (number === 1) return Promise.resolve({ ...answer, reason: 'it is olD ✓' })
          return answer
        },
      },
      [2, 1, 0],
    )
    assert.deepEqual(answers, [
      { verdict: 'reject', id: [2, 2, 3], fee: 2n, reason: '' },
      { verdict: 'ignore', id: [0, 2, 3], fee: 1n, reason: 'it is olD ✓' },
      { verdict: 'accept', id: [0, 2, 3], fee: 0n, reason: '' },
    ])
  })

  test('come with their hash, and keep it as their id where the chain gives none', async () => {
    const [answer] = await said(
      { checkTransaction: (_, hash) => (assert.deepEqual(hash, HASH), { verdict: 'accept' }) },
      [1],
    )
    assert.deepEqual(answer, { verdict: 'accept', id: [], fee: undefined, reason: '' })
  })

  test('are delivered once each when they are accepted, and before the answer', async () => {
    const delivered = []
    const methods = {
      checkVote: ([number]) => {
        const answer = { verdict: number % 2 ? 'accept' : 'reject' }
        return number > 2 ? Promise.resolve(answer) : answer
      },
      deliver: async ({ kind, data }) => {
        await turn()
        delivered.push([kind, ...data])
      },
    }
    const answers = await said(methods, [1, 2, 3, 4], 'checkVote')
    assert.deepEqual(
      answers.map(({ verdict }) => verdict),
      ['accept', 'reject', 'accept', 'reject'],
    )
    assert.deepEqual(delivered.sort(), [
      ['vote', 1],
      ['vote', 3],
    ])
  })

  const wrong = {
    'throws an error': () => {
      throw new RangeError('no')
    },
    'throws what can not be shown': () => {
      throw Object.create(null)
    },
    rejects: () => Promise.reject(new RangeError('no')),
    'rejects without a reason': () => Promise.reject(),
    'says nothing': () => {},
    'says null': () => null,
    'has no verdict': () => ({ id: HASH }),
    'has another verdict': () => ({ verdict: 'Accept' }),
    'has an id of 65 bytes': () => ({ verdict: 'accept', id: new Uint8Array(65) }),
    'has an id of no bytes': () => ({ verdict: 'reject', id: new Uint8Array() }),
    'has a text as its id': () => ({ verdict: 'accept', id: 'ab' }),
    'has a fee below 0': () => ({ verdict: 'accept', fee: -1n }),
    'has a broken fee': () => ({ verdict: 'accept', fee: 1.5 }),
    'has a fee of 2 ** 64': () => ({ verdict: 'accept', fee: 2n ** 64n }),
    'has a number as its reason': () => ({ verdict: 'reject', reason: 5 }),
    'throws when it is looked at': () => ({
      get verdict() {
        throw new Error('no')
      },
    }),
    'throws as a promise': () => ({
      get then() {
        throw new Error('no')
      },
    }),
    'is never there': never,
    'transfers its bytes, and answers with them': (bytes) => {
      structuredClone(bytes, { transfer: [bytes.buffer] })
      return { verdict: 'accept', id: bytes }
    },
  }
  for (const [what, checkTransaction] of Object.entries(wrong)) {
    test(`are ignored where the answer ${what}, and others are not`, async () => {
      const methods = {
        checkTransaction: (bytes) => (bytes[0] ? checkTransaction(bytes) : accept()),
      }
      const [before, failed, next] = await said(methods, [0, 1, 0])
      assert.deepEqual([before.verdict, next.verdict], ['accept', 'accept'])
      assert.equal(failed.verdict, 'failed')
      assert.match(failed.reason, /\w/)
    })
  }

  test('are ignored where their delivery fails', async () => {
    for (const deliver of [wrong['throws an error'], wrong.rejects, wrong['is never there']]) {
      const [answer] = await said({ deliver }, [1])
      assert.equal(answer.verdict, 'failed')
    }
  })

  test('that are accepted too late are not delivered, and what settles twice counts once', async () => {
    let delivered = 0
    let settle
    const twice = { then: (resolve) => (settle = () => (resolve(accept()), resolve(accept()))) }
    const methods = { checkTransaction: () => twice, deliver: () => void delivered++ }
    const [late] = await said(methods, [1])
    assert.equal(late.verdict, 'failed')
    assert.match(late.reason, /within 20 ms \(protocol.validation.application_timeout\)/)
    settle()
    await turn()
    assert.equal(delivered, 0)
  })

  test('give way to the page while they are many', async () => {
    let turns = 0
    const checkTransaction = () => {
      for (const end = performance.now() + 1; performance.now() < end;);
      return accept()
    }
    const channel = new MessageChannel()
    channel.port1.onmessage = () => {
      turns += 1
      channel.port2.postMessage(0)
    }
    channel.port2.postMessage(0)
    await said({ checkTransaction }, new Array(40).fill(1))
    channel.port1.close()
    assert.ok(turns >= 2, `${turns} turns`)
  })

  test('keep a long reason to its first thousand characters', async () => {
    const reason = 'x'.repeat(5000)
    const [answer] = await said({ checkTransaction: () => ({ verdict: 'reject', reason }) }, [1])
    assert.equal(answer.reason.length, 1000)
  })
})

describe('blocks', () => {
  const block = () => Uint8Array.of(1, 2, 3, 4, 5)

  test('are taken apart into places of their own bytes', async () => {
    const splitBlock = async (block) => ({
      header: block.subarray(0, 2),
      transactions: [block.subarray(2, 3), block.subarray(3)],
    })
    const host = await hostOf({ splitBlock })
    assert.ok(host.has('splitBlock') && !host.has('joinBlock'))
    assert.deepEqual([...(await host.ask('splitBlock', [block()]))], [0, 2, 2, 3, 3, 5])
  })

  test('that are no block are told apart from what fails', async () => {
    assert.equal(
      await (await hostOf({ splitBlock: () => {} })).ask('splitBlock', [block()]),
      undefined,
    )
    assert.equal(
      await (await hostOf({ joinBlock: () => {} })).ask('joinBlock', [block(), []]),
      undefined,
    )
    const failing = {
      splitBlock: [
        (block) => ({ header: block.slice(0, 2), transactions: [] }),
        (block) => ({ header: block.subarray(0, 2) }),
        (block) => ({ header: block, transactions: [5] }),
        (block) => {
          structuredClone(block, { transfer: [block.buffer] })
          return { header: block, transactions: [] }
        },
        () => null,
        never,
      ],
      joinBlock: [() => null, () => 'ab', () => new Uint8Array(5 * 1024 * 1024), never],
      query: [
        () => ({ height: -1n, value: block() }),
        () => ({ height: 1n }),
        () => ({ height: 1n, value: block(), proof: 'yes' }),
      ],
      deliver: [() => Promise.reject(new Error('no'))],
    }
    for (const [call, methods] of Object.entries(failing)) {
      for (const method of methods) {
        const host = await hostOf({ [call]: method })
        const args = call === 'deliver' ? ['block', block()] : [block(), []]
        const answer = await host.ask(call, args)
        assert.equal(typeof answer, 'string', `${call} ${method}`)
      }
    }
  })

  test('have a header that is accepted under their id only', async () => {
    const ask = async (answer) => {
      const host = await hostOf({ checkHeader: () => answer })
      return decoded(await host.ask('checkHeader', [[block()], NONE, Uint8Array.of(0)]))[0].verdict
    }
    const NONE = new Uint8Array()
    assert.equal(await ask({ verdict: 'accept', id: HASH }), 'accept')
    assert.equal(await ask({ verdict: 'reject' }), 'reject')
    assert.equal(await ask({ verdict: 'accept' }), 'failed')
  })

  test('and state go over as they are', async () => {
    const methods = {
      joinBlock: (header, transactions) =>
        Uint8Array.of(...header, ...transactions.flatMap((t) => [...t])),
      query: (key, height) => ({ height: height ?? 7, value: key }),
    }
    const host = await hostOf(methods)
    const parts = [Uint8Array.of(1), [Uint8Array.of(2, 3), Uint8Array.of(4)]]
    assert.deepEqual([...(await host.ask('joinBlock', parts))], [1, 2, 3, 4])
    const state = [Uint8Array.of(1), new Uint8Array()]
    assert.deepEqual(await host.ask('query', [state[0], undefined]), [7n, ...state])
    assert.deepEqual(await host.ask('query', [state[0], 2n]), [2n, ...state])
  })

  test('and so does a stake', async () => {
    const stakes = { Ann: 5n, Bob: 2 ** 40, Eve: -1n }
    const host = await hostOf({ stakeOf: async (peer) => stakes[peer] })
    assert.equal(await host.ask('stakeOf', ['Ann']), 5n)
    assert.equal(await host.ask('stakeOf', ['Bob']), 2n ** 40n)
    for (const peer of ['Eve', 'nobody']) {
      assert.match(await host.ask('stakeOf', [peer]), /its stake is .*; give a bigint/)
    }
  })
})

describe('an application', () => {
  const module = (text) => new URL(`data:text/javascript,${encodeURIComponent(text)}`)
  const body = '{ checkTransaction() {}, checkBlock() {}, checkVote() {} }'

  test('is handed to the node where it runs', async () => {
    class Chain {
      checks = 0
      checkTransaction() {
        this.checks += 1
        return accept()
      }
      checkBlock() {}
      checkVote() {}
    }
    const application = new Chain()
    const { fake } = await startFake({ application })
    await fake.application.ask('checkTransaction', [[HASH], HASH, Uint8Array.of(0)])
    assert.equal(application.checks, 1)
  })

  test('is loaded from its module, which may make it', async () => {
    for (const text of [
      `export default ${body}`,
      `export default async () => (${body})`,
      `class Chain ${body.replaceAll('},', '}')}; export default () => new Chain()`,
    ]) {
      const { fake } = await startFake({ application: module(text) })
      assert.ok(fake.application.has('checkVote'))
    }
  })

  test('that can not be loaded is an error that says so', async () => {
    for (const [text, message] of [
      ['export default 5', /has no application: its default export/],
      ['export const application = {}', /has no application/],
      ['export default () => { throw new Error("no database") }', /no database/],
      ['import "nowhere"', /can't load the application data:/],
    ]) {
      const start = startFake({ application: module(text) })
      await assert.rejects(
        start,
        (error) => error instanceof LoadError && message.test(error.message),
      )
    }
    const start = startFake({ application: module('export default {}') })
    await assert.rejects(start, (error) => error instanceof ConfigError)
  })

  test('that runs in a worker is given as a module', async () => {
    const application = { checkTransaction: accept, checkBlock: accept, checkVote: accept }
    await assert.rejects(startFake({ run: 'worker', application }), {
      code: 'config',
      message: /application = .*: give the URL of its module/,
    })
  })
})
