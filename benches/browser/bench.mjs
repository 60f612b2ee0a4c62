// A tab and a native node on loopback: how soon the first block is there, how long a connection takes, how fast
// an echo comes back. Each figure stands beside what the browser does without Selkie, measured in the same
// run; all are medians, in Chromium unless they say otherwise, with the least and the most of their rounds, each in a new browser.
//
// - First block: from the start of the navigation to `selkie devnet`'s dashboard, in a new browser with nothing
//   cached, to the first block in the page's hands: page, wasm, node, dial, hello, gossip. The devnet of two replays
//   small Bitcoin blocks 20 ms apart, so that waiting for the next one is 10 ms of the figure. Then the same page once more in that
//   browser, a while later: it has the files, the code that it compiled, the identity and the address book.
// - Connections: from `node.dial` to the peer being ready (hello and subscriptions exchanged), and to the event
//   `peer:identify`; a page's first, when the wasm is still cold, and those after it. The browser has been up for 2 s
//   by then: for its first second it is busy with itself.
// - Echo: 1 KiB over the WebSocket transport alone, as tests/browser_websocket.rs measures it; its output is read
//   from the file that ECHO_LOG names. Then what a user gets of it, through Noise, Yamux and the page's
//   promises: a ping, and a request of 1 KiB on a new stream with a short answer.
// - Transactions: how many of 250 bytes a second the page is handed, while a native node makes as many as are asked for
//   here; the longest time between two frames meanwhile, and the CPU time of the page's process for each. The node on the page itself,
//   and in a worker. The source is the program that FLOOD names (benches/propagation/flood.rs). The same where an application in
//   JavaScript accepts them, beside the built-in one, by turns.
//
// - Light sync: see light.mjs.
//
// It takes js/dist, www/dist and the `selkie` command (see native.mjs) as they are: `./build.sh bench
// browser` builds them optimised first.

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
import { launch, openPage } from '../../tests/support/browsers.mjs'
import { Lines } from '../../tests/support/lines.mjs'
import { startEcho, startDevnet, startNative } from '../../tests/support/native.mjs'
import { repository } from '../../tests/support/paths.mjs'
import { openSite } from '../../tests/support/site.mjs'
import { light } from './light.mjs'
import { beside, measured, middle } from './rounds.mjs'

/** Whether everything is only run for a moment: the figures say nothing then and are not kept. */
const SMOKE = Boolean(process.env.SELKIE_BENCH_SMOKE)
/** New browsers, for what is measured cold, and the connections made in each. */
const COLD_RUNS = SMOKE ? 1 : 5
const CONNECTIONS = SMOKE ? 2 : 12
/** How long a page is open before it is opened again, in ms: browsers keep compiled code only when they have most of it. */
const KEEPING = SMOKE ? 0 : 5000
/** Round trips; the first tenth of them warms up and does not count. */
const ECHOES = SMOKE ? 20 : 200
/** Transactions a second, how many seconds of them are measured after how many others, and how often. */
const FLOOD = SMOKE
  ? { rate: 500, seconds: 1, settling: 0.5, runs: 1 }
  : { rate: 20_000, seconds: 5, settling: 2, runs: 5 }
const BYTES = 1024

const warm = (samples) => samples.slice(samples.length / 10)

/** What `measure` finds in pages at this address, each in a new browser that has been up for so long. */
async function cold(url, measure, { name = 'chromium', settled = 0 } = {}) {
  const samples = []
  for (let run = 0; run < COLD_RUNS; run += 1) {
    const browser = await launch(name)
    try {
      await setTimeout(settled)
      samples.push(await measure(await openPage(browser, url)))
    } finally {
      await browser.close()
    }
  }
  return samples
}

async function firstBlock(site) {
  // The devnet remembers half a round of blocks, so that each is new again when it comes round.
  const file = ['--replay', repository('testdata/chain-0-438.dat')]
  const devnet = await startDevnet('2', ...file, '--rate', '50', '--transaction-rate', '0')
  const arrival = async (page) => {
    await page.waitForSelector('html[data-first-block-ms]')
    return page.evaluate(() => Number(document.documentElement.dataset.firstBlockMs))
  }
  const loads = async (page) => {
    const first = await arrival(page)
    await setTimeout(KEEPING)
    await page.goto('about:blank')
    await page.goto(devnet.url)
    return { first, again: await arrival(page) }
  }
  const compile = (page) =>
    page.evaluate(async () => {
      await WebAssembly.compileStreaming(fetch('/selkie/selkie_bg.wasm'))
      return performance.now()
    })
  const figuresIn = async (name, where, target) => {
    const samples = await cold(devnet.url, loads, { name })
    const [first, again] = ['first', 'again'].map((load) => samples.map((times) => times[load]))
    return [
      {
        name: `page opened to first block${where}`,
        ...measured(first),
        ...beside(await cold(site.url, compile, { name })),
        baseline_name: 'an empty page that compiles the same wasm',
        target,
      },
      {
        name: `page opened again to first block${where}`,
        ...measured(again),
        ...beside(first),
        baseline_name: 'opened for the first time',
        target: null,
      },
    ]
  }
  try {
    return [
      ...(await figuresIn('chromium', '', 1500)),
      ...(await figuresIn('firefox', ', Firefox', null)),
    ]
  } finally {
    await devnet.stop()
  }
}

