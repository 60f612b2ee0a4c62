// A js-libp2p node and a node in a browser's tab, with nobody between them.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { idOf, transactions } from '../support/bitcoin.mjs'
import { launch, openPage } from '../support/browsers.mjs'
import { openSite } from '../support/site.mjs'
import { AGENT, startPlain } from './peer.mjs'

const TOPIC = '/selkie/selkie-test/transaction/1'
const OPEN_TOPIC = 'an-open-topic'

describe('js-libp2p and a tab over WebSocket', () => {
  let browser, site, plain, page, tab
  before(async () => {
    browser = await launch('chromium')
    site = await openSite()
    plain = await startPlain({ listen: ['/ip4/127.0.0.1/tcp/0/ws'] })
    plain.gossip.subscribe(TOPIC)
    page = await openPage(browser, site.url)
    // A quick pulse, so that a ping has been answered soon.
    const config = { network: { keepalive_interval: '100ms' } }
    tab = await page.evaluate((config) => start({ config }), config)
    await page.evaluate((to) => node.dial(to), plain.address)
    await plain.meshed(tab, TOPIC)
  })
  after(() => Promise.all([browser?.close(), site?.close(), plain?.stop()]))

  test('each learns who the other is', async () => {
    const theirs = await plain.happened('peer:identify')
    assert.equal(String(theirs.peerId), tab)
    assert.match(theirs.agentVersion, /^selkie\/\d/)
    const ours = await page.evaluate(() => happened('peer:identify'))
    assert.equal(ours.agent, AGENT)
    assert.ok(ours.protocols.includes('/meshsub/1.2.0'))
  })

  test('the tab takes it for a plain peer', async () => {
    const connected = await page.evaluate(() => happened('peer:connect'))
    assert.equal(connected.selkie, false)
    const [peer] = await page.evaluate(() => node.peers())
    assert.deepEqual([peer.peerId, peer.selkie, peer.transport], [plain.peerId, false, 'ws'])
  })

  test('each answers the pings of the other', async () => {
    assert.ok((await plain.ping(tab)) >= 0)
    await plain.pinged(tab)
    await page.waitForFunction(async () => (await node.peers())[0].rttMs > 0)
  })

  test('what js-libp2p publishes arrives in the tab, checked', async () => {
    const [bytes] = transactions
    await page.evaluate(() => void (globalThis.arriving = first(node.transactions.subscribe())))
    await plain.gossip.publish(TOPIC, bytes)
    const item = await page.evaluate(async () => {
      const { id, data, source } = await arriving
      return { id, data: toHex(data), source }
    })
    const expected = { id: idOf(bytes), data: bytes.toString('hex'), source: plain.peerId }
    assert.deepEqual(item, expected)
  })

  test('what the tab publishes arrives at js-libp2p', async () => {
    const [, bytes] = transactions
    const submit = (hex) => page.evaluate((hex) => node.transactions.submit(fromHex(hex)), hex)
    assert.equal(await submit(bytes.toString('hex')), idOf(bytes))
    await plain.received(TOPIC, bytes)
  })

  test('a topic that is not the chain’s carries any bytes, both ways', async () => {
    plain.gossip.subscribe(OPEN_TOPIC)
    await page.evaluate((topic) => {
      globalThis.arriving = first(node.gossip.subscribe(topic))
    }, OPEN_TOPIC)
    await plain.meshed(tab, OPEN_TOPIC)
    await plain.gossip.publish(OPEN_TOPIC, Buffer.from('from js-libp2p'))
    const text = await page.evaluate(async () => new TextDecoder().decode((await arriving).data))
    assert.equal(text, 'from js-libp2p')
    await page.evaluate(
      (topic) => node.gossip.publish(topic, new TextEncoder().encode('from the tab')),
      OPEN_TOPIC,
    )
    await plain.received(OPEN_TOPIC, Buffer.from('from the tab'))
  })

  test('the tab leaves in order', async () => {
    await page.evaluate(() => node.stop())
    await plain.happened('peer:disconnect', (peerId) => String(peerId) === tab)
    assert.deepEqual(page.errors, [])
  })
})
