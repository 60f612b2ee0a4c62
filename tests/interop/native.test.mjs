// A js-libp2p node and the native node: gossip both ways, identify and ping, over TCP and WebSocket.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { BLOCK_FILE, block, idOf, transactions } from '../support/bitcoin.mjs'
import { replay, startNative } from '../support/native.mjs'
import { AGENT, startPlain } from './peer.mjs'

const NETWORK = 'selkie-test'
const TOPIC = `/selkie/${NETWORK}/transaction/1`
const BLOCKS = `/selkie/${NETWORK}/block/1`

for (const transport of ['tcp', 'ws']) {
  describe(`js-libp2p and the native node over ${transport}`, () => {
    let native, plain
    before(async () => {
      native = await startNative({ network: NETWORK })
      plain = await startPlain()
      plain.gossip.subscribe(TOPIC)
      plain.gossip.subscribe(BLOCKS)
      await plain.dial(native.addresses[transport])
      await plain.meshed(native.peerId, TOPIC)
      await plain.meshed(native.peerId, BLOCKS)
    })
    after(() => Promise.all([plain?.stop(), native?.stop()]))

    test('each learns who the other is', async () => {
      const theirs = await plain.happened('peer:identify')
      assert.equal(String(theirs.peerId), native.peerId)
      assert.match(theirs.agentVersion, /^selkie\/\d/)
      assert.ok(theirs.protocols.includes('/selkie/hello/1'))
      const ours = await native.until({ type: 'peer:identify', peerId: plain.peerId })
      assert.equal(ours.agent, AGENT)
      assert.ok(ours.protocols.includes('/ipfs/ping/1.0.0'))
      assert.ok(!ours.protocols.includes('/selkie/hello/1'))
    })

    test('the native node takes it for a plain peer', async () => {
      const peer = await native.until({ type: 'peer:connect', peerId: plain.peerId })
      assert.equal(peer.selkie, false)
      assert.equal(peer.transport, transport)
    })

    test('each answers the pings of the other', async () => {
      assert.ok((await plain.ping(native.peerId)) >= 0)
      await plain.pinged(native.peerId)
    })

    test('what js-libp2p publishes is checked and accepted', async () => {
      const [, bytes] = transactions
      const { recipients } = await plain.gossip.publish(TOPIC, bytes)
      assert.deepEqual(recipients.map(String), [native.peerId])
      const told = await native.until({ type: 'item:accepted', id: idOf(bytes) })
      assert.deepEqual([told.kind, told.source], ['transaction', plain.peerId])
    })

    test('what js-libp2p publishes against the rules is refused', async () => {
      await plain.gossip.publish(TOPIC, Uint8Array.of(1, 2, 3))
      const told = await native.until({ type: 'item:refused', source: plain.peerId })
      assert.match(told.reason, /not in Bitcoin's format/)
    })

    test('js-libp2p receives a block and its transactions, byte for byte', async () => {
      await replay(BLOCK_FILE, native, NETWORK)
      await plain.received(TOPIC, transactions.at(-1))
      await plain.received(BLOCKS, block)
    })
  })
}
