// What `npm pack` and `npm publish` ask first: whether dist/ holds what is shipped, the builds that `./build.sh npm` makes, and whether a
// node starts on each. The tests have one build under both names, and would not notice which glue goes with which WebAssembly.

import { readFile } from 'node:fs/promises'

const read = (path) => readFile(new URL(path, import.meta.url)).catch(() => undefined)

async function isShipped(name) {
  const [built, shipped] = await Promise.all([read(`./wasm/${name}`), read(`./dist/${name}`)])
  return built !== undefined && shipped?.equals(built)
}

const profile = String((await read('./wasm/profile')) ?? 'none').trim()
const shipped = await Promise.all(['selkie_bg.wasm', 'ledger_bg.wasm'].map(isShipped))
if (profile !== 'wasm' || shipped.includes(false)) {
  console.error(
    `the WebAssembly is not optimised (profile ${profile}), or not what was built last: run ./build.sh npm in the repository's root`,
  )
  process.exit(1)
}

const { createNode } = await import('./dist/nodejs.js')
for (const application of ['bitcoin', 'ledger']) {
  for (const run of ['page', 'worker']) {
    const node = await createNode({ network: { id: 'prepack', application }, run })
    await node.stop()
  }
}
