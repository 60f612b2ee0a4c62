/**
 * The package as a user gets it: packed, installed from the tarball, built by the tool of each
 * fixture with what the README says it takes, and opened in a browser.
 */

import assert from 'node:assert/strict'
import { readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import puppeteer from 'puppeteer-core'
import { Lines, PATIENCE } from '../../tests/support/lines.mjs'
import { bin, execute, pack } from './packed.mjs'

const README = await readFile(fileURLToPath(new URL('../README.md', import.meta.url)), 'utf8')
const HOOK = /## React.*?```js\n(.*?)```/s
const PEER_ID = /^12D3Koo\w{45}$/

/** Of all tests of a tool, in milliseconds. */
const LIMIT = { timeout: 300_000 }

/** Nothing is told to anybody; and the lock file is another's, of all fixtures. */
const NEXT = { NEXT_TELEMETRY_DISABLED: '1', NEXT_IGNORE_INCORRECT_LOCKFILE: '1' }

/** Where pages have the WebAssembly with the ledgers, as who serves it by itself: its glue can be had by the test too. */
const GLUE = '/node_modules/selkie/dist/ledger.js'

/** How each tool builds its fixture, with what the README says. */
const BUILDS = {
  async vite() {
    await packed.copy('vite')
    await packed.run('vite', 'vite', ['build', '--base', './'])
  },
  async webpack() {
    await packed.copy('webpack')
    const options = ['--entry', './main.js', '--mode', 'production']
    await packed.run('webpack', 'webpack', ['build', ...options])
  },
  async esbuild() {
    await packed.copy('esbuild')
    const options = ['--bundle', '--minify', '--format=esm', '--outdir=dist', '--loader:.wasm=file']
    await packed.run('esbuild', 'esbuild', ['main.js', 'address.js', ...options])
  },
  async rollup() {
    await packed.copy('rollup')
    const plugins = ['node-resolve={browser: true}', '@web/rollup-plugin-import-meta-assets']
    const options = ['main.js', '--dir', 'dist', '--format', 'esm']
    await packed.run('rollup', 'rollup', [...options, ...plugins.flatMap((each) => ['-p', each])])
  },
  async parcel() {
    await packed.copy('parcel')
    const options = ['--public-url', './', '--cache-dir', '.cache', '--no-source-maps']
    // What is missing is a failure, and not installed.
    await packed.run('parcel', 'parcel', ['build', 'index.html', '--no-autoinstall', ...options])
  },
  async react() {
    await packed.copy('react', { 'use-node.js': example(HOOK) })
    // StrictMode mounts twice in React's build for development only.
    const options = ['--base', './', '--mode', 'development']
    await packed.run('react', 'vite', ['build', ...options], { NODE_ENV: 'development' })
  },
  async next() {
    await packed.copy('next', { 'app/use-node.js': example(HOOK) })
    await packed.run('next', 'next', ['build'], NEXT)
  },
}

let packed, work, built, server, origin, browser

before(async () => {
  packed = await pack()
  work = packed.work
  built = startAll(BUILDS)
  server = createServer(serveFile)
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${server.address().port}`
  browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
})

after(async () => {
  await browser?.close()
  server?.closeAllConnections()
  server?.close()
  await Promise.allSettled(Object.values(built ?? {}))
  await packed?.close()
})

describe('a plain page with modules', LIMIT, () => {
  before(() => packed.copy('esm'))

  test('runs a node itself', () => opens('esm/index.html'))
  test('runs a node in a worker', () => opens('esm/index.html?run=worker'))
  for (const run of ['page', 'worker']) {
    test(`judges by a module of its own (${run})`, () => judges(`esm/index.html?chain&run=${run}`))
  }

  test('is told how much has arrived', async () => {
    const page = await open('esm/index.html')
    const { size } = await stat(join(work, 'node_modules/selkie/dist/selkie_bg.wasm'))
    assert.deepEqual(await page.evaluate('progress'), { loaded: size, total: size })
    await page.close()
  })

  for (const run of ['page', 'worker']) {
    test(`loads what the chain is in, and no more (${run})`, async () => {
      const page = await open(`esm/index.html?run=${run}&application=bitcoin`)
      assert.deepEqual(await loaded(page), ['selkie_bg.wasm'])
      await page.close()
      await follows(`esm/index.html?run=${run}`, async (page) =>
        assert.deepEqual(await loaded(page), ['ledger_bg.wasm']),
      )
    })

    test(`keeps its identity, which one tab at a time may use (${run})`, async () => {
      const address = `esm/index.html?storage=indexeddb&run=${run}`
      const first = await open(address)
      const identity = await first.title()
      assert.match(identity, /^node /)

      const second = await open(address)
      assert.match(await second.title(), /^error identity-in-use: .*identityInUse: 'wait'/)
      await second.close()
      const third = await open(`${address}&identityInUse=ephemeral`)
      assert.match(await third.title(), /^node /)
      assert.notEqual(await third.title(), identity)
      await third.close()

      await first.evaluate('node.stop()')
      const fourth = await open(address)
      assert.equal(await fourth.title(), identity)
      await fourth.close()
      await first.close()
    })
  }

  for (const run of ['page', 'worker']) {
    test(`hears of a crash (${run})`, async () => {
      const page = await open(`esm/index.html?run=${run}&glue=${GLUE}`)
      // A worker is not ordered with its page: the page listens before anything is thrown.
      await page.evaluate(`void (globalThis.code = new Promise((resolve) => {
        node.addEventListener('node:stop', ({ detail }) => resolve(detail.error.code))
      }))`)
      const thread = run === 'page' ? page : page.workers()[0]
      await thread.evaluate(panic())
      assert.equal(await page.evaluate('code'), 'crashed')
      await page.close()
    })
  }
})

describe('Vite', LIMIT, () => {
  before(() => built.vite)

  test('builds a page that runs a node', () => opens('vite/dist/index.html'))
  test('builds a worker that runs a node', () => opens('vite/dist/index.html?run=worker'))
  test('builds a page that follows a ledger', () => follows('vite/dist/index.html?run=page'))
  test('builds a worker that follows one', () => follows('vite/dist/index.html?run=worker'))
  test('passes a chain on to the worker', () => judges('vite/dist/index.html?chain&run=worker'))
})

// What a page loads, its worker does too: between the two, these have all files. Pages are Vite's to show.
for (const [tool, page] of [
  ['webpack', 'webpack/index.html'],
  ['rollup', 'rollup/index.html'],
  ['parcel', 'parcel/dist/index.html'],
]) {
  describe(tool, LIMIT, () => {
    before(() => built[tool])

    test('builds a worker that follows a ledger', () => follows(`${page}?run=worker`))
    test('passes a chain on to the worker', () => judges(`${page}?chain&run=worker`))
  })
}

describe('esbuild', LIMIT, () => {
  before(() => built.esbuild)

  test('builds a page that follows a ledger, inline', () => follows('esbuild/index.html?run=page'))
  test('builds a worker that follows one, inline', () => follows('esbuild/index.html?run=worker'))
  test('builds a page that is given the address', () => opens('esbuild/address.html'))
})

describe('React', LIMIT, () => {
  before(() => built.react)

  for (const run of ['page', 'worker']) {
    const address = `react/dist/index.html?run=${run}`

    test(`mounts the README's hook twice, and again and again (${run})`, async () => {
      const page = await open(address)
      const identity = await page.title()
      assert.match(identity.replace(/^node /, ''), PEER_ID)
      for (let times = 0; times < 2; times += 1) {
        await page.evaluate(`unmount(), new Promise((resolve) => setTimeout(resolve))`)
        await page.evaluate(`document.title = 'starting', mount()`)
        await page.waitForFunction(`document.title !== 'starting'`)
        assert.equal(await page.title(), identity)
      }
      await page.close()
    })

    test(`is told by the README's hook of the node's end (${run})`, async () => {
      for (const [end, title] of [
        ['node.stop()', 'starting'],
        [panic(), /^error CrashedError: .*no paper/],
      ]) {
        const page = await open(`${address}&glue=${GLUE}`)
        const thread = run === 'worker' && end !== 'node.stop()' ? page.workers()[0] : page
        await thread.evaluate(end)
        await page.waitForFunction(`!document.title.startsWith('node ')`)
        assert.match(await page.title(), new RegExp(title))
        await page.close()
      }
    })
  }

  test("gives up by the signal of the README's hook too", async () => {
    const page = await open('react/dist/index.html?aborted')
    assert.equal(await page.title(), 'error Error: enough')
    await page.close()
  })
})