async function connect(site, native) {
  const measure = (page) =>
    page.evaluate(
      async (address, runs) => {
        const event = (type) =>
          new Promise((resolve) => node.addEventListener(type, resolve, { once: true }))
        const since = (began) => () => performance.now() - began
        const samples = []
        for (let run = 0; run < runs; run += 1) {
          const plain = await open(`ws://127.0.0.1:${address.split('/')[4]}`)
          // Each time a new node: one that knew the peer might be dialling it for its own lookups already.
          await start()
          const took = since(performance.now())
          const [identified, ready] = await Promise.all([
            event('peer:identify').then(took),
            node.dial(address).then(took),
          ])
          samples.push({ ready, identified, plain })
          await node.stop()
        }
        return samples

        async function open(url) {
          const took = since(performance.now())
          const socket = new WebSocket(url)
          await new Promise((resolve) => (socket.onopen = resolve))
          const time = took()
          socket.close()
          return time
        }
      },
      native.addresses.ws,
      CONNECTIONS,
    )
  const browsers = await cold(site.url, measure, { settled: 2000 })
  const of = (connections, what) =>
    browsers.map((samples) => middle(connections(samples).map((sample) => sample[what])))
  const figure = (name, connections, what, target = null) => ({
    name,
    ...measured(of(connections, what)),
    ...beside(of(connections, 'plain')),
    baseline_name: 'the browser’s WebSocket opens at the same port',
    target,
  })
  const first = (samples) => samples.slice(0, 1)
  const later = (samples) => samples.slice(1)
  return [
    figure('dial to peer ready, a page’s first', first, 'ready'),
    figure('dial to identify, a page’s first', first, 'identified', 100),
    figure('dial to peer ready, later ones', later, 'ready'),
    figure('dial to identify, later ones', later, 'identified', 100),
  ]
}

/** The median that the transport's own test printed, in milliseconds. */
async function transportEcho() {
  const text = await readFile(process.env.ECHO_LOG, 'utf8')
  const [, number, unit] = /1 KiB echo round trip: median ([\d.]+)(ns|µs|ms|s),/.exec(text)
  return Number(number) * { ns: 1e-6, µs: 1e-3, ms: 1, s: 1e3 }[unit]
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
  const figure = (name, value, target = null) => ({
    name,
    value,
    baseline: middle(warm(baseline)),
    baseline_name: `${BYTES} bytes echoed over the browser’s WebSocket`,
    target,
  })
  return [
    figure(`echo of ${BYTES} bytes over the transport`, await transportEcho(), 3),
    figure('ping, through Noise and Yamux', middle(warm(pings))),
    figure(`request of ${BYTES} bytes on a new stream, answered`, middle(warm(requests))),
  ]
}

/**
 * Transactions a second, the longest time between two frames in ms, and CPU time for a transaction in µs, of a page whose node runs here or
 * there, by an application in JavaScript or the built-in one.
 */
