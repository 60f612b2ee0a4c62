// The parts of the page that need no page.

import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { loadConfigFromFile, runnerImport } from 'vite'

const source = (name) => fileURLToPath(new URL(`../src/${name}`, import.meta.url))
const load = async (name) => (await runnerImport(source(name))).module

const bytes = await load('bytes.ts')
const format = await load('format.ts')
const { addressProblem, byPeer, sentence } = await load('address.ts')
const { reach } = await load('reach.ts')
const { NOBODY, parseInvitation } = await load('invitation.ts')
const { verifyBlock } = await load('verify.ts')
const { outline } = await load('views/traffic.ts')
const { toLevel } = await load('views/log.ts')
const { chosen } = await load('views/peers.ts')
const { words } = await load('views/sync.ts')

const GENESIS_ID = '000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f'
const GENESIS = bytes.parseHex(
  '0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c',
)

test('sizes keep three figures and change unit before they need four', () => {
  assert.deepEqual(
    [0, 999, 1000, 1_729_000, 12_340, 999_499, 999_600, 1e12, -1, NaN].map(format.bytes),
    ['0 B', '999 B', '1.00 kB', '1.73 MB', '12.3 kB', '999 kB', '1.00 MB', '1.00 TB', '0 B', '0 B'],
  )
})

test('how far the chain is reads as a sentence, and why it waits as far as it fits', () => {
  const at = (done, total, more) => words({ done, total, rate: 0, ...more })
  assert.equal(at(7n, 7n), 'block 7')
  assert.equal(at(0n, 5000n), 'block 0 of 5,000')
  const much = at(1200n, 5000n, { rate: 299.6, etaSeconds: 12.7 })
  assert.equal(much, 'block 1,200 of 5,000, 300 a second, 12 s left')
  assert.equal(at(7n, 9n, { trouble: 'no room' }), 'waits at block 7: no room')
  assert.equal(at(7n, 7n, { trouble: 'x'.repeat(5000) }).length, 400)
})

test('peers come in an order, what is not known last, and where a text occurs', () => {
  const peer = (peerId, rttMs, connectedAt, agent) => ({
    ...{ peerId, rttMs, connectedAt, agent },
    ...{ addresses: [`/ip4/203.0.113.${rttMs}/tcp/1`], transport: 'tcp', direction: 'inbound' },
    ...{ selkie: true, reputation: 0 },
  })
  const peers = [peer('a', null, 1, 'x'), peer('b', 9, 3, 'Y'), peer('c', 9, 2, 'z')]
  const silent = peer('d', 0, 0, '')
  const ids = (filter, order) => chosen(peers, filter, order).map(({ peerId }) => peerId)
  assert.deepEqual(ids('', 'rttMs'), ['c', 'b', 'a'])
  assert.deepEqual(ids('', 'connectedAt'), ['a', 'c', 'b'])
  assert.deepEqual(ids(' y ', 'agent'), ['b'])
  const by = (order) => chosen([silent, ...peers], '', order).map(({ peerId }) => peerId)
  assert.deepEqual([by('rttMs')[0], by('agent').at(-1)], ['d', 'd'])
  assert.deepEqual(ids('113.9', 'reputation'), ['c', 'b'])
})

test('ages, round trips, plurals and ids are short', () => {
  assert.deepEqual([-5, 999, 59_999, 60_000, 7_200_000].map(format.age), [
    'now',
    'now',
    '59 s',
    '1 min',
    '2 h',
  ])
  assert.deepEqual([0.84, 12.4, null, undefined, Infinity].map(format.roundTrip), [
    '0.8 ms',
    '12 ms',
    '–',
    '–',
    '–',
  ])
  assert.equal(format.plural(1, 'peer'), '1 peer')
  assert.equal(format.plural(1200, 'peer'), '1,200 peers')
  assert.equal(format.short(GENESIS_ID), '000000…0a8ce26f')
  assert.equal(format.short('short'), 'short')
  assert.equal(format.clip('abcdef', 4), 'abc…')
})

