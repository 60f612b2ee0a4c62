/** What is published beside the code: its reference, as typedoc writes it, and its maps. */

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bin, execute } from './packed.mjs'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))

test('typedoc understands all of its reference', async () => {
  // Where the clone came from is no matter of the reference.
  const types = ['--tsconfig', 'tsconfig.json', '--disableSources']
  const options = [...types, '--emit', 'none', '--treatWarningsAsErrors']
  await execute(bin('typedoc'), ['--entryPoints', 'index.d.ts', ...options], { cwd: PACKAGE })
})

test('its JavaScript has maps that hold the sources', async () => {
  const read = (name) => readFile(new URL(`../dist/${name}`, import.meta.url), 'utf8')
  for (const [name, source] of [
    ['browser.js', 'browser.ts'],
    ['worker.js', 'bridge.ts'],
    ['worker-nodejs.js', 'worker-nodejs.ts'],
  ]) {
    const [, map] = /\n\/\/# sourceMappingURL=(.*)\s*$/.exec(await read(name))
    const { sources, sourcesContent } = JSON.parse(await read(map))
    const found = sources.findIndex((each) => each.endsWith(`src/${source}`))
    const original = await readFile(new URL(`../src/${source}`, import.meta.url), 'utf8')
    assert.equal(sourcesContent[found], original, name)
  }
})
