// The README's JavaScript, as a page that a node serves: what a user copies has to run.

import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { startDevnet } from '../support/native.mjs'
import { repository } from '../support/paths.mjs'

for (const name of BROWSERS) {
  test(`${name}: the README's page joins, logs a block and ends`, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'selkie-readme-'))
    const [, code] = /```js\n(.*?)```/s.exec(await readFile(repository('README.md'), 'utf8'))
    // What a bundler or an import map does.
    const resolved = code.replace("from 'selkie'", "from '/selkie/browser.js'")
    const page = '<!doctype html><title>runs</title><script type="module" src="main.js"></script>'
    await writeFile(join(folder, 'index.html'), page)
    await writeFile(join(folder, 'main.js'), `${resolved}document.title = 'done'\n`)
    const devnet = await startDevnet('2', '--www', folder)
    const browser = await launch(name)
    try {
      const page = await openPage(browser, 'about:blank')
      const lines = []
      page.on('console', (line) => lines.push(line.text()))
      await page.goto(devnet.url)
      await page.waitForFunction(() => document.title === 'done')
      const said = (word) => lines.find((line) => line.startsWith(word))
      assert.match(said('joined'), /^joined 12D3Koo\w{45}$/)
      assert.match(said('block'), /^block [0-9a-f]{64} \d+ bytes$/)
      assert.deepEqual(page.errors, [])
    } finally {
      await browser.close()
      await devnet.stop()
      await rm(folder, { recursive: true })
    }
  })
}
