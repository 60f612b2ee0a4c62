/**
 * The package as a user gets it: packed, installed from the tarball, built by the tool of each
 * fixture with no plugin and no configuration, and opened in a browser.
 */

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { extname, join, normalize } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import puppeteer from 'puppeteer-core'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))
const FIXTURES = fileURLToPath(new URL('fixtures/', import.meta.url))
const PEER_ID = /^12D3Koo\w{45}$/

const execute = promisify(execFile)
let work, tarball, server, origin, browser

before(async () => {
  if (!(await isInstalled(FIXTURES))) await execute('npm', ['ci'], { cwd: FIXTURES })
  work = await mkdtemp(join(tmpdir(), 'selkie-fixtures-'))
  // Not what is published: the build that the tests use.
  const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', work]
  tarball = join(
    work,
    JSON.parse((await execute('npm', pack, { cwd: PACKAGE })).stdout)[0].filename,
  )
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
  if (work) await rm(work, { recursive: true })
})

describe('a plain page with modules', () => {
  before(() => install('esm'))

  test('runs a node itself', () => opens('esm/index.html'))
  test('runs a node in a worker', () => opens('esm/index.html?run=worker'))
  for (const run of ['page', 'worker']) {
    test(`judges by a module of its own (${run})`, () => judges(`esm/index.html?chain&run=${run}`))
  }

  test('is told how much has arrived', async () => {
    const page = await open('esm/index.html')
    const { size } = await stat(join(work, 'esm/node_modules/selkie/dist/selkie_bg.wasm'))
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
      const page = await open(`esm/index.html?run=${run}`)
      // A worker is not ordered with its page: the page listens before anything is thrown.
      await page.evaluate(`void (globalThis.code = new Promise((resolve) => {
        node.addEventListener('node:stop', ({ detail }) => resolve(detail.error.code))
      }))`)
      const thread = run === 'page' ? page : page.workers()[0]
      await thread.evaluate(`void setTimeout(() => {
        throw new WebAssembly.RuntimeError('unreachable')
      })`)
      assert.equal(await page.evaluate('code'), 'crashed')
      await page.close()
    })
  }
})

describe('Vite', () => {
  before(async () => {
    await install('vite')
    await build('vite', 'vite', ['build', '--base', './'])
  })

  test('builds a page that runs a node', () => opens('vite/dist/index.html'))
  test('builds a worker that runs a node', () => opens('vite/dist/index.html?run=worker'))
  test('builds a page that follows a ledger', () => follows('vite/dist/index.html?run=page'))
  test('builds a worker that follows one', () => follows('vite/dist/index.html?run=worker'))
  test('passes a chain on to the worker', () => judges('vite/dist/index.html?chain&run=worker'))
})

describe('webpack', () => {
  before(async () => {
    await install('webpack')
    await build('webpack', 'webpack', ['build', '--entry', './main.js', '--mode', 'production'])
  })

  test('builds a page that runs a node', () => opens('webpack/index.html'))
  test('builds a worker that runs a node', () => opens('webpack/index.html?run=worker'))
  test('builds a page that follows a ledger', () => follows('webpack/index.html?run=page'))
  test('builds a worker that follows one', () => follows('webpack/index.html?run=worker'))
  test('passes a chain on to the worker', () => judges('webpack/index.html?chain&run=worker'))
})

describe('esbuild', () => {
  before(async () => {
    await install('esbuild')
    const options = ['--bundle', '--minify', '--format=esm', '--outdir=dist', '--loader:.wasm=file']
    await build('esbuild', 'esbuild', ['main.js', 'address.js', ...options])
  })

  test('builds a page that runs a node, inline', () => opens('esbuild/index.html'))
  test('builds a worker that runs a node, inline', () => opens('esbuild/index.html?run=worker'))
  test('builds a page that follows a ledger, inline', () => follows('esbuild/index.html?run=page'))
  test('builds a worker that follows one, inline', () => follows('esbuild/index.html?run=worker'))
  test('builds a page that is given the address', () => opens('esbuild/address.html'))
})

describe('Node', () => {
  before(() => install('node'))

  test('runs a node, on its thread and in a worker, that keeps its identity', async () => {
    const { stdout } = await execute(process.execPath, ['main.js'], { cwd: join(work, 'node') })
    const [page, worker] = stdout.trim().split('\n')
    assert.match(page.replace(/ 0$/, ''), PEER_ID)
    assert.equal(worker, page)
  })

  test("runs the README's ten lines", async (t) => {
    const readme = await readFile(join(PACKAGE, 'README.md'), 'utf8')
    const [, code] = /```js\n(.*?)```/s.exec(readme)
    await writeFile(join(work, 'node/peer.mjs'), code)
    const peer = spawn(process.execPath, ['peer.mjs', origin], { cwd: join(work, 'node') })
    t.after(() => peer.kill())
    let said = ''
    for await (const text of peer.stdout.setEncoding('utf8')) {
      said += text
      if (said.includes('\n')) break
    }
    assert.match(said.trim().replace(/^I am /, ''), PEER_ID)
  })
})

/** Whether what is there is what the lock file asks for. */
async function isInstalled(folder) {
  const time = (file) => stat(join(folder, file)).then(({ mtimeMs }) => mtimeMs)
  const installed = await time('node_modules/.package-lock.json').catch(() => 0)
  return installed >= (await time('package-lock.json'))
}

async function install(name) {
  const folder = join(work, name)
  await cp(join(FIXTURES, name), folder, { recursive: true })
  for (const file of ['show.js', 'chain.js']) await cp(join(FIXTURES, file), join(folder, file))
  await execute('npm', ['install', '--offline', '--no-save', tarball], { cwd: folder })
}

function build(name, tool, args) {
  return execute(join(FIXTURES, 'node_modules/.bin', tool), args, { cwd: join(work, name) })
}

/** A page whose node has started, or failed to. */
async function open(address) {
  const page = await browser.newPage()
  const errors = []
  page.on('pageerror', (error) => errors.push(String(error)))
  page.on('requestfailed', (request) => errors.push(`${request.url()} failed`))
  await page.goto(`${origin}/${address}`)
  try {
    await page.waitForFunction(`document.title !== 'starting'`, { timeout: 30_000 })
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
