// A tab as a full peer of a native node: it joins, publishes a real transaction, receives a real block
// of full size and checks its id by itself, and leaves.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { BLOCK_FILE, BLOCK_ID, block, idOf, transactions } from '../support/bitcoin.mjs'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { replay, startNative } from '../support/native.mjs'
import { openSite } from '../support/site.mjs'

const NAMES = { ws: 'WebSocket', webtransport: 'WebTransport', webrtc: 'WebRTC-direct' }

/** A transport's name in an address, where it is another. */
const ADDRESSES = { webrtc: 'webrtc-direct' }

// A WebRTC connection that was closed looks like one that is silent: native libp2p-webrtc tells by pings.
const QUICK_PINGS = '[network]\nkeepalive_interval = "500ms"\nconnection_timeout = "2s"\n'

const skipped = {
  'firefox webrtc page':
    'Firefox drops loopback candidates, so WebRTC never comes up on one machine',
}

for (const name of BROWSERS) {
  describe(name, () => {
    let browser, site
    before(async () => {
      browser = await launch(name)
      site = await openSite()
    })
    after(() => Promise.all([browser?.close(), site?.close()]))

    for (const [transport, run] of [
      ['ws', 'page'],
      ['ws', 'worker'],
      ['webtransport', 'page'],
      ['webtransport', 'worker'],
      ['webrtc', 'page'],
    ]) {
      const title = `a ${run} joins by ${NAMES[transport]}, publishes, receives a block and leaves`
      test(title, { skip: skipped[`${name} ${transport} ${run}`] }, async () => {
        const config = transport === 'webrtc' ? QUICK_PINGS : ''
        const native = await startNative({ transports: ['tcp', transport], config })
        const page = await openPage(browser, site.url)
        try {
          const peerId = await joins(page, native, transport, run)
          await publishes(page, native, peerId)
          await receives(page, native)
          await leaves(page, native, peerId)
          assert.deepEqual(page.errors, [])
        } finally {
          await page.close()
          await native.stop()
        }
      })
    }

    test('a worker says that it has no WebRTC', async () => {
      const native = await startNative({ transports: ['tcp', 'webrtc'] })
      const page = await openPage(browser, site.url)
      try {
        await page.evaluate(() => start({ run: 'worker' }))
        const dial = (address) => page.evaluate((to) => outcome(node.dial(to)), address)
        const { error } = await dial(native.addresses.webrtc)
        assert.equal(error.code, 'dial')
        assert.match(error.message, /no transport here can dial/)
      } finally {
        await page.close()
        await native.stop()
      }
    })
  })
}

async function joins(page, native, transport, run) {
  const options = { run, bootstrap: [native.addresses[transport]] }
  const peerId = await page.evaluate((options) => start(options), options)
  const peer = await page.evaluate(() => happened('peer:connect'))
  assert.equal(peer.peerId, native.peerId)
  assert.equal(peer.transport, ADDRESSES[transport] ?? transport)
  assert.equal(peer.selkie, true)
  assert.equal(peer.direction, 'outbound')
  await native.until({ type: 'peer:connect', peerId })
  const { agent } = await page.evaluate(() => happened('peer:identify'))
  assert.match(agent, /^selkie\/\d/)
  return peerId
}

async function publishes(page, native, peerId) {
  const [bytes] = transactions
  const submit = (hex) => page.evaluate((hex) => node.transactions.submit(fromHex(hex)), hex)
  const id = await submit(bytes.toString('hex'))
  assert.equal(id, idOf(bytes))
  const told = await native.until({ type: 'item:accepted', kind: 'transaction', id })
  assert.equal(told.source, peerId)
  assert.equal(told.bytes, bytes.length)
}

async function receives(page, native) {
  await page.evaluate((wanted) => {
    globalThis.block = first(node.blocks.subscribe(), ({ id }) => id === wanted)
  }, BLOCK_ID)
  await replay(BLOCK_FILE, native)
  const found = await page.evaluate(async () => {
    const { id, kind, data, source, missed } = await block
    const computed = await bitcoinId(data.subarray(0, 80))
    const digest = toHex(new Uint8Array(await crypto.subtle.digest('SHA-256', data)))
    return { id, kind, computed, digest, source, missed }
  })
  assert.deepEqual(found, {
    id: BLOCK_ID,
    kind: 'block',
    computed: BLOCK_ID,
    digest: createHash('sha256').update(block).digest('hex'),
    source: native.peerId,
    missed: 0,
  })
}

async function leaves(page, native, peerId) {
  await page.evaluate(async () => {
    const rest = node.blocks.subscribe().next()
    await node.stop()
    await happened('node:stop')
    if (!(await rest).done) throw new Error('the iterator goes on')
  })
  const { reason } = await native.until({ type: 'peer:disconnect', peerId })
  assert.ok(reason.length > 0)
  const { error } = await page.evaluate(() => outcome(node.dial('/ip4/127.0.0.1/tcp/1/ws')))
  assert.deepEqual([error.code, error.name, error.fatal], ['stopped', 'StoppedError', true])
}
