// The package as a peer where there is no browser: in Node, Deno and Bun, resolved by each in its own way.

import assert from 'node:assert/strict'
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { BLOCK_FILE, BLOCK_ID, block } from '../support/bitcoin.mjs'
import { Lines } from '../support/lines.mjs'
import { replay, startNative } from '../support/native.mjs'
import { repository } from '../support/paths.mjs'

/** How each runs a program, and how the packages are called that have it for some kind of machine. */
const RUNTIMES = {
  node: { words: [], packages: 'node-' },
  deno: {
    words: ['run', '--allow-all', '--quiet', '--node-modules-dir=manual'],
    packages: '@deno/',
  },
  bun: { words: ['run'], packages: '@oven/bun-' },
}

const lock = JSON.parse(await readFile(repository('tests/package-lock.json'), 'utf8'))

/** Whether npm has one of these packages for machines of this kind: then it is installed, and has to run. */
function isForThis(packages) {
  const all = Object.entries(lock.packages)
  return all.some(
    ([path, { os, cpu }]) =>
      path.startsWith(`node_modules/${packages}`) &&
      os?.includes(process.platform) &&
      cpu?.includes(process.arch),
  )
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

for (const [name, { words, packages }] of Object.entries(RUNTIMES)) {
  const command = repository(`tests/node_modules/.bin/${name}`)
  const skip = isForThis(packages) ? false : `npm has no ${name} for this machine`

  test(
    `${name} joins, receives a block and leaves, on its thread and in a worker`,
    { skip },
    async () => {
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
    },
  )
}
