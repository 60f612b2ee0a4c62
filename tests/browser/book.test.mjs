// What a tab knows of its peers when it comes again.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { startNative } from '../support/native.mjs'
import { openSite } from '../support/site.mjs'

for (const name of BROWSERS) {
  describe(name, () => {
    let browser, site, native
    before(async () => {
      browser = await launch(name)
      site = await openSite()
      native = await startNative()
    })
    after(() => Promise.all([browser?.close(), site?.close(), native?.stop()]))

    /** A test with a page of its own, whose node has joined by a bootstrap peer. */
    const joined = (title, run, check) =>
      test(title, async () => {
        const page = await openPage(browser, site.url)
        try {
          const options = {
            run,
            storage: 'indexeddb',
            bootstrap: [native.addresses.ws],
          }
          const peerId = await page.evaluate((options) => start(options), options)
          await page.evaluate(() => happened('peer:connect'))
          await check(page, peerId)
          assert.deepEqual(page.errors, [])
        } finally {
          await page.close()
        }
      })

    /** A node that nobody has told of anybody. */
    const again = (page, run) =>
      page.evaluate((options) => start(options), { run, storage: 'indexeddb' })

    for (const run of ['page', 'worker']) {
      joined(
        `a ${run} that was stopped and is reloaded finds its peer`,
        run,
        async (page, first) => {
          await page.evaluate(() => node.stop())
          await page.reload()
          assert.equal(await again(page, run), first)
          const { peerId } = await page.evaluate(() => happened('peer:connect'))
          assert.equal(peerId, native.peerId)
        },
      )

      joined(`a ${run} that is reloaded without a word does too`, run, async (page, first) => {
        await page.evaluate(() => kept())
        await page.reload()
        assert.equal(await again(page, run), first)
        const { peerId } = await page.evaluate(() => happened('peer:connect'))
        assert.equal(peerId, native.peerId)
      })
    }

    joined('what is no book costs the book and not the start', 'page', async (page) => {
      await page.evaluate(() => node.stop())
      for (const [bytes, why] of [
        ['nonsense', /no address book/],
        [[1, 2, 3], /no address book/],
        [[], /empty/],
      ]) {
        await page.evaluate((bytes) => keep(bytes), bytes)
        await again(page, 'page')
        const { reason } = await page.evaluate(() => happened('book:lost'))
        assert.match(reason, why)
        assert.deepEqual(await page.evaluate(() => node.book()), [])
        await page.evaluate(() => node.stop())
      }
    })

    joined('a second tab keeps none, and the first one’s stays', 'page', async (page) => {
      const beside = await openPage(browser, site.url, { beside: page })
      const options = { storage: 'indexeddb', identityInUse: 'ephemeral' }
      await beside.evaluate((options) => start(options), options)
      const { reason } = await beside.evaluate(() => happened('identity:ephemeral'))
      assert.match(reason, /another node runs on the identity/)
      assert.deepEqual(await beside.evaluate(() => node.book()), [])
      await page.evaluate(() => node.stop())
      await beside.evaluate(() => node.stop())
      await again(page, 'page')
      assert.equal((await page.evaluate(() => node.book())).length > 0, true)
    })
  })
}
