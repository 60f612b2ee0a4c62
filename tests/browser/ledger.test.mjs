// A tab that follows a ledger: whole or by its headers alone, kept over a reload, and nothing believed that is not proven.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { developmentAccount } from '../support/ledger.mjs'
import { startNative } from '../support/native.mjs'
import { openSite } from '../support/site.mjs'

const NETWORK = 'tab-ledger'
const GENESIS = '07'.repeat(32)
const HEIGHT = 200

/** One that begins anew with each node, as it is kept nowhere. */
const RENEWED = {
  network: 'tab-renewed',
  chain: 'ledger',
  flags: ['--propose', '20', '--genesis', GENESIS],
}

/** An account of the development network, as its key, and what it holds: 10^12 coins, and it has sent nothing. */
const KEY = developmentAccount(NETWORK, 0)
const VALUE = '000000e8d4a510000000000000000000'

for (const name of BROWSERS) {
  describe(name, () => {
    let browser, site, native
    before(async () => {
      browser = await launch(name)
      site = await openSite()
      const flags = ['--propose', '20', '--genesis', GENESIS]
      native = await startNative({ network: NETWORK, chain: 'ledger', flags })
    })
    after(() => Promise.all([browser?.close(), site?.close(), native?.stop()]))

    for (const [application, run] of [
      ['ledger', 'page'],
      ['ledger-light', 'page'],
      ['ledger-light', 'worker'],
    ]) {
      test(`a ${run} follows by ${application}, and goes on after a reload`, async () => {
        const page = await openPage(browser, site.url)
        try {
          await begins(page, application, run)
          await follows(page, native, HEIGHT)
          assert.deepEqual(await reads(page), VALUE)
          // As a crash is.
          await page.reload()
          await begins(page, application, run)
          const kept = await height(page)
          assert.ok(kept > 0, 'it has nobody yet who could have told it')
          const error = await page.evaluate((key) => outcome(node.state.get(fromHex(key))), KEY)
          assert.equal(error.error.code, 'no-peers')
          const after = await follows(page, native, kept + 1)
          await page.evaluate(() => node.stop())
          await page.reload()
          await begins(page, application, run)
          assert.ok((await height(page)) >= after, 'what was stopped in order has lost nothing')
          await page.evaluate(() => node.stop())
          assert.deepEqual(page.errors, [])
        } finally {
          await page.close()
        }
      })
    }

    for (const application of ['ledger', 'ledger-light']) {
      test(`a network that begins anew is followed by ${application} once what was kept is cleared`, async () => {
        const page = await openPage(browser, site.url)
        let first, second
        try {
          first = await startNative(RENEWED)
          await begins(page, application, 'page', RENEWED.network)
          await follows(page, first, 20)
          // Enough of them make something final, once the chain is there.
          await page.evaluate(async () => {
            let votes = 0
            await globalThis.first(node.votes.subscribe(), () => (votes += 1) === 8)
            const { height } = await node.sync.status()
            await happened('sync:progress', ({ done }) => done > height + 64n)
          })
          const clear = (network) =>
            page.evaluate((network) => outcome(selkie.clearStorage(network)), network)
          const held = await clear(RENEWED.network)
          assert.equal(held.error.code, 'storage-locked')
          assert.match(held.error.message, /crashed .* reloaded/)
          await page.evaluate(() => node.stop())
          await first.stop()
          first = undefined

          second = await startNative(RENEWED)
          await begins(page, application, 'page', RENEWED.network)
          assert.ok((await height(page)) >= 20)
          const told = await page.evaluate(async (address) => {
            await node.dial(address)
            const { trouble } = await happened('sync:progress', ({ trouble }) => trouble)
            await node.stop()
            return trouble
          }, second.addresses.ws)
          assert.match(told, /clearStorage/)

          // What is another network's stays, and so does what began elsewhere.
          for (const other of ['other', { id: RENEWED.network, genesis: '09' }]) {
            assert.equal((await clear(other)).error, undefined)
          }
          await begins(page, application, 'page', RENEWED.network)
          assert.ok((await height(page)) >= 20)
          await page.evaluate(() => node.stop())
          assert.equal((await clear(RENEWED.network)).error, undefined)
          await begins(page, application, 'page', RENEWED.network)
          assert.equal(await height(page), 0)
          await follows(page, second, 20)
          await page.evaluate(() => node.stop())
          assert.deepEqual(page.errors, [])
        } finally {
          await Promise.all([page.close(), first?.stop(), second?.stop()])
        }
      })
    }

    test('what an account has is heard by ledger-light without polling', async () => {
      const page = await openPage(browser, site.url)
      try {
        await begins(page, 'ledger-light', 'page')
        const watching = page.evaluate(async (hex) => {
          const watch = node.state.watch([fromHex(hex), new Uint8Array(32)])
          const { value } = await watch.next()
          await watch.return()
          return value.values.map(({ value }) => toHex(value)).sort()
        }, KEY)
        await follows(page, native, HEIGHT)
        assert.deepEqual(await watching, ['', VALUE])
        await page.evaluate(() => node.stop())
        assert.deepEqual(page.errors, [])
      } finally {
        await page.close()
      }
    })

    test('a proof that is forged is refused, and who gave it pays', async () => {
      const page = await openPage(browser, site.url)
      try {
        await begins(page, 'ledger-light', 'page')
        await follows(page, native, HEIGHT)
        const told = await page.evaluate(
          async (id, genesis, hex) => {
            const key = fromHex(hex)
            const { height, value, proof } = await node.state.get(key)
            const more = value.with(7, value[7] ^ 1)
            const accept = () => ({ verdict: 'accept' })
            const liar = await selkie.createNode({
              network: { id, genesis },
              storage: 'memory',
              // The other's, which it reaches in memory.
              wasm: { glue: new URL('/selkie/ledger.js', location.href) },
              application: {
                checkTransaction: accept,
                checkBlock: accept,
                checkVote: accept,
                query: () => ({ height, value: more, proof }),
              },
              config: { network: { listen_addresses: ['/memory/77'] } },
            })
            const peer = await node.dial('/memory/77')
            const forged = await outcome(node.state.get(key, { peer }))
            const { reason, score } = await happened('peer:score', ({ peerId }) => peerId === peer)
            const honest = []
            for (let turn = 0; turn < 4; turn += 1) {
              honest.push(toHex((await node.state.get(key)).value))
            }
            await Promise.all([node.stop(), liar.stop()])
            return { code: forged.error?.code, reason, score, honest }
          },
          NETWORK,
          GENESIS,
          KEY,
        )
        assert.equal(told.code, 'forged')
        assert.match(told.reason, /false proof/)
        assert.ok(told.score < 0, String(told.score))
        assert.deepEqual(told.honest, Array(4).fill(VALUE))
        assert.deepEqual(page.errors, [])
      } finally {
        await page.close()
      }
    })
  })
}

/** Starts a node that keeps what it has. */
async function begins(page, application, run, id = NETWORK) {
  await page.evaluate(
    (network, run) => start({ network, run, storage: 'indexeddb' }),
    { id, genesis: GENESIS, application },
    run,
  )
}

/** Dials, and waits until the chain is so high and as far as the peer's; to its height. */
async function follows(page, native, least) {
  return page.evaluate(
    async (address, least) => {
      await node.dial(address)
      const isThere = ({ done, total }) => done >= BigInt(least) && done === total
      return Number((await happened('sync:progress', isThere)).done)
    },
    native.addresses.ws,
    least,
  )
}

/** The chain's height, as the node says it first. */
async function height(page) {
  return page.evaluate(async () => Number((await happened('sync:progress')).done))
}

async function reads(page) {
  return page.evaluate(async (key) => toHex((await node.state.get(fromHex(key))).value), KEY)
}
