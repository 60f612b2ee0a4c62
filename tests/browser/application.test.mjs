// A chain in JavaScript: a tab whose own module judges what a native node hands it, in the page and in a worker.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { startNative } from '../support/native.mjs'
import { openSite } from '../support/site.mjs'

const NETWORK = 'pay-chain'

for (const name of BROWSERS) {
  describe(name, () => {
    let browser, site
    before(async () => {
      browser = await launch(name)
      site = await openSite()
    })
    after(() => Promise.all([browser?.close(), site?.close()]))

    for (const run of ['page', 'worker']) {
      test(`a ${run} judges by its own application`, async () => {
        const native = await startNative({ network: NETWORK, chain: 'opaque' })
        const [judging, plain] = [
          await openPage(browser, site.url),
          await openPage(browser, site.url),
        ]
        try {
          await judging.evaluate(
            async (run, network, address) => {
              const url = new URL('/chain.js', location.href)
              const application = run === 'worker' ? url : (await import(url)).default
              await start({ run, network, application })
              await node.dial(address)
            },
            run,
            NETWORK,
            native.addresses.ws,
          )
          await plain.evaluate(
            async (network, address) => {
              await start({ network })
              await node.dial(address)
              globalThis.submit = (text) => node.transactions.submit(new TextEncoder().encode(text))
            },
            NETWORK,
            native.addresses.ws,
          )
          await accepts(judging, plain)
          await rejects(judging, plain, native)
          await fails(judging, plain)
          if (run === 'worker') await survives(judging, plain)
          assert.deepEqual([...judging.errors, ...plain.errors], [])
        } finally {
          await Promise.all([judging.close(), plain.close()])
          await native.stop()
        }
      })
    }

    test('an application that can not be loaded in the worker is an error', async () => {
      const page = await openPage(browser, site.url)
      const { error } = await page.evaluate(
        (network) =>
          outcome(
            selkie.createNode({
              network,
              storage: 'memory',
              run: 'worker',
              application: new URL('/nowhere.js', location.href),
            }),
          ),
        NETWORK,
      )
      assert.deepEqual([error.code, error.name, error.ours], ['load', 'LoadError', true])
      await page.close()
    })
  })
}

/** What it accepts arrives, under the id that it gives. */
async function accepts(judging, plain) {
  await judging.evaluate(() => {
    globalThis.item = first(node.transactions.subscribe())
  })
  await plain.evaluate(() => submit('pay Ann 5'))
  const { id, said } = await judging.evaluate(async () => {
    const { id, data } = await item
    return { id, said: new TextDecoder().decode(data) }
  })
  assert.deepEqual([said, id], ['pay Ann 5', Buffer.from('pay Ann 5').toString('hex')])
}

/** Who hands it what it rejects pays. */
async function rejects(judging, plain, native) {
  await plain.evaluate(() => submit('steal 5'))
  const { source, reason } = await judging.evaluate(() => happened('item:refused'))
  assert.deepEqual([source, reason], [native.peerId, 'it pays nobody'])
  const { peerId, score } = await judging.evaluate(() => happened('peer:score'))
  assert.ok(peerId === native.peerId && score < 0)
  const { error } = await judging.evaluate(() =>
    outcome(node.transactions.submit(new TextEncoder().encode('steal 6'))),
  )
  assert.deepEqual([error.code, error.ours], ['rejected', true])
}

/** What it fails over is ignored, and told. */
async function fails(judging, plain) {
  await plain.evaluate(() => submit('throw'))
  const { call, reason } = await judging.evaluate(() => happened('application:error'))
  assert.deepEqual([call, reason], ['checkTransaction', 'RangeError: out of paper'])
}

/** What an application leaves uncaught in its worker is its own. */
async function survives(judging, plain) {
  await judging.evaluate(() => {
    const said = ({ data }) => new TextDecoder().decode(data)
    globalThis.item = first(node.transactions.subscribe(), (item) => said(item) === 'pay Bob 6')
  })
  await plain.evaluate(async () => {
    await submit('fall')
    await submit('pay Bob 6')
  })
  assert.equal(await judging.evaluate(async () => (await item).kind), 'transaction')
}
