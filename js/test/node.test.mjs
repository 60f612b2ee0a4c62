import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { deferred } from '../../tests/support/deferred.mjs'
import {
  ArgumentError,
  ConfigError,
  CrashedError,
  DialError,
  IdentityInUseError,
  SelkieError,
  report,
} from '../dist/errors.js'
import { LocalEngine } from '../dist/engine.js'
import { FakeNode, fakePlatform, never, once, startFake, turn } from './fake.mjs'

/** A store that counts how often it was unlocked. */
function countedIdentity() {
  let released = 0
  const store = { load: async () => Uint8Array.of(1), unlock: async () => void released++ }
  return { openIdentity: async () => store, released: () => released }
}

describe('many transactions', () => {
  test('go in pieces, and the fate of each comes back in order', async () => {
    const { fake, node } = await startFake()
    const report = { code: 'rejected', fatal: false, message: 'no' }
    const sizes = []
    fake.answers.submitAll = (piece) => {
      sizes.push(piece.length)
      if (sizes.length === 2) throw Object.assign(new Error('full'), { code: 'busy', fatal: false })
      return piece.map(([first]) => (first === 0 ? report : { id: String(first) }))
    }
    const list = [1, 0, 2, 3].map((first) => new Uint8Array(500_000).fill(first))
    const fates = await node.transactions.submitAll(list)
    assert.deepEqual(sizes, [2, 2])
    assert.deepEqual(
      fates.map(({ id, error }) => id ?? error.code),
      ['1', 'rejected', 'busy', 'busy'],
    )
    assert.ok(fates.every(({ id, error }) => id || error instanceof SelkieError))
  })

  test('that are none are told before any is sent', async () => {
    const { fake, node } = await startFake()
    for (const list of [5, [new Uint8Array(1), 'a']]) {
      await assert.rejects(node.transactions.submitAll(list), ArgumentError)
    }
    assert.deepEqual(fake.called('submitAll'), [])
  })
})

