/** What tools that judge packages say of this one: its entries, its types, and its reference as typedoc writes it. */

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bin, execute, pack } from './packed.mjs'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))

let packed
before(async () => (packed = await pack()))
after(() => packed?.close())

/** What a tool says that is not content is in its standard output. */
async function passes(tool, ...args) {
  const ran = execute(bin(tool), args, { cwd: PACKAGE })
  await assert.doesNotReject(
    ran.catch(({ stdout, stderr }) => Promise.reject(new Error(stdout + stderr))),
  )
}

test('publint finds nothing, not even to suggest', () =>
  passes('publint', packed.tarball, '--strict', '--level', 'suggestion'))

/** What is there for its address, and not for imports. */
const FILES = ['selkie_bg.wasm', 'ledger_bg.wasm', 'ledger.js']

test('its types are right wherever they are resolved', () =>
  passes(
    'attw',
    packed.tarball,
    '--profile',
    'esm-only',
    '--no-emoji',
    '--exclude-entrypoints',
    ...FILES,
  ))

test('typedoc understands all of its reference', () =>
  passes(
    'typedoc',
    '--entryPoints',
    'index.d.ts',
    '--tsconfig',
    'tsconfig.json',
    '--emit',
    'none',
    '--treatWarningsAsErrors',
  ))

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