test('hex is read with white space and a prefix, and refused with the reason', () => {
  assert.deepEqual(bytes.parseHex(' 0x00 fF\n10'), Uint8Array.of(0, 255, 16))
  assert.equal(bytes.toHex(Uint8Array.of(0, 255, 16)), '00ff10')
  assert.throws(() => bytes.parseHex('  '), /Paste/)
  assert.throws(() => bytes.parseHex('0g'), /"g" is not a hex digit/)
  assert.throws(() => bytes.parseHex('abc'), /even/)
  assert.throws(() => bytes.parseHex('00'.repeat(bytes.MAX_TRANSACTION + 1)), /more than 1 MB/)
})

test('a made-up Bitcoin transaction has one input, one output and nothing after', () => {
  const data = bytes.randomBitcoinTransaction()
  assert.equal(data.length, 4 + 1 + 32 + 4 + 1 + 4 + 1 + 8 + 1 + 34 + 4)
  assert.equal(data[4], 1, 'one input')
  assert.equal(data[46], 1, 'one output')
  assert.deepEqual([...data.slice(55, 58)], [34, 0x6a, 32], 'OP_RETURN and 32 bytes')
})

test('a Bitcoin block is checked by its double hash and its work', async () => {
  assert.equal(await verifyBlock('bitcoin', GENESIS_ID, GENESIS), 'verified')
  assert.equal(await verifyBlock('bitcoin', GENESIS_ID.replace('f', 'e'), GENESIS), 'mismatch')
  assert.equal(await verifyBlock('bitcoin', GENESIS_ID, GENESIS.slice(0, 79)), 'mismatch')
  const lazy = new Uint8Array(GENESIS)
  lazy[76] ^= 1
  const hash = async (data) => new Uint8Array(await crypto.subtle.digest('SHA-256', data))
  const id = bytes.toHex((await hash(await hash(lazy))).reverse())
  assert.equal(await verifyBlock('bitcoin', id, lazy), 'mismatch', 'its hash, but no work in it')
})

test('an opaque item is checked by its hash, a chain unknown here by nothing', async () => {
  const id = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'
  const data = new TextEncoder().encode('test')
  assert.equal(await verifyBlock('opaque', id, data), 'verified')
  assert.equal(await verifyBlock('opaque', id, GENESIS), 'mismatch')
  assert.equal(await verifyBlock('other', id, data), 'unknown')
})

test('an address that a tab cannot dial is refused with what would be right', () => {
  const page = { secure: false, run: 'page' }
  const problem = (address, around = {}) => addressProblem(address, { ...page, ...around })
  assert.match(problem(''), /Paste/)
  assert.match(problem('http://x'), /slash/)
  assert.match(problem('/ip4/192.0.2.1/tcp/4001'), /plain TCP/)
  assert.match(problem('/ip4/192.0.2.1/udp/4001/quic-v1'), /plain TCP or QUIC/)
  assert.match(problem('/ip4/192.0.2.1'), /no transport/)
  assert.match(problem('/ip4/192.0.2.1/udp/1/webrtc-direct'), /certhash/)
  assert.match(problem('/ip4/192.0.2.1/udp/1/quic-v1/webtransport'), /certhash/)
  const direct = '/ip4/192.0.2.1/udp/1/webrtc-direct/certhash/uEi'
  assert.equal(problem(direct), undefined)
  assert.match(problem(direct, { run: 'worker' }), /page only/)
  assert.equal(problem('/ip4/192.0.2.1/tcp/1/ws'), undefined)
  assert.match(problem('/ip4/192.0.2.1/tcp/1/ws', { secure: true }), /https/)
  assert.equal(problem('/ip4/127.0.0.1/tcp/1/ws', { secure: true }), undefined)
  assert.equal(problem('/dns4/example.org/tcp/443/tls/ws', { secure: true }), undefined)
})

