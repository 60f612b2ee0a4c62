// The dashboard of `selkie devnet`, as a user opens it: the tab joins by itself and shows real blocks.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { BROWSERS, launch, openPage, screenshot } from '../support/browsers.mjs'
import { startDevnet } from '../support/native.mjs'

const LOOKS = { wide: { width: 1440, height: 900 }, narrow: { width: 390, height: 844 } }

describe('the dashboard of a devnet', () => {
  let devnet
  before(async () => (devnet = await startDevnet('3')))
  after(() => devnet?.stop())

  for (const name of BROWSERS) {
    for (const run of ['page', 'worker']) {
      test(`${name}: a ${run} joins by itself and receives blocks`, async () => {
        const browser = await launch(name)
        try {
          const page = await openPage(browser, `${devnet.url}?run=${run}`, LOOKS.wide)
          await page.waitForSelector('html[data-state="connected"][data-first-block-ms]')
          const rows = '#blocks tbody tr, #blocks li'
          await page.waitForSelector(rows)
          const count = await page.$eval('#count-peers', (cell) => Number(cell.textContent))
          assert.ok(count >= 1)
          await screenshot(page, `dashboard-${name}-${run}`)
          if (run === 'page') {
            await page.setViewport(LOOKS.narrow)
            await screenshot(page, `dashboard-${name}-narrow`)
          }
          assert.deepEqual(page.errors, [])
        } finally {
          await browser.close()
        }
      })
    }
  }

  test('Ctrl-C ends the devnet in order', async () => {
    assert.equal(await devnet.stop(), 0)
  })
})
