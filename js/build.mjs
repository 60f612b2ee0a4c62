/**
 * Makes dist/: the compiled TypeScript, the WebAssembly with its glue, and what `./inline` embeds.
 *
 * wasm/ must hold what wasm-bindgen wrote (`--target web --out-name selkie`): `./build.sh npm` in
 * the repository's root does that first and then calls this.
 */

import { build } from 'esbuild'
import { execFileSync } from 'node:child_process'
import { copyFile, cp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

const here = (path) => fileURLToPath(new URL(path, import.meta.url))
const exists = (path) =>
  stat(here(path)).then(
    () => true,
    () => false,
  )

for (const file of ['wasm/selkie.js', 'wasm/selkie_bg.wasm']) {
  if (await exists(file)) continue
  console.error(
    `js/${file} is missing; run ./build.sh npm in the repository's root, which makes it`,
  )
  process.exit(1)
}

await rm(here('dist'), { recursive: true, force: true })
execFileSync(process.execPath, [here('node_modules/typescript/bin/tsc')], {
  cwd: here('.'),
  stdio: 'inherit',
})

const wasm = await readFile(here('wasm/selkie_bg.wasm'))
await writeFile(here('dist/selkie_bg.wasm'), wasm)
await writeFile(
  here('dist/selkie.js'),
  withoutAddress(await readFile(here('wasm/selkie.js'), 'utf8')),
)
if (await exists('wasm/snippets')) {
  await cp(here('wasm/snippets'), here('dist/snippets'), { recursive: true })
}
await writeFile(
  here('dist/import-module.js'),
  'export const importModule = (address) => import(/* webpackIgnore: true */ /* @vite-ignore */ address)\n',
)
const { version } = JSON.parse(await readFile(here('package.json'), 'utf8'))
await writeFile(here('dist/version.js'), `export const version = ${JSON.stringify(version)}\n`)
await writeFile(here('dist/embedded.js'), await embedded())
for (const licence of ['LICENSE-MIT', 'LICENSE-APACHE']) {
  if (await exists(`../${licence}`)) await copyFile(here(`../${licence}`), here(licence))
}
console.log(`js/dist is built; selkie_bg.wasm has ${wasm.length} bytes`)

/**
 * The glue without its own idea of where the WebAssembly lies. The facade always passes a module,
 * and a bundler that saw the address would ship the file a second time, with `./inline` too.
 */
function withoutAddress(glue) {
  const stripped = glue.replace(/module_or_path = new URL\([^)]*import\.meta\.url\);/, '')
  if (stripped.includes('import.meta')) {
    throw new Error('wasm/selkie.js has an import.meta that build.mjs does not know; teach it')
  }
  return stripped
}

/** The module that src/embedded.d.ts describes. */
async function embedded() {
  const { outputFiles } = await build({
    entryPoints: [here('dist/worker.js')],
    bundle: true,
    minify: true,
    format: 'esm',
    write: false,
  })
  const text = (name, value) => `export const ${name} = ${JSON.stringify(value)}\n`
  return text('wasm', wasm.toString('base64')) + text('worker', outputFiles[0].text)
}
