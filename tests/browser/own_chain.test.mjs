// A chain in Rust in a WebAssembly of its own, examples/chain-in-a-tab: its page, and how the package loads it elsewhere.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { createNode } from '../../js/dist/nodejs.js'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { startNative } from '../support/native.mjs'
import { repository } from '../support/paths.mjs'
import { openSite } from '../support/site.mjs'

const NETWORK = 'pay-chain'
const utf8 = (text) => new TextEncoder().encode(text)

for (const name of BROWSERS) {
  describe(name, () => {
    let browser, site
    before(async () => {
      browser = await launch(name)
      site = await openSite()
    })
    after(() => Promise.all([browser?.close(), site?.close()]))

    test('the example’s page judges by its own chain', async () => {
      const native = await startNative({ network: NETWORK, chain: 'opaque' })
      const page = await openPage(browser, `${site.url}example/#${native.addresses.ws}`)
      const other = await openPage(browser, site.url)
      try {
        await native.until({ type: 'peer:connect' })
        await other.evaluate(
          async (network, address) => {
            await start({ network })
            await node.dial(address)
            for (const text of ['steal 5', 'pay Ann 5']) {
              await node.transactions.submit(new TextEncoder().encode(text))
            }
          },
          NETWORK,
          native.addresses.ws,
        )
        for (const said of ['refused: it pays nobody', 'accepted: pay Ann 5']) {
          await page.waitForFunction((said) => document.body.innerText.includes(said), {}, said)
        }
        assert.deepEqual([...page.errors, ...other.errors], [])
      } finally {
        await Promise.all([page.close(), other.close()])
        await native.stop()
      }
    })

    for (const run of ['page', 'worker']) {
      test(`a ${run} has what its WebAssembly has, beside the package’s own`, async () => {
        const page = await openPage(browser, site.url)
        const said = await page.evaluate(
          async (run, network) => {
            const text = (text) => new TextEncoder().encode(text)
            const glue = (name) => new URL(`/example/dist/${name}`, location.href)
            const options = { run, network, storage: 'memory' }
            const make = (wasm, application) => selkie.createNode({ ...options, wasm, application })
            const mine = await make({ glue: glue('chain.js') }, 'payments')
            const plain = await make()
            const outcomes = [
              await outcome(mine.transactions.submit(text('steal 5'))),
              await outcome(plain.transactions.submit(text('steal 5'))),
              await outcome(make({ glue: glue('chain.js') }, 'nobody')),
              await outcome(make(undefined, 'payments')),
              await outcome(make({ glue: glue('nowhere.js') }, 'payments')),
            ]
            // A worker begins anew; a page has the right one already.
            if (run === 'worker') {
              const module = new URL('/selkie/selkie_bg.wasm', location.href)
              outcomes.push(await outcome(make({ glue: glue('chain.js'), module }, 'payments')))
            }
            await Promise.all([mine.stop(), plain.stop()])
            return outcomes.map(({ error }) => [error.code, error.message])
          },
          run,
          NETWORK,
        )
        // Nobody is there to whom the plain one could send it.
        const right = ['rejected', 'no-peers', 'config', 'config', 'load', 'load']
        const codes = said.map(([code]) => code)
        assert.deepEqual(codes, run === 'worker' ? right : right.slice(0, 5))
        assert.match(said[2][1], /opaque, bitcoin, payments$/)
        // As the tests build it, the ledgers are in both of the package's.
        assert.match(said[3][1], /opaque, bitcoin(, ledger, ledger-light)?$/)
        assert.deepEqual(page.errors, [])
        await page.close()
      })
    }
  })
}

for (const run of ['page', 'worker']) {
  test(`Node runs it, on its own thread or another: ${run}`, async () => {
    const glue = pathToFileURL(repository('target/chain-in-a-tab/chain.js'))
    const options = { run, network: NETWORK, wasm: { glue }, application: 'payments' }
    const node = await createNode(options)
    try {
      await assert.rejects(node.transactions.submit(utf8('steal 5')), {
        code: 'rejected',
        message: /it pays nobody/,
      })
      await assert.rejects(node.transactions.submit(utf8('pay Ann 5')), { code: 'no-peers' })
      const nobody = createNode({ ...options, application: 'nobody' })
      await assert.rejects(nobody, {
        code: 'config',
        message: /opaque, bitcoin, payments$/,
      })
    } finally {
      await node.stop()
    }
  })
}
