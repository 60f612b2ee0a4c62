// Protocols of one's own between a tab and a native node, examples/own_protocol.rs, over WebSocket: each asks the other.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { Lines } from '../support/lines.mjs'
import { repository } from '../support/paths.mjs'
import { openSite } from '../support/site.mjs'

const GREET = '/example/greet/1'

for (const name of BROWSERS) {
  describe(name, () => {
    let browser, site, native, address
    before(async () => {
      native = new Lines(repository('target/debug/examples/own_protocol'), ['serve'])
      address = (await native.until({ type: 'text' })).text
      browser = await launch(name)
      site = await openSite()
    })
    after(() => Promise.all([browser?.close(), site?.close(), native?.stop()]))

    for (const run of ['page', 'worker']) {
      test(`a ${run} asks a native node, and answers it`, async () => {
        const page = await openPage(browser, site.url)
        await page.evaluate((run) => start({ run, network: 'selkie-dev' }), run)
        const answer = await page.evaluate(
          async (address, protocol, name) => {
            await node.handle('/example/name/1', async ({ readable, writable }) => {
              const question = await new Response(readable).text()
              const writer = writable.getWriter()
              await writer.write(new TextEncoder().encode(`${name} (${question})`))
              await writer.close()
            })
            globalThis.native = await node.dial(address)
            globalThis.ask = async (name) => {
              const { readable, writable } = await node.open(native, protocol)
              const writer = writable.getWriter()
              // Where the answer comes before the end, what is left is broken off.
              const says = writer.write(name).then(() => writer.close())
              return [await new Response(readable).text(), await outcome(says)]
            }
            return ask(new TextEncoder().encode('Tab'))
          },
          address,
          GREET,
          `a tab's ${run}`,
        )
        const [said, asked] = answer
        assert.deepEqual([said, asked.error], ['hello, Tab', undefined])
        await native.until({ text: `a tab's ${run} (who are you?) is here` })
        const broken = await page.evaluate(async () => {
          // Its direction had ended, so the end of a handler that fails reads as an end.
          const [said] = await ask(Uint8Array.of(0xff))
          const { code, ours } = (await outcome(node.open(native, '/nobody/1'))).error
          return [said, code, ours]
        })
        assert.deepEqual(broken, ['', 'unsupported', true])
        await native.until(({ text }) => text?.includes(`handler of ${GREET} failed`))
        assert.deepEqual(page.errors, [])
        await page.evaluate(() => node.stop())
        await page.close()
      })
    }
  })
}