describe('Next.js', LIMIT, () => {
  let site, next
  before(async () => {
    await built.next
    const options = { cwd: join(work, 'next'), env: { ...process.env, ...NEXT } }
    next = new Lines(bin('next'), ['start', '--port', '0', '--hostname', '127.0.0.1'], options)
    const where = /http:\/\/127\.0\.0\.1:\d+/
    const { text } = await next.until(({ text }) => where.test(text))
    site = where.exec(text)[0]
  })
  after(() => next?.stop())

  test('renders what imports it on the server, and starts nothing there', async () => {
    const html = (await (await fetch(site)).text()).replaceAll('<!-- -->', '')
    assert.match(html, /<p>SelkieError was imported here<\/p><p>none yet<\/p>/)
  })
  test('builds a worker that follows a ledger', () => follows(`${site}?run=worker`))
  test('passes a chain on to the worker', () => judges(`${site}?chain&run=worker`))
})

describe('Node', LIMIT, () => {
  before(() => packed.copy('node', { 'peer.mjs': example(/```js\n(.*?)```/s) }))

  test('runs a node, on its thread and in a worker, that keeps its identity', async () => {
    const { stdout } = await execute(process.execPath, ['main.js'], { cwd: join(work, 'node') })
    const [page, worker] = stdout.trim().split('\n')
    assert.match(page.replace(/ 0$/, ''), PEER_ID)
    assert.equal(worker, page)
  })

  test("runs the README's ten lines", async (t) => {
    const peer = new Lines(process.execPath, ['peer.mjs', origin], { cwd: join(work, 'node') })
    t.after(() => peer.stop())
    const { text } = await peer.until({ type: 'text' })
    assert.match(text.replace(/^I am /, ''), PEER_ID)
  })
})

