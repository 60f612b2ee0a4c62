/** The hand-written contract against what the WebAssembly hands over: nothing is promised in vain or kept back. */

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { configTypes, sections } from '../config-types.mjs'
import { createNode } from '../dist/nodejs.js'
import { WasmNode } from '../dist/selkie.js'
import { developmentAccount } from '../../tests/support/ledger.mjs'
import { contract, errorCodes, fields } from './contract.mjs'
import { FakeNode, once, turn } from './fake.mjs'

const surface = await readFile(new URL('../../src/web/convert.rs', import.meta.url), 'utf8')

/** The same, also of those that may be left out. */
function optional(name) {
  const [, body] = contract.match(new RegExp(`export interface ${name} \\{\n(.*?)\n\\}`, 's'))
  return [...body.matchAll(/^ {2}(\w+)\??:/gm)].map(([, field]) => field)
}

test('a node has all the figures of the contract, and no others', async () => {
  const node = await createNode({ network: 'selkie-dev' })
  const names = Object.entries(await node.metrics()).flatMap(([outer, figures]) =>
    Object.keys(figures).map((inner) => `${outer}.${inner}`),
  )
  await node.stop()
  assert.deepEqual(names, fields('Metrics'))
})

test('how far a chain is has the fields of the contract, and no others', async () => {
  const [, body] = surface.match(/fn sync\(status.*?\{\n(.*?)\n\}/s)
  const [snapshot, status] = body
    .split(/^ {4}object/m)
    .map((part) => [...part.matchAll(/"(\w+)",/g)].map(([, name]) => name))
  assert.deepEqual(snapshot, optional('SyncSnapshot'))
  assert.deepEqual(status, optional('SyncStatus'))
  const node = await createNode({ network: 'selkie-dev' })
  assert.equal(await node.sync.status(), undefined)
  await node.stop()
})

test('a ledger that is built in tells how far it is, on its thread and in a worker', async (t) => {
  for (const [application, run] of [
    ['ledger', 'page'],
    ['ledger-light', 'page'],
    ['ledger-light', 'worker'],
  ]) {
    const node = await started(t, { network: { id: 'selkie-dev', application }, run })
    let status = await node.sync.status()
    while (status === undefined) status = (await turn(), await node.sync.status())
    assert.deepEqual([status.height, status.phase], [0n, 'waiting'])
  }
})

const listening = (address) => ({ network: { listen_addresses: [address] } })

/** A node of the real WebAssembly, for the time of a test. */
async function started(t, options = {}) {
  const node = await createNode({ network: 'selkie-dev', ...options })
  t.after(() => node.stop())
  return node
}

test('who is refused is told of with its address', async (t) => {
  const node = await started(t, { config: listening('/memory/4101') })
  const stranger = await started(t, { network: 'elsewhere' })
  const refused = once(node, 'peer:refused')
  await assert.rejects(stranger.dial('/memory/4101'), { code: 'dial' })
  const { detail } = await refused
  assert.equal(detail.peerId, stranger.peerId)
  assert.match(detail.address, /^\/memory\/\d+/)
})

test('a dial that is aborted before it is answered brings no peer', async (t) => {
  const node = await started(t, { config: listening('/memory/4102') })
  const dialler = await started(t)
  const met = []
  dialler.addEventListener('peer:connect', ({ detail }) => met.push(detail.peerId))
  const abort = new AbortController()
  const dial = dialler.dial('/memory/4102', { signal: abort.signal })
  abort.abort()
  await assert.rejects(dial, { name: 'AbortError' })
  // Its connection, if it comes up at all, is closed again before the next one is up.
  const other = await started(t, { config: listening('/memory/4103') })
  const connects = once(dialler, 'peer:connect')
  await dialler.dial('/memory/4103')
  await connects
  while ((await dialler.connections()).length > 1) await turn()
  assert.deepEqual(met, [other.peerId])
  // And it is no reason not to dial it in earnest.
  assert.equal(await dialler.dial('/memory/4102'), node.peerId)
})

test('a peer, a connection and a topic have the fields of the contract, and no others', async (t) => {
  const node = await started(t, { config: listening('/memory/4100') })
  const other = await started(t)
  for (const each of [node, other]) each.gossip.subscribe('weather')
  await other.dial('/memory/4100')
  const [peer] = await other.peers()
  const [connection] = await other.connections()
  const [topic] = await other.gossip.topics()
  for (const [name, value] of Object.entries({
    Peer: peer,
    Connection: connection,
    Topic: topic,
  })) {
    assert.deepEqual(Object.keys(value).sort(), fields(name).sort())
  }
  assert.deepEqual([connection.peerId, connection.direction], [node.peerId, 'outbound'])
  assert.deepEqual([connection.address, connection.transport], ['/memory/4100', 'memory'])
  assert.deepEqual([topic.topic, topic.validate], ['weather', false])
  assert.equal((await node.connections())[0].direction, 'inbound')
  await other.disconnect(node.peerId)
  assert.deepEqual(await other.connections(), [])
})

test('a peer is protected by tags until the last is taken away', async (t) => {
  const node = await started(t)
  const { peerId } = await started(t)
  await node.protect(peerId, 'validator')
  await node.protect(peerId, 'friend')
  const left = [await node.unprotect(peerId, 'friend'), await node.unprotect(peerId, 'validator')]
  assert.deepEqual(left, [true, false])
  await assert.rejects(node.protect(peerId, ''), { code: 'invalid-argument' })
  await assert.rejects(node.protect('nobody', 'friend'), { code: 'invalid-peer-id' })
})

test('whom the application needs is dialled, and what no duty can be is refused', async (t) => {
  const node = await started(t, { config: listening('/memory/4106') })
  const friend = await started(t, { config: listening('/memory/4108') })
  const other = await started(t)
  // What an application says of a peer leads to no place of this host while it has met nobody here.
  const meets = once(other, 'peer:connect')
  await other.dial(`/memory/4108/p2p/${friend.peerId}`)
  await meets
  const connects = once(other, 'peer:connect')
  await other.expectDuty([`/memory/4106/p2p/${node.peerId}`], { forMs: 60_000 })
  assert.equal((await connects).detail.peerId, node.peerId)
  await other.expectDuty([node.peerId], { inMs: 60_000, forMs: 60_000 })
  for (const [peers, when, code] of [
    [['nobody'], { forMs: 1 }, 'invalid-peer-id'],
    [['/memory/1'], { forMs: 1 }, 'invalid-address'],
    [[node.peerId], undefined, 'invalid-argument'],
    [[node.peerId], {}, 'invalid-argument'],
    [[5], { forMs: 1 }, 'invalid-argument'],
    [[node.peerId], { forMs: 0 }, 'invalid-argument'],
    [[node.peerId], { forMs: 1, inMs: Infinity }, 'invalid-argument'],
    [node.peerId, { forMs: 1 }, 'invalid-argument'],
  ]) {
    await assert.rejects(other.expectDuty(peers, when), { code })
  }
})

test('a node begins with the address book of the last one, and says where that is none', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'selkie-contract-'))
  t.after(() => rm(directory, { recursive: true }))
  const node = await started(t, { config: listening('/memory/4107') })
  const keeping = { network: 'selkie-dev', storage: { directory } }
  const first = await createNode(keeping)
  await first.dial('/memory/4107')
  await first.stop()
  // Nobody tells it of anybody.
  const second = await createNode(keeping)
  assert.equal((await once(second, 'peer:connect')).detail.peerId, node.peerId)
  await second.stop()
  await writeFile(join(directory, 'identity.key.book'), 'something else')
  const third = await createNode(keeping)
  const { reason } = (await once(third, 'book:lost')).detail
  assert.match(reason, /no address book/)
  assert.deepEqual(await third.book(), [])
  await third.stop()
})

