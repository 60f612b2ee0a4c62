/**
 * Makes dist/: the compiled TypeScript, each WebAssembly with its glue, a worker's program in one file, and what `./inline` embeds.
 *
 * wasm/ must hold what wasm-bindgen wrote (`--target web --out-name selkie`, and `ledger`):
 * `./build.sh npm` in the repository's root does that first and then calls this.
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

/** The smaller one, and the one that has the ledgers too. */
const BUILDS = ['selkie', 'ledger']

for (const file of BUILDS.flatMap((name) => [`wasm/${name}.js`, `wasm/${name}_bg.wasm`])) {
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

const watch = (await readFile(here('dist/watch.js'), 'utf8')).replace(
  /\n\/\/# sourceMappingURL.*/,
  '',
)
for (const name of BUILDS) {
  await copyFile(here(`wasm/${name}_bg.wasm`), here(`dist/${name}_bg.wasm`))
  const glue = await readFile(here(`wasm/${name}.js`), 'utf8')
  await writeFile(here(`dist/${name}.js`), watched(name, withoutAddress(name, glue)))
}
for (const file of ['dist/watch.js', 'dist/watch.js.map']) await rm(here(file))
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
// As it stands there for itself, whatever passes it on as a file that it does not look into.
for (const { path, contents } of await workerWith('selkie', { sourcemap: true })) {
  await writeFile(path, contents)
}
for (const licence of ['LICENSE-MIT', 'LICENSE-APACHE']) {
  if (await exists(`../${licence}`)) await copyFile(here(`../${licence}`), here(licence))
}
const sizes = BUILDS.map(async (name) => {
  const { size } = await stat(here(`dist/${name}_bg.wasm`))
  return `${name}_bg.wasm has ${size} bytes`
})
console.log(`js/dist is built; ${(await Promise.all(sizes)).join(', ')}`)

/**
 * The glue without its own idea of where the WebAssembly lies. The facade always passes a module,
 * and a bundler that saw the address would ship the file a second time, with `./inline` too.
 */
function withoutAddress(name, glue) {
  const stripped = glue.replace(/module_or_path = new URL\([^)]*import\.meta\.url\);/, '')
  if (stripped.includes('import.meta')) {
    throw new Error(`wasm/${name}.js has an import.meta that build.mjs does not know; teach it`)
  }
  return stripped
}

/** The glue with src/watch.ts in it, which hears of exceptions. It stays one file: users serve it by itself. */
function watched(name, glue) {
  const [exports, seen] = ['wasm = instance.exports;', 'wasm = watch(instance.exports);']
  if (glue.split(exports).length !== 2) {
    throw new Error(
      `wasm/${name}.js takes its exports in a way that build.mjs does not know; teach it`,
    )
  }
  return `${glue.replace(exports, seen)}\n${watch}`
}

/** The module that src/embedded.d.ts describes: the WebAssembly that has all, and a worker with the glue for that. */
async function embedded() {
  const worker = (await workerWith('ledger')).at(-1)
  const wasm = await readFile(here('dist/ledger_bg.wasm'))
  const text = (name, value) => `export const ${name} = ${JSON.stringify(value)}\n`
  return text('wasm', wasm.toString('base64')) + text('worker', worker.text)
}

/** The files of a worker's program that has this glue and needs no file beside it; the program is the last. */
async function workerWith(name, options) {
  const glue = {
    name: 'glue',
    setup: ({ onResolve }) =>
      onResolve({ filter: /^\.\/selkie\.js$/ }, () => ({ path: here(`dist/${name}.js`) })),
  }
  const { outputFiles, metafile } = await build({
    entryPoints: [here('dist/worker.js')],
    outfile: here('dist/worker.js'),
    allowOverwrite: true,
    plugins: [glue],
    bundle: true,
    minify: true,
    format: 'esm',
    write: false,
    metafile: true,
    ...options,
  })
  // Builds for tests have one glue under both names and would not show it.
  const glues = Object.keys(metafile.inputs).filter((path) => /\/(selkie|ledger)\.js$/.test(path))
  if (glues.length !== 1 || !glues[0].endsWith(`/${name}.js`)) {
    throw new Error(`a worker has the glue ${glues}; it needs that of ${name}_bg.wasm`)
  }
  return outputFiles
}