test('addresses of one peer are ways to one node', () => {
  assert.deepEqual(byPeer(['/a/ws/p2p/X', '/b/ws/p2p/Y', '/a/webtransport/p2p/X', '/c/ws']), [
    ['/a/ws/p2p/X', '/a/webtransport/p2p/X'],
    ['/b/ws/p2p/Y'],
    ['/c/ws'],
  ])
})

test('whatever is thrown becomes a sentence', () => {
  assert.equal(sentence(new Error('nobody answers')), 'Nobody answers.')
  assert.equal(sentence(new Error("can't fetch it")), "Can't fetch it.")
  assert.equal(sentence(new Error('/ip4/… is shut')), '/ip4/… is shut.')
  assert.equal(sentence(new Error('Try again!')), 'Try again!')
  assert.match(sentence(undefined), /without a reason/)
})

test('an invitation is read as far as it makes sense', () => {
  assert.deepEqual(parseInvitation(null), NOBODY)
  assert.deepEqual(parseInvitation('no'), NOBODY)
  assert.deepEqual(parseInvitation({ network: 7, bootstrap: [1, '', '/ip4/…'] }), {
    network: { id: 'selkie-dev', application: 'opaque' },
    bootstrap: ['/ip4/…'],
    config: {},
  })
  assert.deepEqual(
    parseInvitation({ network: { id: 'main', genesis: 'ab', application: 'bitcoin' } }),
    { network: { id: 'main', genesis: 'ab', application: 'bitcoin' }, bootstrap: [], config: {} },
  )
  const protocol = { gossipsub_config: { mesh_n: 4 } }
  const config = { protocol, security: 1, network: [], identity: [7], chain: { network_id: 'x' } }
  assert.deepEqual(parseInvitation({ config }).config, { protocol })
  assert.equal(parseInvitation({ bootstrap: Array(99).fill('/a') }).bootstrap.length, 16)
})

test('the line of a rate ends at the right edge and stays inside its box', () => {
  assert.equal(outline([5]), 'M240.0 2.0')
  assert.match(outline([0, 10, 0]), /^M231\.9 39\.0L235\.9 2\.0L240\.0 39\.0$/)
  assert.match(outline([0, 0]), /39\.0$/)
})

test('a log level unknown here counts as information', () => {
  assert.equal(toLevel('WARN'), 'warn')
  assert.equal(toLevel('shout'), 'info')
})

test('without SELKIE_FAKE the build knows nothing of the stand-in', async () => {
  delete process.env.SELKIE_FAKE
  const file = fileURLToPath(new URL('../vite.config.mjs', import.meta.url))
  const { config } = await loadConfigFromFile({ command: 'build', mode: 'production' }, file)
  assert.deepEqual(config.resolve.alias, {})
  assert.match(config.build.outDir, /www\/dist$/)
})

test('a node is reached by the first address that answers, and the others are given up', async () => {
  const life = new AbortController()
  const begun = []
  const given = []
  const dial = (address, signal) => {
    begun.push(address)
    if (address === 'open') return Promise.resolve()
    if (address === 'shut') return Promise.reject(new Error('shut'))
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => {
        given.push(address)
        reject(signal.reason)
      })
    })
  }
  await reach(['deaf', 'deafer', 'open', 'last'], dial, life.signal, 1)
  assert.deepEqual(begun, ['deaf', 'deafer', 'open'])
  assert.deepEqual(given, ['deaf', 'deafer'])
  // All before it have failed, so it does not wait.
  await reach(['shut', 'open'], dial, life.signal, 1 << 30)
  await assert.rejects(reach(['shut', 'shut'], dial, life.signal, 1), /shut/)
  const last = reach(['deaf', 'deaf'], dial, life.signal, 1)
  life.abort(new Error('over'))
  await assert.rejects(last, /over/)
})