test('who is banned is let go and kept out until the ban is lifted', async (t) => {
  const node = await started(t, { config: listening('/memory/4104') })
  const other = await started(t)
  await other.dial('/memory/4104')
  const gone = once(other, 'peer:disconnect')
  await node.ban(other.peerId, { forMs: 60_000 })
  await gone
  const [ban] = await node.bans()
  assert.equal((await node.score(other.peerId)).banned, true)
  assert.deepEqual(Object.keys(ban).sort(), fields('Ban').sort())
  assert.deepEqual([ban.who, ban.byUser], [other.peerId, true])
  assert.ok(Math.abs(ban.until - Date.now() - 60_000) < 10_000)
  await assert.rejects(other.dial('/memory/4104'), { code: 'dial' })
  assert.deepEqual([await node.unban(other.peerId), await node.unban(other.peerId)], [true, false])
  // The connection that was refused may be ending still: it is dialled anew after that.
  assert.equal(await other.dial('/memory/4104'), node.peerId)
  assert.equal((await node.score(other.peerId)).banned, false)
  await node.ban('203.0.113.7/24')
  assert.equal((await node.bans())[0].who, '203.0.113.0/24')
  await assert.rejects(node.ban('nobody'), { code: 'invalid-argument' })
  for (const forMs of [0, 5n, '5']) {
    await assert.rejects(node.ban(other.peerId, { forMs }), { code: 'invalid-argument' })
  }
})