describe('starting', () => {
  test('maps the options onto the configuration, which keeps what they do not name', async () => {
    const { fake, node } = await startFake({
      network: { id: 'other', genesis: 'ab'.repeat(32), application: 'bitcoin' },
      bootstrap: ['/memory/1'],
      config: {
        network: { max_peers: 3, bootstrap_peers: ['/memory/9'] },
        chain: { network_id: 'lost' },
        protocol: { gossip: true },
      },
    })
    const { identity, ...config } = fake.config
    assert.deepEqual(config, {
      network: { max_peers: 3, bootstrap_peers: ['/memory/1'] },
      chain: { network_id: 'other', genesis: 'ab'.repeat(32), application: 'bitcoin' },
      protocol: { gossip: true },
    })
    assert.equal(identity.length, 68)
    assert.equal(node.peerId, '12D3KooFake')
  })

  test('does not hide the settings of config behind options that were not given', async () => {
    const { fake } = await startFake({
      config: { network: { bootstrap_peers: ['/memory/9'] }, chain: { application: 'bitcoin' } },
    })
    assert.deepEqual(fake.config.network, { bootstrap_peers: ['/memory/9'] })
    assert.equal(fake.config.chain.application, 'bitcoin')
  })

  test('takes every genesis that the file takes', async () => {
    for (const genesis of [undefined, '', '00fF', 'ab'.repeat(64)]) {
      const { fake } = await startFake({ network: { id: 'selkie-dev', genesis } })
      assert.equal(fake.config.chain.genesis, genesis)
    }
    for (const genesis of ['abc', 'ab'.repeat(65), 12, null]) {
      const wrong = startFake({ network: { id: 'selkie-dev', genesis } })
      await assert.rejects(wrong, { message: /network.genesis = .*: give / })
    }
  })

  test('takes an identity from config as it is', async () => {
    const identity = Uint8Array.of(8, 1)
    const { fake } = await startFake({ storage: 'indexeddb', config: { identity } })
    assert.equal(fake.config.identity, identity)
  })

  for (const [field, options] of Object.entries({
    network: { network: '' },
    bootstrap: { bootstrap: '/memory/1' },
    storage: { storage: 'cookie' },
    run: { run: 'iframe' },
    identityInUse: { identityInUse: 'share' },
    log: { log: 'loud' },
    signal: { signal: {} },
    onProgress: { onProgress: 5 },
    'network.genesis': { network: { id: 'selkie-dev', genesis: '0xabc' } },
    config: { config: [] },
    'config.chain': { config: { chain: 'bitcoin' } },
    application: { application: 5 },
    'application.checkBlock': { application: { checkTransaction() {}, checkVote() {} } },
    'network.application': {
      network: { id: 'selkie-dev', application: 'opaque' },
      application: { checkTransaction() {}, checkBlock() {}, checkVote() {} },
    },
  })) {
    test(`a wrong ${field} is named`, async () => {
      await assert.rejects(startFake(options), (error) => {
        assert.ok(error instanceof ConfigError)
        assert.match(error.message, new RegExp(`^config: ${field}( = .*)?: give `))
        return error.code === 'config' && error.fatal
      })
    })
  }

  test('a section that there is not in the configuration is named', async () => {
    await assert.rejects(startFake({ config: { netwrok: {} } }), {
      message:
        'config: config = "netwrok": give only network, chain, protocol, security and identity',
    })
  })

  test('no options at all are an error that says so', async () => {
    await assert.rejects(fakePlatform().createNode(), /config: options = undefined/)
  })

  test('gives back what it took when a later step fails', async () => {
    const { openIdentity, released } = countedIdentity()
    const { createNode, fake } = fakePlatform({ openIdentity })
    fake.answers.start = () => {
      throw Object.assign(new Error('config: network.max_peers = 0: give 1 or more'), {
        code: 'config',
        fatal: true,
      })
    }
    const start = createNode({ network: 'selkie-dev', storage: 'indexeddb' })
    await assert.rejects(start, (error) => error instanceof ConfigError && error.fatal)
    assert.equal(released(), 1)
  })

  test('gives back all that it took, and tells what failed first, though giving back fails', async () => {
    const openIdentity = async () => ({
      load: async () => Uint8Array.of(1),
      unlock: () => Promise.reject(new Error('the disk is gone')),
    })
    const fake = new FakeNode()
    fake.answers.start = () => {
      throw Object.assign(new Error('config: wrong'), { code: 'config', fatal: true })
    }
    let closed = 0
    const engine = async () =>
      Object.assign(new LocalEngine(FakeNode.glue(fake)), {
        close: (release) => (closed++, release()),
      })
    const { createNode } = fakePlatform({ openIdentity, engine })
    const start = createNode({ network: 'selkie-dev', storage: 'indexeddb' })
    await assert.rejects(start, { code: 'config', message: 'config: wrong' })
    assert.equal(closed, 1)
  })

  test('an abort rejects with its reason, and stops a node that starts all the same', async () => {
    const { createNode, fake } = fakePlatform()
    let go
    const asked = new Promise((asked) => {
      fake.answers.start = () => new Promise((resolve) => ((go = resolve), asked()))
    })
    const abort = new AbortController()
    const start = createNode({ network: 'selkie-dev', signal: abort.signal })
    await asked
    abort.abort('enough')
    await assert.rejects(start, (reason) => reason === 'enough')
    assert.equal(fake.stopped, false)
    go()
    await turn()
    assert.equal(fake.stopped, true)
  })

  test('the identity is set free when the node that starts all the same is down', async () => {
    const { openIdentity, released } = countedIdentity()
    const { createNode, fake } = fakePlatform({ openIdentity })
    const [asked, started, stopped] = [0, 1, 2].map(deferred)
    fake.answers.start = () => (asked.resolve(), started.promise)
    fake.answers.stop = () => stopped.promise
    const abort = new AbortController()
    const options = { network: 'selkie-dev', storage: 'indexeddb', signal: abort.signal }
    const start = createNode(options)
    await asked.promise
    abort.abort('enough')
    await assert.rejects(start, (reason) => reason === 'enough')
    started.resolve()
    await turn()
    assert.deepEqual([fake.stopped, released()], [true, 0])
    stopped.resolve()
    await turn()
    assert.equal(released(), 1)
  })

  test('what a chain stores outlasts the node where its identity does', async () => {
    const store = { load: async () => new Uint8Array(68), unlock: async () => {} }
    const taken = async () => {
      throw new IdentityInUseError('identity-in-use', 'another tab has it')
    }
    for (const [options, openIdentity, keeps] of [
      [{ storage: 'memory' }, undefined, false],
      [{ storage: 'indexeddb' }, async () => store, true],
      [{ storage: { directory: '/somewhere' } }, async () => store, false],
      [{ storage: 'indexeddb', identityInUse: 'ephemeral' }, taken, false],
      [{ storage: 'indexeddb', config: { identity: new Uint8Array(68) } }, taken, false],
    ]) {
      const { fake } = await startFake(options, { openIdentity })
      assert.equal(fake.keeps, keeps, JSON.stringify(options))
    }
  })

  test('an abort at each of its steps gives back what was taken, and starts nothing', async () => {
    const steps = ['engine', 'openIdentity', 'load', 'generateIdentity', 'save', 'start']
    for (const aborting of steps) {
      const abort = new AbortController()
      const passed = []
      const step = (name, outcome) => {
        passed.push(name)
        if (name === aborting) abort.abort(name)
        return outcome
      }
      let [unlocked, closed] = [0, 0]
      const store = {
        load: async () => step('load'),
        save: async () => step('save'),
        unlock: async () => void unlocked++,
      }
      const glue = FakeNode.glue()
      const fake = glue.node
      fake.answers.start = async () => step('start')
      const generateIdentity = () => step('generateIdentity', glue.generateIdentity())
      const engine = async () => {
        const engine = new LocalEngine({ ...glue, generateIdentity })
        const close = engine.close.bind(engine)
        engine.close = (release) => (closed++, close(release))
        return step('engine', engine)
      }
      const openIdentity = async () => step('openIdentity', store)
      const { createNode } = fakePlatform({ engine, openIdentity })
      const options = { network: 'selkie-dev', storage: 'indexeddb', signal: abort.signal }
      await assert.rejects(createNode(options), (reason) => reason === aborting)
      await turn()
      assert.deepEqual(passed, steps.slice(0, steps.indexOf(aborting) + 1))
      assert.deepEqual([closed, unlocked], [1, aborting === 'engine' ? 0 : 1], aborting)
      assert.equal(fake.stopped, aborting === 'start')
    }
  })

  test('two at once are two nodes, and the end of one is not that of the other', async () => {
    const engine = async () => new LocalEngine(FakeNode.glue())
    const { createNode } = fakePlatform({ engine })
    const both = [1, 2].map(() => createNode({ network: 'selkie-dev' }))
    const [one, other] = await Promise.all(both)
    await one.stop()
    await assert.rejects(one.peers(), { code: 'stopped' })
    assert.equal(await other.peers(), undefined)
  })

  test('a signal that was aborted before starts nothing', async () => {
    const { createNode, fake } = fakePlatform()
    const start = createNode({ network: 'selkie-dev', signal: AbortSignal.abort() })
    await assert.rejects(start, { name: 'AbortError' })
    assert.equal(fake.config, undefined)
  })
})