async function flood(site, run, isScripted) {
  const address = '/ip4/127.0.0.1/tcp/0/ws'
  const source = new Lines(process.env.FLOOD, ['--child', 'flood', address, String(FLOOD.rate)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const browser = await launch('chromium')
  try {
    const { text } = await source.until({ type: 'text' })
    const page = await openPage(browser, site.url)
    await page.evaluate(
      async (address, run, isScripted, settling) => {
        const url = new URL('/accept.js', location.href)
        const application = run === 'worker' ? url : (await import(url)).default
        await start({
          run,
          network: 'selkie-dev',
          ...(isScripted && { application }),
        })
        let count = 0
        const read = async () => {
          for await (const _ of node.transactions.subscribe()) count += 1
        }
        void read()
        await node.dial(address)
        globalThis.measure = async (seconds) => {
          count = 0
          const began = performance.now()
          const longest = await frames(seconds)
          return { count, seconds: (performance.now() - began) / 1000, longest }
        }
        await frames(settling)

        async function frames(seconds) {
          const end = performance.now() + seconds * 1000
          let [last, longest] = [performance.now(), 0]
          while (last < end) {
            await new Promise(requestAnimationFrame)
            longest = Math.max(longest, performance.now() - last)
            last = performance.now()
          }
          return longest
        }
      },
      text,
      run,
      isScripted,
      FLOOD.settling,
    )
    const before = await rendererTime(browser)
    const { count, seconds, longest } = await page.evaluate((time) => measure(time), FLOOD.seconds)
    const used = (await rendererTime(browser)) - before
    await page.evaluate(() => node.stop())
    return { rate: count / seconds, longest, cpu: (used * 1e6) / count }
  } finally {
    await Promise.all([browser.close(), source.stop()])
  }
}

/** The CPU time that the processes of Chromium's pages have used so far, their workers included, in seconds. */
async function rendererTime(browser) {
  const session = await browser.target().createCDPSession()
  const { processInfo } = await session.send('SystemInfo.getProcessInfo')
  await session.detach()
  const renderers = processInfo.filter(({ type }) => type === 'renderer')
  return renderers.reduce((sum, { cpuTime }) => sum + cpuTime, 0)
}

async function floods(site) {
  const figures = []
  for (const run of ['page', 'worker']) {
    const [samples, scripted] = [[], []]
    for (let turn = 0; turn < FLOOD.runs; turn += 1) {
      samples.push(await flood(site, run, false))
      scripted.push(await flood(site, run, true))
    }
    const of = (samples, what) => samples.map((sample) => sample[what])
    const figure = (name, unit, what, least, most) => ({
      name: `${name}, node in the ${run}`,
      ...measured(of(samples, what)),
      unit,
      baseline: null,
      baseline_name: null,
      least,
      target: most,
    })
    const scriptedFigure = (name, unit, what, least, most) => ({
      ...figure(`${name}, application in JavaScript`, unit, what, least, most),
      ...measured(of(scripted, what)),
      ...beside(of(samples, what)),
      baseline_name: 'the built-in application `opaque`',
    })
    const least = run === 'page' ? 10_000 : 15_000
    figures.push(
      figure('transactions received', '/s', 'rate', 10_000, null),
      figure('longest time between two frames', 'ms', 'longest', null, 50),
      scriptedFigure('transactions received', '/s', 'rate', least, null),
      scriptedFigure('longest time between two frames', 'ms', 'longest', null, 50),
      scriptedFigure('CPU for a transaction', 'µs', 'cpu', null, null),
    )
  }
  return figures
}

const hundredths = (value) => Number(value.toFixed(2))

const settle = (figure) => ({
  name: figure.name,
  value: hundredths(figure.value),
  spread: figure.spread?.map(hundredths) ?? null,
  unit: figure.unit ?? 'ms',
  baseline: figure.baseline && hundredths(figure.baseline),
  baseline_spread: figure.baseline_spread?.map(hundredths) ?? null,
  baseline_name: figure.baseline_name,
  ratio: figure.baseline && hundredths(figure.value / figure.baseline),
  target: target(figure),
  met:
    target(figure) && (figure.least ? figure.value >= figure.least : figure.value <= figure.target),
})

const target = ({ least, target }) =>
  least ? `at least ${least}` : target ? `at most ${target}` : null

const site = await openSite({ isolated: true })
const figures = await firstBlock(site)
// It lets one peer ask as fast as it can.
const native = await startNative({
  config: '[security.rate_limits]\nmessages_per_second = 10000\nburst = 10000\n',
})
const server = await startEcho()
const browser = await launch('chromium')
try {
  figures.push(...(await connect(site, native)))
  figures.push(...(await echo(await openPage(browser, site.url), native, server.address)))
} finally {
  await Promise.all([browser.close(), native.stop(), server.stop()])
}
figures.push(...(await floods(site)))
await site.close()
figures.push(
  ...(await light(SMOKE ? { height: 100, runs: 1 } : { height: 10_000, runs: COLD_RUNS })),
)

if (SMOKE) {
  console.log(`browser: ${figures.length} figures, not kept`)
  process.exit()
}
const rows = figures.map(settle)
const folder = repository('target/bench')
await mkdir(folder, { recursive: true })
await writeFile(`${folder}/browser.json`, JSON.stringify(rows, null, 2) + '\n')
console.log(`${'browser'.padEnd(56)} ${'selkie'.padStart(8)} ${'baseline'.padStart(9)}`)
for (const { name, value, spread, unit, baseline, target, met } of rows) {
  const [left, right] = [value.toFixed(2).padStart(8), (baseline?.toFixed(2) ?? '').padStart(9)]
  const verdict = met === null ? '' : `  ${target}: ${met ? 'met' : 'MISSED'}`
  const rounds = spread ? `  (rounds: ${spread.join(' to ')})` : ''
  console.log(`${`${name} (${unit})`.padEnd(56)} ${left} ${right}${verdict}${rounds}`)
}
