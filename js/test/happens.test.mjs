/**
 * Each event and each code of the contract that two nodes of the real WebAssembly can bring about in Node happens here. Of the others it is
 * looked at that a file names them: a test in a page, where it takes a browser's storage or life; and where it takes a chain that goes
 * on or a peer that lies, a test of the native node, or what such tests wait by, whose Rust is the same, but not its way through the WebAssembly. A few happen in no test (`UNSEEN`).
 */

import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createNode, SelkieError } from '../dist/nodejs.js'
import { errorCodes, fields } from './contract.mjs'
import { once } from './fake.mjs'

const NETWORK = 'pay-chain'
const PROTOCOL = '/happens/1'
const NOBODY = '12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'
const utf8 = (text) => new TextEncoder().encode(text)
const never = () => new Promise(() => {})

/** By the first word. */
function judge(bytes) {
  const [word] = new TextDecoder().decode(bytes).split(' ')
  if (word === 'throw') throw new RangeError('out of paper')
  return { verdict: { steal: 'reject', what: 'ignore' }[word] ?? 'accept' }
}
const application = { checkTransaction: judge, checkBlock: judge, checkVote: judge }

const nodes = []
let ports = 4500
after(() => Promise.all(nodes.map((node) => node.stop())))

async function node(options = {}) {
  const node = await createNode({ network: NETWORK, ...options })
  nodes.push(node)
  return node
}

const address = () => `/memory/${(ports += 1)}`
const listening = (address) => ({ network: { listen_addresses: [address] } })

/** Two nodes with a connection, the second of which has dialled the first. */
async function two(first = {}, second = {}) {
  const at = address()
  const one = await node({ ...first, config: { ...listening(at), ...first.config } })
  const other = await node(second)
  const connects = once(one, 'peer:connect')
  await other.dial(at)
  await connects
  return [one, other, at]
}

/** A folder of a test's own. */
async function folder(t) {
  const directory = await mkdtemp(join(tmpdir(), 'selkie-happens-'))
  t.after(() => rm(directory, { recursive: true }))
  return directory
}

/** What a node tells that follows a ledger and has met another one. */
async function syncs(type) {
  const at = address()
  const network = { id: 'ledgers', application: 'ledger' }
  await node({ network, config: listening(at) })
  const one = await node({ network })
  const told = once(one, type)
  await one.dial(at)
  return told
}

const submit = (node, text) => node.transactions.submit(utf8(text))

/** Each resolves when its event has come. */
const EVENTS = {
  async 'peer:connect'() {
    const at = address()
    const one = await node({ config: listening(at) })
    const other = await node({ bootstrap: [`${at}/p2p/${one.peerId}`] })
    return once(other, 'peer:connect')
  },
  async 'peer:identify'() {
    const at = address()
    await node({ config: listening(at) })
    const other = await node()
    const identified = once(other, 'peer:identify')
    await other.dial(at)
    return identified
  },
  async 'peer:disconnect'() {
    const [one, other] = await two()
    const gone = once(one, 'peer:disconnect')
    await other.disconnect(one.peerId)
    return gone
  },
  async 'peer:refused'() {
    const at = address()
    const one = await node({ config: listening(at) })
    const refused = once(one, 'peer:refused')
    const stranger = await node({ network: 'elsewhere' })
    await stranger.dial(at).catch(() => {})
    return refused
  },
  async 'peer:score'() {
    const [one, other] = await two({ application })
    const scored = once(one, 'peer:score')
    await submit(other, 'steal 1')
    return scored
  },
  async 'item:refused'() {
    const [one, other] = await two({ application })
    const refused = once(one, 'item:refused')
    await submit(other, 'steal 2')
    return refused
  },
  async 'application:error'() {
    const one = await node({ application })
    const failed = once(one, 'application:error')
    await submit(one, 'throw').catch(() => {})
    return failed
  },
  async 'protocol:error'() {
    const [one, other] = await two()
    await one.handle(PROTOCOL, () => Promise.reject(new Error('no paper')))
    const failed = once(one, 'protocol:error')
    await other.open(one.peerId, PROTOCOL)
    return failed
  },
  async 'identity:ephemeral'(t) {
    const storage = { directory: await folder(t) }
    const first = await node({ storage })
    const second = await node({ storage, identityInUse: 'ephemeral' })
    await once(second, 'identity:ephemeral')
    await Promise.all([first.stop(), second.stop()])
  },
  async 'book:lost'(t) {
    const directory = await folder(t)
    await writeFile(join(directory, 'identity.key.book'), 'something else')
    const one = await node({ storage: { directory } })
    await once(one, 'book:lost')
    await one.stop()
  },
  async 'dial:error'() {
    const one = await node({ bootstrap: [`/memory/1/p2p/${NOBODY}`] })
    return once(one, 'dial:error')
  },
  'sync:progress': () => syncs('sync:progress'),
  'sync:done': () => syncs('sync:done'),
  async log() {
    return once(await node({ config: listening(address()) }), 'log')
  },
  async 'node:stop'() {
    const one = await node()
    const stopped = once(one, 'node:stop')
    await one.stop()
    return stopped
  },
}

