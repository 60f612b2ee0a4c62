/** The types as a TypeScript project has them that checks those of its packages too, with a browser's library or Node's. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const here = (path) => fileURLToPath(new URL(path, import.meta.url))
const NODE = ['--types', 'node', '--typeRoots', here('../node_modules/@types')]

for (const [whose, options] of [
  [
    'a browser and a bundler',
    ['--module', 'ESNext', '--moduleResolution', 'Bundler', '--lib', 'ES2022,DOM'],
  ],
  [
    'a worker',
    ['--module', 'ESNext', '--moduleResolution', 'Bundler', '--lib', 'ES2022,WebWorker'],
  ],
  ['a browser', ['--module', 'NodeNext', '--lib', 'ES2022,DOM']],
  ['Node, without the DOM', ['--module', 'NodeNext', '--lib', 'ES2022', ...NODE]],
]) {
  test(`compiles for ${whose}`, () => {
    const common = [
      '--ignoreConfig',
      '--noEmit',
      '--strict',
      '--target',
      'ES2022',
      '--skipLibCheck',
      'false',
    ]
    const args = [here('../node_modules/typescript/bin/tsc'), ...common, ...options]
    const { stdout, status } = spawnSync(process.execPath, [...args, here('consumer/main.ts')])
    assert.equal(status, 0, String(stdout))
  })
}
