// A tab in Chromium and a native node on loopback: how soon the first block is there, how long a
// connection takes, how fast an echo comes back. Each figure stands beside what the browser does without
// Selkie, measured in the same run.
//
// It takes js/dist, www/dist and the `selkie` command (see native.mjs) as they are: `./build.sh bench
// browser` builds them optimised first.

import { mkdir, writeFile } from 'node:fs/promises'
import { launch, openPage } from '../../tests/support/browsers.mjs'
import { startEcho, startDevnet, startNative } from '../../tests/support/native.mjs'
import { repository } from '../../tests/support/paths.mjs'
import { openSite } from '../../tests/support/site.mjs'

/** New browsers, for what is measured cold. */
const COLD_RUNS = 5
/** Connections, and round trips; the first tenth of them warms up and does not count. */
const CONNECTIONS = 40
const ECHOES = 200
const BYTES = 1024

const middle = (samples) => samples.toSorted((a, b) => a - b)[samples.length >> 1]
const warm = (samples) => samples.slice(samples.length / 10)

/** The time in which a new browser gets somewhere with a page. */
async function cold(url, arrived) {
  const samples = []
  for (let run = 0; run < COLD_RUNS; run += 1) {
    const browser = await launch('chromium')
    try {
      samples.push(await arrived(await openPage(browser, url)))
    } finally {
      await browser.close()
    }
  }
  return middle(samples)
}

async function firstBlock(site) {
  // Blocks come so often that waiting for the next one is no part of the figure.
  const devnet = await startDevnet('5', '--rate', '100', '--transaction-rate', '100')
  try {
    const value = await cold(devnet.url, async (page) => {
      await page.waitForSelector('html[data-first-block-ms]')
      return page.evaluate(() => Number(document.documentElement.dataset.firstBlockMs))
    })
    const baseline = await cold(site.url, (page) =>
      page.evaluate(async () => {
        await WebAssembly.compileStreaming(fetch('/selkie/selkie_bg.wasm'))
        return performance.now()
      }),
    )
    return {
      name: 'page opened to first block, wasm cold',
      value,
      baseline,
      baseline_name: 'an empty page that compiles the same wasm',
      target: 1500,
    }
  } finally {
    await devnet.stop()
  }
}

async function connect(page, native) {
  const [value, baseline] = await page.evaluate(
    async (address, peerId, runs) => {
      await start()
      const ours = []
      const plain = []
      for (let run = 0; run < runs; run += 1) {
        const identified = new Promise((resolve) =>
          node.addEventListener('peer:identify', resolve, { once: true }),
        )
        const gone = new Promise((resolve) =>
          node.addEventListener('peer:disconnect', resolve, { once: true }),
        )
        const began = performance.now()
        await node.dial(address)
        await identified
        ours.push(performance.now() - began)
        await node.disconnect(peerId)
        await gone
        plain.push(await open(`ws://127.0.0.1:${address.split('/')[4]}`))
      }
      await node.stop()
      return [ours, plain]

      async function open(url) {
        const began = performance.now()
        const socket = new WebSocket(url)
        await new Promise((resolve) => (socket.onopen = resolve))
        const took = performance.now() - began
        socket.close()
        return took
      }
    },
    native.addresses.ws,
    native.peerId,
    CONNECTIONS,
  )
  return {
    name: 'WebSocket connect, hello and identify',
    value: middle(warm(value)),
    baseline: middle(warm(baseline)),
    baseline_name: 'the browser’s WebSocket opens at the same port',
    target: 100,
  }
}

async function echo(page, native, address) {
  const url = `ws://127.0.0.1:${address.split('/')[4]}/echo`
  const [pings, requests, baseline] = await page.evaluate(
    async (to, url, runs, bytes) => {
      const plain = await plainEchoes()
      await start({ config: { network: { keepalive_interval: '10ms' } } })
      await node.dial(to)
      const requests = await refusals()
      const pings = await roundTrips()
      await node.stop()
      return [pings, requests, plain]

      async function times(echo) {
        const samples = []
        for (let run = 0; run < runs; run += 1) {
          const began = performance.now()
          await echo()
          samples.push(performance.now() - began)
        }
        return samples
      }

      async function plainEchoes() {
        const socket = new WebSocket(url)
        socket.binaryType = 'arraybuffer'
        await new Promise((resolve) => (socket.onopen = resolve))
        const message = new Uint8Array(bytes)
        return times(async () => {
          socket.send(message)
          await new Promise((resolve) => (socket.onmessage = resolve))
        })
      }

      // The native node serves no state, and says so: a question of this size and a short answer.
      async function refusals() {
        const key = new Uint8Array(bytes)
        return times(() => outcome(node.state.get(key)))
      }

      // The node measures its pings; each that differs from the one before is a new one.
      async function roundTrips() {
        const samples = []
        let last
        while (samples.length < runs) {
          const [{ rttMs }] = await node.peers()
          if (rttMs !== null && rttMs !== last) samples.push((last = rttMs))
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
        return samples
      }
    },
    native.addresses.ws,
    url,
    ECHOES,
    BYTES,
  )
  const figure = (name, samples) => ({
    name,
    value: middle(warm(samples)),
    baseline: middle(warm(baseline)),
    baseline_name: `${BYTES} bytes echoed over the browser’s WebSocket`,
    target: 3,
  })
  return [
    figure('round trip: ping, by Noise and Yamux', pings),
    figure(`round trip: ${BYTES} bytes asked on a new stream, answered`, requests),
  ]
}

const settle = (figure) => ({
  name: figure.name,
  value: Number(figure.value.toFixed(2)),
  unit: 'ms',
  baseline: Number(figure.baseline.toFixed(2)),
  baseline_name: figure.baseline_name,
  ratio: Number((figure.value / figure.baseline).toFixed(2)),
  target: figure.target,
  met: figure.value <= figure.target,
})

const site = await openSite({ isolated: true })
const figures = [await firstBlock(site)]
const native = await startNative()
const server = await startEcho()
const browser = await launch('chromium')
try {
  const page = await openPage(browser, site.url)
  figures.push(await connect(page, native))
  figures.push(...(await echo(page, native, server.address)))
} finally {
  await Promise.all([browser.close(), native.stop(), server.stop(), site.close()])
}

const rows = figures.map(settle)
const folder = repository('target/bench')
await mkdir(folder, { recursive: true })
await writeFile(`${folder}/browser.json`, JSON.stringify(rows, null, 2) + '\n')
console.log(`${'browser'.padEnd(56)} ${'selkie'.padStart(8)} ${'baseline'.padStart(9)}`)
for (const { name, value, unit, baseline, target, met } of rows) {
  const [left, right] = [value.toFixed(2).padStart(8), baseline.toFixed(2).padStart(9)]
  const verdict = met ? 'met' : 'MISSED'
  console.log(`${`${name} (${unit})`.padEnd(56)} ${left} ${right}  at most ${target}: ${verdict}`)
}
