// One identity is one node, also where the one would be the command's and the other the package's in Node: whoever comes second is refused.

import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createNode } from '../../js/dist/nodejs.js'
import { startNative } from '../support/native.mjs'

for (const [what, flags] of [
  ['with its control socket', () => []],
  ['without a control socket', () => ['--no-control']],
  ['with one elsewhere', (folder) => ['--control', join(folder, 'elsewhere.sock')]],
]) {
  test(`a native node ${what} and one in Node do not run beside each other, in either order`, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'selkie-'))
    t.after(() => rm(folder, { recursive: true }))
    const inNode = () => createNode({ network: 'selkie-test', storage: { directory: folder } })
    const native = () => startNative({ folder, transports: ['tcp'], flags: flags(folder) })

    const first = await native()
    await assert.rejects(inNode(), { code: 'identity-in-use' })
    await first.stop()

    const second = await inNode()
    assert.equal(second.peerId, first.peerId, 'it is the same key')
    await assert.rejects(native(), /another node runs with the key/)
    await second.stop()

    // Each has left the way free for the other, and so has one that was killed.
    const third = await native()
    await third.kill()
    await (await inNode()).stop()
    const locks = (await readdir(folder)).filter((name) => name.startsWith('identity.lock'))
    assert.deepEqual(locks, [])
  })
}
