/** Only the optimised builds are packed. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const PREPACK = fileURLToPath(new URL('../prepack.mjs', import.meta.url))

/** A package whose nodes start, but on the WebAssembly with the ledgers. */
const BROKEN = `export async function createNode({ network }) {
  if (network.application === 'ledger') throw new Error("can't load the glue")
  return { stop() {} }
}`

test('what is packed is what was built last, optimised, and starts', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'selkie-prepack-'))
  t.after(() => rm(folder, { recursive: true }))
  const write = (path, text) => writeFile(join(folder, path), text)
  const packs = () => {
    const { status, stderr } = spawnSync(process.execPath, [join(folder, 'prepack.mjs')])
    if (status !== 0) assert.match(String(stderr), /run \.\/build\.sh npm|can't load the glue/)
    return status === 0
  }
  await copyFile(PREPACK, join(folder, 'prepack.mjs'))
  assert.equal(packs(), false, 'nothing was built')
  for (const place of ['wasm', 'dist']) {
    await mkdir(join(folder, place))
    for (const name of ['selkie', 'ledger']) await write(`${place}/${name}_bg.wasm`, name)
  }
  await write('package.json', '{ "type": "module" }')
  await write('dist/nodejs.js', BROKEN)
  await write('wasm/profile', 'quick\n')
  assert.equal(packs(), false, 'it was built for tests')
  await write('wasm/profile', 'wasm\n')
  assert.equal(packs(), false, 'one does not start')
  await write('dist/nodejs.js', 'export const createNode = async () => ({ stop() {} })')
  assert.equal(packs(), true)
  for (const name of ['selkie', 'ledger']) {
    await write(`dist/${name}_bg.wasm`, 'older')
    assert.equal(packs(), false, `an older ${name} is there`)
    await write(`dist/${name}_bg.wasm`, name)
  }
  const { scripts } = JSON.parse(await readFile(new URL('../package.json', import.meta.url)))
  assert.equal(scripts.prepack, 'node prepack.mjs')
})
