// The READMEs' JavaScript in pages: what a user copies has to run.

import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { startDevnet, startNative } from '../support/native.mjs'
import { repository } from '../support/paths.mjs'
import { openSite } from '../support/site.mjs'

for (const name of BROWSERS) {
  describe(name, () => {
    let browser
    before(async () => (browser = await launch(name)))
    after(() => browser?.close())

    test("the README's page joins, logs a block and ends", async () => {
      const folder = await mkdtemp(join(tmpdir(), 'selkie-readme-'))
      const [, code] = /```js\n(.*?)```/s.exec(await readFile(repository('README.md'), 'utf8'))
      // What a bundler or an import map does.
      const resolved = code.replace("from 'selkie'", "from '/selkie/browser.js'")
      const document =
        '<!doctype html><title>runs</title><script type="module" src="main.js"></script>'
      await writeFile(join(folder, 'index.html'), document)
      await writeFile(join(folder, 'main.js'), `${resolved}document.title = 'done'\n`)
      const devnet = await startDevnet('2', '--www', folder)
      const page = await openPage(browser, 'about:blank')
      try {
        const lines = []
        page.on('console', (line) => lines.push(line.text()))
        await page.goto(devnet.url)
        await page.waitForFunction(() => document.title === 'done')
        const said = (word) => lines.find((line) => line.startsWith(word))
        assert.match(said('joined'), /^joined 12D3Koo\w{45}$/)
        assert.match(said('block'), /^block [0-9a-f]{64} \d+ bytes$/)
        assert.deepEqual(page.errors, [])
      } finally {
        await page.browserContext().close()
        await devnet.stop()
        await rm(folder, { recursive: true })
      }
    })

    test("the package's page has a node in a worker", () =>
      runs(browser, /```html\n<script type="module">\n(.*?)<\/script>/s, async ({ page, go }) => {
        await go()
        await page.waitForFunction(() => /^12D3Koo\w{45}$/.test(document.title))
        assert.equal(page.workers().length, 1)
      }))

    test("the package's own chain judges", () =>
      runs(
        browser,
        /## Your own chain\n.*?```js\n(.*?)```/s,
        async ({ native, heard, other, go }) => {
          await go()
          await native.until({ type: 'peer:connect' })
          await other.evaluate(async (address) => {
            await start({ network: 'pay-chain' })
            await node.dial(address)
            for (const text of ['steal 5', 'pay Ann 5']) {
              await node.transactions.submit(new TextEncoder().encode(text))
            }
          }, native.addresses.ws)
          assert.match(await heard, /^[0-9a-f]{64} pay Ann 5$/)
        },
      ))

    test("the package's wallet pays and waits for its block", () =>
      runs(browser, /## A wallet\n.*?```js\n(.*?)```/s, async ({ native, heard, other, go }) => {
        await other.evaluate(async (address) => {
          await start({ network: 'pay-chain' })
          await node.dial(address)
          globalThis.payments = node.transactions.subscribe()
        }, native.addresses.ws)
        await go()
        const id = await other.evaluate(async () => {
          const { value } = await payments.next()
          const lines = (...all) => new TextEncoder().encode(all.join('\n'))
          await node.blocks.submit(lines('pay Bob 6'))
          return node.blocks.submit(lines('pay Eve 7', new TextDecoder().decode(value.data)))
        })
        assert.equal(await heard, `paid in block ${id}`)
      }))
  })
}

/** Runs a part of the package's README in a page that has a native node to dial, beside another page. */
async function runs(browser, part, body) {
  const readme = await readFile(repository('js/README.md'), 'utf8')
  const [, code] = part.exec(readme)
  const native = await startNative({ network: 'pay-chain', chain: 'opaque' })
  const site = await openSite()
  const [page, other] = [await openPage(browser, site.url), await openPage(browser, site.url)]
  try {
    const heard = new Promise((resolve) => page.on('console', (line) => resolve(line.text())))
    const go = () =>
      page.evaluate(
        (code) => {
          const address = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }))
          // It ends with the page.
          void import(address)
        },
        // What a bundler or an import map does, and the address that a user has.
        code
          .replace("from 'selkie'", `from '${site.url}selkie/browser.js'`)
          .replace(/'\/ip4\/.*?'/, `'${native.addresses.ws}'`),
      )
    await body({ native, heard, page, other, go })
    assert.deepEqual(page.errors, [])
  } finally {
    await Promise.all([page, other].map((each) => each.browserContext().close()))
    await site.close()
    await native.stop()
  }
}