describe('a tool that judges packages', LIMIT, () => {
  /** What a tool says that is not content is in its standard output. */
  async function passes(tool, ...args) {
    const ran = execute(bin(tool), [packed.tarball, ...args])
    await assert.doesNotReject(
      ran.catch(({ stdout, stderr }) => Promise.reject(new Error(stdout + stderr))),
    )
  }

  test('publint finds nothing, not even to suggest', () =>
    passes('publint', '--strict', '--level', 'suggestion'))

  test('are-the-types-wrong resolves its types wherever they are asked for', () => {
    // What is there for its address, and not for imports.
    const files = ['selkie_bg.wasm', 'ledger_bg.wasm', 'ledger.js']
    return passes(
      'attw',
      ...['--profile', 'esm-only', '--no-emoji', '--exclude-entrypoints', ...files],
    )
  })
})

/** What is the end of the WebAssembly with the glue of {@link GLUE}, on the thread where it runs. */
function panic() {
  const glue = new URL(GLUE, origin).href
  return `import('${glue}').then(({ panicForTests }) => void setTimeout(panicForTests, 0, 'no paper'))`
}

/** A part of the README's code. */
function example(part) {
  const [, code] = part.exec(README)
  return code
}

/** All at once, by their names; who awaits one hears of its failure. */
function startAll(builds) {
  const started = Object.entries(builds).map(([name, build]) => [name, build()])
  for (const [, build] of started) build.catch(() => {})
  return Object.fromEntries(started)
}

/** A page whose node has started, or failed to. */
async function open(address) {
  const page = await browser.newPage()
  const errors = []
  page.on('pageerror', (error) => errors.push(String(error)))
  page.on('requestfailed', (request) => errors.push(`${request.url()} failed`))
  await page.goto(new URL(address, origin).href)
  try {
    await page.waitForFunction(`document.title !== 'starting'`, { timeout: PATIENCE })
  } catch (cause) {
    throw new Error(`${address} did not start: ${errors.join('; ')}`, { cause })
  }
  return page
}

/** A node there asks the application of `chain.js`. */
async function judges(address) {
  const page = await open(address)
  const submit = (text) =>
    page.evaluate(`node.transactions.submit(new TextEncoder().encode('${text}'))
      .catch(({ code }) => code)`)
  assert.match(await page.title(), /^node /)
  assert.deepEqual([await submit('steal 5'), await submit('pay 5')], ['rejected', 'no-peers'])
  await page.close()
}

/** A node there has a ledger: only that knows how far it is. */
async function follows(address, look = async () => {}) {
  const page = await open(`${address}&application=ledger-light`)
  assert.match(await page.title(), /^node /)
  await page.waitForFunction('node.sync.status().then((status) => status?.phase)')
  await look(page)
  await page.close()
}

/** The WebAssembly that a page has fetched. */
async function loaded(page) {
  const names = await page.evaluate(
    `performance.getEntriesByType('resource').map(({ name }) => name.split('/').at(-1))`,
  )
  return names.filter((name) => name.endsWith('.wasm'))
}

async function opens(address) {
  const page = await open(address)
  assert.match((await page.title()).replace(/^node /, ''), PEER_ID)
  await page.close()
}

const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
}

async function serveFile({ url }, response) {
  const { pathname } = new URL(url, origin)
  // What a node of the command line serves for those who would join it.
  if (pathname === '/api/node') {
    return response.end(JSON.stringify({ network: { id: 'selkie-dev' }, bootstrap: [] }))
  }
  try {
    const body = await readFile(join(work, normalize(pathname)))
    const type = TYPES[extname(pathname)] ?? 'application/octet-stream'
    response.writeHead(200, { 'content-type': type, 'content-length': body.length }).end(body)
  } catch {
    response.writeHead(404).end()
  }
}
