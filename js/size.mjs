// Holds the package's WebAssembly against its limits, says so, and writes target/bench/wasm.json. The limits are for what a page loads whose
// chain is its own; the ledgers' is shown beside it. In the smoke form of the benches (SELKIE_BENCH_SMOKE) it only looks that they are
// there: a quick build's size says nothing.
//
// The baseline is a comparable package: Lumina's, a light node of Celestia on libp2p, as published.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const [wasm, ledger] = await Promise.all(
  ['selkie', 'ledger'].map((name) => readFile(new URL(`./dist/${name}_bg.wasm`, import.meta.url))),
)
const gzip = (bytes) => gzipSync(bytes, { level: 9 }).length
const brotli = (bytes) =>
  brotliCompressSync(bytes, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_LGWIN]: 24,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  }).length

if (process.env.SELKIE_BENCH_SMOKE) {
  console.log(`wasm: ${wasm.length} and ${ledger.length} bytes, not kept`)
  process.exit()
}

const row = (name, bytes, target, baseline) => ({
  name,
  value: Number((bytes / 1e6).toFixed(4)),
  unit: 'MB',
  baseline,
  baseline_name: baseline === null ? null : 'Lumina, as published',
  ratio: baseline === null ? null : Number((bytes / 1e6 / baseline).toFixed(3)),
  target,
  met: target === null ? null : bytes / 1e6 <= target,
})

const rows = [
  row('wasm, raw', wasm.length, null, null),
  row('wasm, gzip -9', gzip(wasm), 0.85, 2.02),
  row('wasm, brotli -q 11', brotli(wasm), 0.65, 1.62),
  row('wasm with the ledgers, raw', ledger.length, null, null),
  row('wasm with the ledgers, gzip -9', gzip(ledger), null, null),
  row('wasm with the ledgers, brotli -q 11', brotli(ledger), null, null),
]
const out = new URL('../target/bench/', import.meta.url)
await mkdir(out, { recursive: true })
await writeFile(new URL('wasm.json', out), JSON.stringify(rows, null, 2) + '\n')
for (const { name, value, target, met } of rows) {
  const verdict = target === null ? '' : `limit ${target.toFixed(2)} MB: ${met ? 'met' : 'MISSED'}`
  console.log(`${name.padEnd(36)} ${value.toFixed(4)} MB  ${verdict}`)
}