test('the book and a score have the fields of the contract, and no others', async (t) => {
  const node = await started(t, { config: listening('/memory/4105') })
  const other = await started(t)
  await other.dial('/memory/4105')
  let known
  while (known === undefined) {
    await turn()
    ;[known] = await other.book()
  }
  assert.deepEqual(Object.keys(known).sort(), fields('KnownPeer').sort())
  assert.deepEqual(
    [known.peerId, known.addresses, known.tried],
    [node.peerId, ['/memory/4105'], true],
  )
  assert.deepEqual(await other.score(node.peerId), { score: 0, deeds: [], banned: false })
  assert.deepEqual(fields('Score'), ['score', 'deeds', 'banned'])
})

test('what changes of the state has the fields of the contract, and no others', async (t) => {
  const network = { id: 'selkie-dev', application: 'ledger' }
  const node = await started(t, { network, storage: 'memory' })
  const address = Buffer.from(developmentAccount('selkie-dev', 0), 'hex')
  const nobody = new Uint8Array(32)
  // It has the state itself.
  const watch = node.state.watch([address, nobody])
  const { value: change } = await watch.next()
  assert.deepEqual(Object.keys(change).sort(), fields('StateChange').sort())
  assert.deepEqual([change.height, change.root.length], [0n, 32])
  assert.deepEqual(Object.keys(change.values[0]).sort(), fields('StateEntry').sort())
  const values = new Map(
    change.values.map(({ key, value }) => [Buffer.from(key).toString('hex'), value]),
  )
  assert.equal(Buffer.from(values.get(address.toString('hex'))).readBigUInt64BE(), 10n ** 12n)
  assert.equal(values.get('00'.repeat(32)).length, 0)
  const next = watch.next()
  await watch.return()
  assert.deepEqual(await next, { done: true, value: undefined })
  await assert.rejects(node.state.watch([Uint8Array.of(7)]).next(), { code: 'not-offered' })
  const other = await started(t)
  await assert.rejects(other.state.watch([address]).next(), { code: 'not-offered' })
})