const LIFECYCLE = 'tests/browser/lifecycle.test.mjs'
const INDEXED_DB = 'src/storage/indexed_db/tests.rs'

/** Where those happen that are not here, and under which name. */
const EVENTS_ELSEWHERE = {
  'network:offline': [LIFECYCLE],
  'network:online': ['tests/browser/endings.test.mjs'],
  'node:freeze': [LIFECYCLE],
  'node:resume': [LIFECYCLE],
  'node:wake': [LIFECYCLE],
  lagged: ['src/web/node/tests.rs'],
  'gossip:impaired': ['tests/integration/gossip.rs', 'GossipImpaired'],
  'peer:discovered': ['tests/integration/records.rs', 'PeersDiscovered'],
  'eclipse:suspected': ['src/network/task/tests.rs', 'EclipseSuspected'],
  'snapshot:taken': ['src/test_utils/node.rs', 'SnapshotTaken'],
  'snapshot:none': ['src/test_utils/node.rs', 'NoSnapshot'],
  'state:unverified': ['tests/integration/watching.rs', 'StateUnverified'],
}

/** Each resolves to a call that fails by its code. */
const CODES = {
  async broken() {
    const [one, other] = await two({ application: { ...application, query: never } })
    const asked = other.state.get(utf8('Ann'))
    asked.catch(() => {})
    await one.stop()
    return asked
  },
  async busy() {
    const [one, other] = await two()
    await one.handle(PROTOCOL, never)
    for (let count = 0; count < 16; count += 1) await other.open(one.peerId, PROTOCOL)
    return other.open(one.peerId, PROTOCOL)
  },
  config: () => node({ config: { network: { max_peers: 0 } } }),
  dial: async () => (await node()).dial('/memory/1'),
  async duplicate() {
    const [, other] = await two()
    await submit(other, 'pay 1')
    return submit(other, 'pay 1')
  },
  empty: async () => (await node()).transactions.submit(new Uint8Array()),
  identity: () => node({ config: { identity: Uint8Array.of(1, 2, 3) } }),
  async 'identity-in-use'(t) {
    const storage = { directory: await folder(t) }
    const first = await node({ storage })
    t.after(() => first.stop())
    return node({ storage })
  },
  ignored: async () => submit(await node({ application }), 'what'),
  'invalid-address': async () => (await node()).dial('nonsense'),
  'invalid-argument': async () => (await node()).protect(NOBODY, ''),
  'invalid-peer-id': async () => (await node()).disconnect('nobody'),
  async listen() {
    const at = address()
    await node({ config: listening(at) })
    return node({ config: listening(at) })
  },
  load: () => node({ wasm: { glue: new URL('file:///nowhere.js') } }),
  'no-peers': async () => submit(await node(), 'pay 1'),
  'not-connected': async () => (await node()).open(NOBODY, PROTOCOL),
  'not-offered': async () => (await node()).state.watch([utf8('Ann')]).next(),
  async refused() {
    const query = () => Promise.reject(new Error('no disk'))
    const [, other] = await two({ application: { ...application, query } })
    return other.state.get(utf8('Ann'))
  },
  rejected: async () => submit(await node({ application }), 'steal 3'),
  async reset() {
    const [one, other] = await two()
    await one.handle(PROTOCOL, (stream) => stream.abort())
    const { readable } = await other.open(one.peerId, PROTOCOL)
    return readable.getReader().read()
  },
  async stopped() {
    const one = await node()
    await one.stop()
    return one.peers()
  },
  async storage(t) {
    const directory = join(await folder(t), 'a file')
    await writeFile(directory, '')
    return node({ storage: { directory } })
  },
  async timeout() {
    const protocol = { request_response_config: { request_timeout: '100ms' } }
    const [, other] = await two(
      { application: { ...application, query: never } },
      { config: { protocol } },
    )
    return other.state.get(utf8('Ann'))
  },
  'too-large': async () => (await node()).transactions.submit(new Uint8Array((4 << 20) + 1)),
  async 'too-many-subscriptions'() {
    const one = await node()
    for (let count = 0; count < 200; count += 1) one.blocks.subscribe()
    return one.blocks.subscribe().next()
  },
  async unsupported() {
    const [one, other] = await two()
    return other.open(one.peerId, '/nobody/1')
  },
}

