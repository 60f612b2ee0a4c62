// The package as a peer where there is no browser: in Node, Deno and Bun, resolved by each in its own way.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { BLOCK_FILE, BLOCK_ID, block } from '../support/bitcoin.mjs'
import { Lines } from '../support/lines.mjs'
import { replay, startNative } from '../support/native.mjs'
import { repository } from '../support/paths.mjs'

/** How each runs a program. */
const RUNTIMES = {
  node: [],
  deno: ['run', '--allow-all', '--quiet', '--node-modules-dir=manual'],
  bun: ['run'],
}

let folder
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'selkie-runtimes-'))
  await mkdir(join(folder, 'node_modules'))
  const manifest = { type: 'module', dependencies: { selkie: '*' } }
  await writeFile(join(folder, 'package.json'), JSON.stringify(manifest))
  await symlink(repository('js'), join(folder, 'node_modules/selkie'))
  await copyFile(repository('tests/support/runtime.mjs'), join(folder, 'main.mjs'))
})
after(() => rm(folder, { recursive: true }))

for (const [name, words] of Object.entries(RUNTIMES)) {
  const command = repository(`tests/node_modules/.bin/${name}`)

  test(`${name} joins, receives a block and leaves, on its thread and in a worker`, async (t) => {
    try {
      await promisify(execFile)(command, ['--version'])
    } catch (error) {
      return t.skip(`npm has no ${name} for this machine: ${error.message}`)
    }
    const native = await startNative({ transports: ['tcp', 'ws'] })
    const program = new Lines(command, [...words, 'main.mjs', native.addresses.ws, `./${name}`], {
      cwd: folder,
    })
    try {
      const identities = new Set()
      for (const run of ['page', 'worker']) {
        const joined = await program.until({ type: 'joined', run })
        assert.deepEqual([joined.peer, joined.second], [native.peerId, 'identity-in-use'])
        identities.add(joined.peerId)
        if (run === 'page') await replay(BLOCK_FILE, native)
        const { id, size } = await program.until({ type: 'block', run })
        assert.deepEqual([id, size], [BLOCK_ID, block.length])
      }
      assert.equal(identities.size, 1, 'it is kept')
      await program.until({ type: 'end' })
      assert.equal(await program.exit, 0)
    } finally {
      await program.stop()
      await native.stop()
    }
  })
}