/** The state events that the node sends: type to the names of its fields; undefined where those are made of others. */
async function sent() {
  const events = await readFile(new URL('../../src/network/event.rs', import.meta.url), 'utf8')
  const [, name] = events.match(/pub fn name\(.*?match self \{(.*?)\n        \}/s)
  const types = new Map()
  for (const [, variants, type] of name.matchAll(/((?:Self::[^=]*?)+) => "([a-z:]+)"/g)) {
    for (const [, variant] of variants.matchAll(/Self::(\w+)/g)) types.set(variant, type)
  }
  const [, state] = surface.match(/fn state_event\(.*?= match event \{(.*?)\n    \};/s)
  const sent = new Map()
  for (const [, variant, arm] of state.matchAll(
    /^ {8}NetworkEvent::(\w+)(.*?)(?=^ {8}\w|$(?![^]))/gms,
  )) {
    if (arm.includes('return None')) continue
    const [, body] = arm.match(/=> (?:\{\s*)?object\(\[(.*?)\]\)/s) ?? []
    sent.set(
      types.get(variant),
      body && [...body.matchAll(/\(\s*"(\w+)",/g)].map(([, name]) => name),
    )
  }
  return sent
}

test('every event of the contract is sent by somebody, and every event that is sent is in it', async () => {
  const types = new Set((await sent()).keys())
  types.add('lagged')
  for (const file of ['node.ts', 'lifecycle.ts']) {
    const facade = await readFile(new URL(`../src/${file}`, import.meta.url), 'utf8')
    for (const [, type] of facade.matchAll(/'([a-z]+:[a-z]+)'/g)) types.add(type)
  }
  assert.deepEqual([...types].sort(), fields('NodeEvents').sort())
})

test('an event of the contract has the fields that are sent, and no others', async () => {
  const [, events] = contract.match(/export interface NodeEvents \{\n(.*?)\n\}/s)
  let compared = 0
  for (const [type, names] of await sent()) {
    // What is made of others, and what the facade takes apart, has no list of fields here.
    const [, promised] = events.match(new RegExp(`^ +'?${type}'?: \\{(.*)\\}$`, 'm')) ?? []
    if (promised === undefined || names === undefined) continue
    const said = [...promised.matchAll(/(\w+)\??:/g)].map(([, name]) => name)
    assert.deepEqual(said.sort(), names.sort(), type)
    compared += 1
  }
  assert.ok(compared >= 12, `${compared} events were compared`)
})

test('the fake node of the tests, and the types of the facade, have the methods of the real one', async () => {
  // What wasm-bindgen adds is for itself.
  const real = Object.getOwnPropertyNames(WasmNode.prototype).filter(
    (name) => !['constructor', 'free', '__destroy_into_raw'].includes(name),
  )
  const fake = new FakeNode()
  const faked = real.filter((name) => typeof fake[name] === 'function')
  assert.deepEqual(faked, real)
  const ownToTests = ['called']
  const methods = Object.keys(fake).filter((name) => typeof fake[name] === 'function')
  const extra = [...methods, ...Object.getOwnPropertyNames(FakeNode.prototype)]
  const unreal = extra.filter((name) => ![...real, 'constructor', ...ownToTests].includes(name))
  assert.deepEqual(unreal, [])
  const types = await readFile(new URL('../src/selkie.d.ts', import.meta.url), 'utf8')
  const [, node] = types.match(/export class WasmNode \{\n(.*?)\n\}/s)
  const typed = [...node.matchAll(/^ {2}(\w+)\(/gm)].map(([, name]) => name)
  assert.deepEqual(typed.filter((name) => name !== 'constructor').sort(), real.sort())
})

test('every code of an error stands in the contract', async () => {
  const codes = new Set()
  const file = (name) => readFile(new URL(`../../${name}`, import.meta.url), 'utf8')
  const find = (text, pattern) => {
    for (const [, ...found] of text.matchAll(pattern)) codes.add(found.find((code) => code))
  }
  for (const name of ['src/error.rs', 'src/storage/error.rs']) {
    find(await file(name), /=> "([a-z-]+)",/g)
  }
  const rooms = await readdir(new URL('../../src/web', import.meta.url), { recursive: true })
  for (const name of rooms.filter((name) => name.endsWith('.rs'))) {
    find(await file(`src/web/${name}`), /failure\(\s*"([a-z-]+)"/g)
  }
  for (const name of await readdir(new URL('../src', import.meta.url))) {
    find(await file(`js/src/${name}`), /new \w+Error\(\s*'([a-z-]+)'|code: .*'([a-z-]+)'/g)
  }
  find("'internal' 'crashed'", /'(.*?)'/g)
  for (const code of codes) assert.ok(contract.includes(`\`${code}\``), `${code} is explained`)
  assert.deepEqual([...codes].sort(), errorCodes())
})

test('the types of the configuration are as the Rust sources have it', async () => {
  const written = await readFile(new URL('../config.d.ts', import.meta.url), 'utf8')
  assert.equal(written, configTypes(), 'run node config-types.mjs in js/')
})

test('each section of the configuration has the fields that the WebAssembly reads', async () => {
  let compared = 0
  for (const { path, names } of sections('Options', '')) {
    // `createNode` itself knows which sections there are.
    if (path === '') continue
    const config = path.split('.').reduceRight((inner, name) => ({ [name]: inner }), { nothing: 1 })
    await assert.rejects(createNode({ network: 'selkie-dev', config }), ({ code, message }) => {
      const [, expected] = message.match(/unknown field `nothing`, expected (.*)/)
      const read = [...expected.matchAll(/`(\w+)`/g)].map(([, name]) => name)
      assert.deepEqual(names.toSorted(), read.toSorted(), path)
      return code === 'config'
    })
    compared += 1
  }
  assert.ok(compared > 20, `${compared} sections were compared`)
})

test('the largest piece of bytes is that of the wire', async () => {
  const limit = async (file, name) => {
    const text = await readFile(new URL(`../../${file}`, import.meta.url), 'utf8')
    return text.match(new RegExp(`const ${name}(?:: usize)? = (.*?);?$`, 'm'))[1]
  }
  assert.equal(await limit('src/propagation/wire.rs', 'MAX_ITEM'), '4 << 20')
  assert.equal(await limit('js/src/node.ts', 'MAX_BYTES'), '4 * 1024 * 1024')
  assert.equal(await limit('src/peers/book/saved.rs', 'MAX_BOOK_BYTES'), '2 << 20')
  assert.equal(await limit('js/src/identity-nodejs.ts', 'MAX_BOOK_BYTES'), '2 * 1024 * 1024')
})

test('the types need no more of a user than ES2022 and the DOM', async () => {
  const path = (name) => fileURLToPath(new URL(name, import.meta.url))
  const options = ['--strict', '--noEmit', '--ignoreConfig', '--lib', 'es2022,dom']
  const tsc = path('../node_modules/typescript/bin/tsc')
  await promisify(execFile)(process.execPath, [tsc, ...options, path('../index.d.ts')], {
    cwd: path('.'),
  })
})