const CODES_ELSEWHERE = {
  crashed: ['js/test/trap.test.mjs'],
  forged: ['tests/browser/ledger.test.mjs'],
  internal: ['js/test/bridge.test.mjs'],
  'storage-locked': ['tests/browser/ledger.test.mjs'],
  'storage-busy': [INDEXED_DB, 'Busy'],
  'storage-damaged': [INDEXED_DB, 'Damaged'],
  'storage-foreign': [INDEXED_DB, 'Foreign'],
  'storage-full': [INDEXED_DB, 'Full'],
  'storage-version': [INDEXED_DB, 'Version'],
  'invalid-message': ['tests/integration/hostile.rs'],
  unproven: ['tests/integration/sync.rs', 'Unproven'],
  // What no call of this package can run into, unless something else is wrong: it starts a node once, asks nobody for nothing, and looks
  // itself whether the node runs.
  'already-started': ['tests/integration/lifecycle.rs', 'AlreadyStarted'],
  'not-running': ['tests/integration/calls.rs', 'NotRunning'],
}

/** What takes a moment that no test can hit, or a fault that none can make. */
const UNSEEN_EVENTS = ['snapshot:progress']
const UNSEEN_CODES = ['network', 'not-broadcastable', 'not-sent', 'transport']

for (const [type, happens] of Object.entries(EVENTS)) {
  test(`the event ${type} happens`, happens)
}

for (const [code, happens] of Object.entries(CODES)) {
  test(`the code ${code} happens`, async (t) => {
    const error = await happens(t).then(
      () => assert.fail('it did not fail'),
      (error) => error,
    )
    assert.ok(error instanceof SelkieError, String(error))
    assert.equal(error.code, code, error.message)
  })
}

for (const [what, contract, here, elsewhere, unseen] of [
  ['event', fields('NodeEvents'), EVENTS, EVENTS_ELSEWHERE, UNSEEN_EVENTS],
  ['code', errorCodes(), CODES, CODES_ELSEWHERE, UNSEEN_CODES],
]) {
  test(`no ${what} of the contract is left out`, async () => {
    for (const [name, [file, there = name]] of Object.entries(elsewhere)) {
      const text = await readFile(new URL(`../../${file}`, import.meta.url), 'utf8')
      assert.ok(text.includes(there), `${name} in ${file}`)
    }
    const seen = [...Object.keys(here), ...Object.keys(elsewhere), ...unseen]
    assert.deepEqual(seen.sort(), contract.toSorted())
  })
}
