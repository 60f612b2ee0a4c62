/**
 * The package as a user gets it: packed, installed from the tarball, built by the tool of each
 * fixture with what the README says it takes, and opened in a browser.
 */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import puppeteer from 'puppeteer-core'
import { bin, execute, pack } from './packed.mjs'

const README = await readFile(fileURLToPath(new URL('../README.md', import.meta.url)), 'utf8')
const PEER_ID = /^12D3Koo\w{45}$/

let packed, work, server, origin, browser

before(async () => {
  packed = await pack()
  work = packed.work
  await packed.install()
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
  await packed?.close()
})

describe('a plain page with modules', () => {
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
    await packed.copy('vite')
    await packed.run('vite', 'vite', ['build', '--base', './'])
  })

  test('builds a page that runs a node', () => opens('vite/dist/index.html'))
  test('builds a worker that runs a node', () => opens('vite/dist/index.html?run=worker'))
  test('builds a page that follows a ledger', () => follows('vite/dist/index.html?run=page'))
  test('builds a worker that follows one', () => follows('vite/dist/index.html?run=worker'))
  test('passes a chain on to the worker', () => judges('vite/dist/index.html?chain&run=worker'))
})

describe('webpack', () => {
  before(async () => {
    await packed.copy('webpack')
    const options = ['--entry', './main.js', '--mode', 'production']
    await packed.run('webpack', 'webpack', ['build', ...options])
  })

  test('builds a page that runs a node', () => opens('webpack/index.html'))
  test('builds a worker that runs a node', () => opens('webpack/index.html?run=worker'))
  test('builds a page that follows a ledger', () => follows('webpack/index.html?run=page'))
  test('builds a worker that follows one', () => follows('webpack/index.html?run=worker'))
  test('passes a chain on to the worker', () => judges('webpack/index.html?chain&run=worker'))
})

describe('esbuild', () => {
  before(async () => {
    await packed.copy('esbuild')
    const options = ['--bundle', '--minify', '--format=esm', '--outdir=dist', '--loader:.wasm=file']
    await packed.run('esbuild', 'esbuild', ['main.js', 'address.js', ...options])
  })

  test('builds a page that runs a node, inline', () => opens('esbuild/index.html'))
  test('builds a worker that runs a node, inline', () => opens('esbuild/index.html?run=worker'))
  test('builds a page that follows a ledger, inline', () => follows('esbuild/index.html?run=page'))
  test('builds a worker that follows one, inline', () => follows('esbuild/index.html?run=worker'))
  test('builds a page that is given the address', () => opens('esbuild/address.html'))
})

describe('Rollup', () => {
  before(async () => {
    await packed.copy('rollup')
    const plugins = ['node-resolve={browser: true}', '@web/rollup-plugin-import-meta-assets']
    const options = ['main.js', '--dir', 'dist', '--format', 'esm']
    await packed.run('rollup', 'rollup', [...options, ...plugins.flatMap((each) => ['-p', each])])
  })

  test('builds a page that runs a node', () => opens('rollup/index.html'))
  test('builds a worker that runs a node', () => opens('rollup/index.html?run=worker'))
  test('builds a page that follows a ledger', () => follows('rollup/index.html?run=page'))
  test('builds a worker that follows one', () => follows('rollup/index.html?run=worker'))
  test('passes a chain on to the worker', () => judges('rollup/index.html?chain&run=worker'))
})

describe('Parcel', () => {
  before(async () => {
    await packed.copy('parcel')
    const options = ['--public-url', './', '--cache-dir', '.cache', '--no-source-maps']
    await packed.run('parcel', 'parcel', ['build', 'index.html', ...options])
  })

  test('builds a page that runs a node', () => opens('parcel/dist/index.html'))
  test('builds a worker that runs a node', () => opens('parcel/dist/index.html?run=worker'))
  test('builds a page that follows a ledger', () => follows('parcel/dist/index.html?run=page'))
  test('builds a worker that follows one', () => follows('parcel/dist/index.html?run=worker'))
  test('passes a chain on to the worker', () => judges('parcel/dist/index.html?chain&run=worker'))
})

describe('React', () => {
  before(async () => {
    await packed.copy('react')
    await writeFile(join(work, 'react/use-node.js'), hook())
    // StrictMode mounts twice in React's build for development only.
    const options = ['--base', './', '--mode', 'development']
    await packed.run('react', 'vite', ['build', ...options], { NODE_ENV: 'development' })
  })

  for (const run of ['page', 'worker']) {
    test(`mounts the README's hook twice, and again and again (${run})`, async () => {
      const page = await open(`react/dist/index.html?run=${run}`)
      const identity = await page.title()
      assert.match(identity.replace(/^node /, ''), PEER_ID)
      for (let times = 0; times < 5; times += 1) {
        await page.evaluate(`unmount(), new Promise((resolve) => setTimeout(resolve))`)
        await page.evaluate(`document.title = 'starting', mount()`)
        await page.waitForFunction(`document.title !== 'starting'`)
        assert.equal(await page.title(), identity)
      }
      await page.close()
    })
  }
})

describe('Next.js', () => {
  let site, next
  before(async () => {
    const env = { NEXT_TELEMETRY_DISABLED: '1' }
    await packed.copy('next')
    await writeFile(join(work, 'next/app/use-node.js'), hook())
    await packed.run('next', 'next', ['build'], env)
    const options = { cwd: join(work, 'next'), env: { ...process.env, ...env } }
    next = spawn(bin('next'), ['start', '--port', '0', '--hostname', '127.0.0.1'], options)
    let said = ''
    for await (const text of next.stdout.setEncoding('utf8')) {
      said += text
      site = /http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0]
      if (site) break
    }
    assert.ok(site, said)
  })
  after(async () => {
    if (next?.exitCode !== null) return
    next.kill()
    await once(next, 'exit')
  })

  test('renders what imports it on the server, and starts nothing there', async () => {
    const html = (await (await fetch(site)).text()).replaceAll('<!-- -->', '')
    assert.match(html, /<p>SelkieError was imported here<\/p><p>none yet<\/p>/)
  })
  test('builds a page that runs a node', () => opens(site))
  test('builds a worker that runs a node', () => opens(`${site}?run=worker`))
  test('builds a page that follows a ledger', () => follows(`${site}?run=page`))
  test('builds a worker that follows one', () => follows(`${site}?run=worker`))
  test('passes a chain on to the worker', () => judges(`${site}?chain&run=worker`))
})

describe('Node', () => {
  before(() => packed.copy('node'))

  test('runs a node, on its thread and in a worker, that keeps its identity', async () => {
    const { stdout } = await execute(process.execPath, ['main.js'], { cwd: join(work, 'node') })
    const [page, worker] = stdout.trim().split('\n')
    assert.match(page.replace(/ 0$/, ''), PEER_ID)
    assert.equal(worker, page)
  })

  test("runs the README's ten lines", async (t) => {
    const [, code] = /```js\n(.*?)```/s.exec(README)
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

/** The README's hook. */
function hook() {
  const [, code] = /## React.*?```js\n(.*?)```/s.exec(README)
  return code
}

/** A page whose node has started, or failed to. */
async function open(address) {
  const page = await browser.newPage()
  const errors = []
  page.on('pageerror', (error) => errors.push(String(error)))
  page.on('requestfailed', (request) => errors.push(`${request.url()} failed`))
  await page.goto(new URL(address, origin).href)
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