describe('calls', () => {
  test('reach the engine with their arguments', async () => {
    const { fake, node } = await startFake()
    const bytes = Uint8Array.of(1, 2)
    fake.answers.submit = () => 'id'
    assert.equal(await node.transactions.submit(bytes), 'id')
    await node.gossip.publish('topic', bytes)
    await node.state.get(bytes, { at: 5n, peer: '12D3KooOther' })
    await node.state.get(bytes, { at: 2n ** 64n - 1n })
    await node.state.get(bytes)
    await node.disconnect('12D3KooOther')
    assert.deepEqual(fake.calls, [
      ['submit', 'transaction', bytes],
      ['publish', 'topic', bytes],
      ['requestState', '12D3KooOther', bytes, 5n],
      ['requestState', undefined, bytes, 2n ** 64n - 1n],
      ['requestState', undefined, bytes, undefined],
      ['disconnect', '12D3KooOther'],
    ])
  })

  test('check their arguments before anything is sent', async () => {
    const { fake, node } = await startFake()
    const wrong = [
      () => node.blocks.submit('0xff'),
      () => node.gossip.publish('', new Uint8Array()),
      ...[5, -1n, 2n ** 64n].map((at) => () => node.state.get(new Uint8Array(), { at })),
      ...['', 5].map((peer) => () => node.state.get(new Uint8Array(), { peer })),
      () => node.dial(undefined),
    ]
    for (const call of wrong) {
      await assert.rejects(call, (error) => error instanceof ArgumentError && /; give /.test(error))
    }
    assert.throws(() => node.gossip.subscribe(7), ArgumentError)
    const key = new Uint8Array(32)
    for (const keys of [undefined, key, [], Array(65).fill(key), [key, 'a key']]) {
      assert.throws(() => node.state.watch(keys), ArgumentError)
    }
    assert.deepEqual(fake.calls, [])
  })

  test('bytes that no configuration would take are refused before they are copied', async () => {
    const { fake, node } = await startFake()
    const [most, over] = [0, 1].map((more) => new Uint8Array(4 * 1024 * 1024 + more))
    const calls = (bytes) => [
      () => node.votes.submit(bytes),
      () => node.gossip.publish('topic', bytes),
      () => node.state.get(bytes),
    ]
    for (const call of calls(over)) {
      await assert.rejects(call, (error) => {
        assert.ok(error instanceof SelkieError)
        assert.match(error.message, /^4194305 bytes are over the limit of 4194304 \(/)
        return error.code === 'too-large' && !error.fatal
      })
    }
    assert.deepEqual(fake.calls, [])
    for (const call of calls(most)) await call()
    assert.equal(fake.calls.length, 3)
  })

  test('errors of the engine arrive as classes by their code', async () => {
    const { fake, node } = await startFake()
    const cause = Object.assign(new Error("can't reach /memory/1"), { code: 'dial', fatal: false })
    fake.answers.dial = () => Promise.reject(cause)
    await assert.rejects(node.dial('/memory/1'), (error) => {
      assert.ok(error instanceof DialError && error instanceof SelkieError)
      assert.equal(error.name, 'DialError')
      return error.code === 'dial' && !error.fatal && error.cause === cause
    })
    fake.answers.peers = () => Promise.reject('a string')
    await assert.rejects(node.peers(), { code: 'internal', message: 'a string' })
  })

  test('an abort ends the waiting with its reason', async () => {
    const { fake, node } = await startFake()
    fake.answers.dial = never
    const abort = new AbortController()
    const dial = node.dial('/memory/1', { signal: abort.signal })
    abort.abort()
    await assert.rejects(dial, { name: 'AbortError' })
    await assert.rejects(node.dial('/memory/2', { signal: abort.signal }), { name: 'AbortError' })
    const [[address, taken], ...others] = fake.called('dial')
    assert.deepEqual([address, others], ['/memory/1', []])
    // The node hears of it, and what is over is not taken back.
    assert.ok(taken instanceof AbortSignal && taken !== abort.signal && taken.aborted)
  })
})

describe("a page's life", () => {
  /** A node in a page that is told so. */
  async function inPage() {
    const scope = Object.assign(new EventTarget(), { document: new EventTarget() })
    const started = await startFake({}, { scope })
    const told = []
    for (const type of ['network:offline', 'network:online', 'node:freeze', 'node:resume']) {
      started.node.addEventListener(type, () => told.push(type))
    }
    const happens = (type, fields = {}, target = scope) =>
      target.dispatchEvent(Object.assign(new Event(type), fields))
    return { ...started, scope, told, happens }
  }

  test('is told, and connections are looked at when what may have ended them is over', async () => {
    const { fake, node, told, happens } = await inPage()
    happens('offline')
    assert.deepEqual([told, fake.called('wake').length], [['network:offline'], 0])
    happens('online')
    await turn()
    assert.deepEqual([told.at(-1), fake.called('wake').length], ['network:online', 1])
    await node.stop()
    happens('online')
    assert.equal(told.length, 2)
  })

  test('on ice is told once, whichever way it is told', async () => {
    const { fake, node, scope, told, happens } = await inPage()
    happens('pagehide', { persisted: true })
    happens('freeze', {}, scope.document)
    happens('resume', {}, scope.document)
    happens('pageshow', { persisted: true })
    // The page's own beginning and end are none.
    happens('pageshow', { persisted: false })
    happens('pagehide', { persisted: false })
    await turn()
    assert.deepEqual([told, fake.called('wake').length], [['node:freeze', 'node:resume'], 1])
    await node.stop()
  })

  test('goes on though the node can do nothing about it', async () => {
    const { fake, node, happens } = await inPage()
    fake.answers.wake = () => Promise.reject(new Error('not now'))
    happens('online')
    await turn()
    assert.equal(await node.peers(), undefined)
    await node.stop()
  })
})

describe('events', () => {
  test('come in order, also those from before createNode resolved', async () => {
    const { fake, createNode } = fakePlatform()
    fake.events.push({ type: 'peer:connect', peerId: 'a', address: '/memory/1' })
    const node = await createNode({ network: 'selkie-dev' })
    const seen = []
    node.addEventListener('peer:connect', ({ detail }) => seen.push(['connect', detail]))
    node.addEventListener('peer:disconnect', ({ detail }) => seen.push(['disconnect', detail]))
    const lagged = once(node, 'lagged')
    fake.events.push({ type: 'peer:disconnect', peerId: 'a', reason: 'bye' })
    fake.events.push({ type: 'lagged', missed: 2 })
    assert.deepEqual((await lagged).detail, { missed: 2 })
    assert.deepEqual(seen, [
      ['connect', { peerId: 'a', address: '/memory/1' }],
      ['disconnect', { peerId: 'a', reason: 'bye' }],
    ])
  })
})

test('peers that were found together are an event each', async () => {
  const { fake, node } = await startFake()
  const found = []
  node.addEventListener('peer:discovered', ({ detail }) => found.push(detail.peerId))
  const lagged = once(node, 'lagged')
  fake.events.push({ type: 'peer:discovered', peers: [{ peerId: 'a' }, { peerId: 'b' }] })
  fake.events.push({ type: 'lagged', missed: 1 })
  await lagged
  assert.deepEqual(found, ['a', 'b'])
})

describe('the end', () => {
  test('stop ends iterators, rejects what is pending, tells once and releases', async () => {
    const { openIdentity, released } = countedIdentity()
    const { fake, node } = await startFake({ storage: 'indexeddb' }, { openIdentity })
    fake.answers.dial = never
    let told = 0
    node.addEventListener('node:stop', ({ detail }) => {
      assert.deepEqual(detail, {})
      told++
    })
    const next = node.blocks.subscribe().next()
    const dial = assert.rejects(node.dial('/memory/1'), { code: 'stopped', fatal: true })
    await Promise.all([node.stop(), node.stop()])
    assert.deepEqual(await next, { done: true, value: undefined })
    await dial
    await assert.rejects(node.peers(), { code: 'stopped' })
    assert.deepEqual(await node.votes.subscribe().next(), { done: true, value: undefined })
    assert.deepEqual([told, released(), fake.stopped], [1, 1, true])
  })

  test('the last events are told before it is over', async () => {
    const { fake, node } = await startFake()
    const told = []
    for (const type of ['peer:disconnect', 'node:stop']) {
      node.addEventListener(type, () => told.push(type))
    }
    const stop = fake.stop
    fake.stop = () => {
      for (const peerId of ['a', 'b', 'c']) fake.events.push({ type: 'peer:disconnect', peerId })
      return stop()
    }
    await node.stop()
    assert.deepEqual(told, [...Array(3).fill('peer:disconnect'), 'node:stop'])
  })

  test('one that does not stop is left to itself after ten seconds', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { openIdentity, released } = countedIdentity()
    const { fake, node } = await startFake({ storage: 'indexeddb' }, { openIdentity })
    t.mock.timers.tick(1)
    fake.answers.stop = fake.answers.dial = never
    const over = once(node, 'node:stop')
    const stop = node.stop()
    const dial = assert.rejects(node.dial('/memory/1'), { code: 'stopped' })
    t.mock.timers.tick(10_000)
    await stop
    const { detail } = await over
    assert.deepEqual([detail.error.code, detail.error.fatal], ['timeout', true])
    // It may still be the peer of that name.
    assert.equal(released(), 0)
    await dial
  })

  test('await using stops', async () => {
    const { fake, node } = await startFake()
    await node[Symbol.asyncDispose]()
    assert.equal(fake.stopped, true)
  })

  test('a node that ends by itself is as one that was stopped', async () => {
    const { fake, node } = await startFake()
    const stop = once(node, 'node:stop')
    await fake.stop()
    await stop
    await assert.rejects(node.metrics(), { code: 'stopped' })
  })

  test('a crash rejects all that is pending and all that comes later', async () => {
    const { crash, fake, node } = await startFake()
    fake.answers.dial = never
    const stop = once(node, 'node:stop')
    const blocks = node.blocks.subscribe()
    const pending = [node.dial('/memory/1'), blocks.next()]
    await turn()
    crash()
    for (const promise of pending) {
      await assert.rejects(promise, (error) => {
        assert.ok(error instanceof CrashedError)
        return (
          error.code === 'crashed' &&
          error.fatal &&
          /panicked at a fake.*reload/.test(error.message)
        )
      })
    }
    assert.ok((await stop).detail.error instanceof CrashedError)
    await assert.rejects(node.peers(), { code: 'crashed' })
    await assert.rejects(node.votes.subscribe().next(), { code: 'crashed' })
    assert.deepEqual(await blocks.next(), { done: true, value: undefined })
    await node.stop()
  })

  test('a crash stops what still runs, and sets the identity free when that is down', async () => {
    const { openIdentity, released } = countedIdentity()
    const { crash, fake, node } = await startFake({ storage: 'indexeddb' }, { openIdentity })
    const down = deferred()
    fake.answers.stop = () => down.promise
    const stop = once(node, 'node:stop')
    crash()
    assert.ok((await stop).detail.error instanceof CrashedError, 'told at once')
    await node.stop()
    assert.deepEqual([fake.stopped, released()], [true, 0])
    down.resolve()
    await turn()
    assert.equal(released(), 1)
  })

  test('a node whose store fails as it is stopped sets its identity free, and says so', async () => {
    const { openIdentity, released } = countedIdentity()
    const { fake, node } = await startFake({ storage: 'indexeddb' }, { openIdentity })
    const reasons = [
      ['storage-full', 'the disk is full'],
      ['storage', 'it is closed'],
    ]
    fake.answers.stop = () => {
      const [code, reason] = reasons.shift()
      return Promise.reject(Object.assign(new Error(reason), { code, fatal: false }))
    }
    const told = once(node, 'node:stop')
    await assert.rejects(node.stop(), { name: 'StorageError', code: 'storage-full' })
    assert.equal((await told).detail.error.code, 'storage-full')
    assert.equal(reasons.length, 1, 'it is stopped once')
    assert.equal(released(), 1)
  })

  test('a node that traps as it is stopped keeps its identity until the page ends', async () => {
    const { openIdentity, released } = countedIdentity()
    const { crash, fake, node } = await startFake({ storage: 'indexeddb' }, { openIdentity })
    fake.answers.stop = () => Promise.reject(new WebAssembly.RuntimeError('unreachable'))
    const stop = once(node, 'node:stop')
    crash()
    await stop
    await turn()
    assert.deepEqual([fake.stopped, released()], [true, 0])
  })

  test('a trap inside a call is a crash too', async () => {
    const { fake, node } = await startFake()
    fake.answers.dial = never
    fake.answers.peers = () => Promise.reject(new WebAssembly.RuntimeError('unreachable'))
    const dial = assert.rejects(node.dial('/memory/1'), { code: 'crashed' })
    await assert.rejects(node.peers(), { code: 'crashed', fatal: true })
    await dial
  })

  test('a crash of one node on a page is the end of all others there', async () => {
    const sharers = new Set()
    const start = () => {
      const { fake, createNode } = fakePlatform({
        engine: async () => new LocalEngine(glue, sharers),
      })
      const glue = { ...FakeNode.glue(fake) }
      return createNode({ network: 'selkie-dev' }).then((node) => ({ fake, node }))
    }
    const [one, other] = [await start(), await start()]
    other.fake.answers.dial = never
    const dial = assert.rejects(other.node.dial('/memory/1'), { code: 'crashed' })
    one.fake.answers.peers = () => Promise.reject(new WebAssembly.RuntimeError('unreachable'))
    await assert.rejects(one.node.peers(), { code: 'crashed' })
    await dial
    assert.equal(sharers.size, 0)
  })

  test('a crash while starting rejects createNode', async () => {
    const { createNode, crash, fake } = fakePlatform()
    const asked = new Promise((asked) => {
      fake.answers.start = () => (asked(), never())
    })
    const start = createNode({ network: 'selkie-dev' })
    await asked
    crash()
    await assert.rejects(start, { code: 'crashed' })
  })
})

test('a code that is the platform’s is none of ours', () => {
  const code = (code) => report(Object.assign(new Error('no'), { code })).code
  assert.deepEqual(['ERR_WORKER_PATH', 'EACCES', 18, 'dial'].map(code), [
    'internal',
    'internal',
    'internal',
    'dial',
  ])
})
