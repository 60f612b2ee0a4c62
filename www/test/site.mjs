// The page with the stand-in node, served on loopback, and a headless Chromium to look at it.

import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import puppeteer from 'puppeteer-core'
import { build } from 'vite'

const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
}

/** An address that the stand-in connects to, one that it refuses, and one whose peer is gone at first. */
export const OPEN =
  '/ip4/127.0.0.1/tcp/9001/ws/p2p/12D3KooWGzBhKQ3sYyWmJxVvXh1yQ4rTzNqfPbUe8dLkA5nCwMtE'
export const SHUT = OPEN.replace('/9001/', '/1/')
const FLEEING = OPEN.replace('/9001/', '/2/')
const DEAF = ['192.0.2.1', '192.0.2.2'].map((host) =>
  OPEN.replace('127.0.0.1', host).replace('/9001/', '/3/'),
)

/**
 * Serves the page below a folder, as a node behind a proxy might. `node` in the query of the page
 * is what the server then answers at `api/node`: `none`, `shut`, `broken`, `fleeing`, `deaf` (two that never answer before an open one), else an open one;
 * `moving` is shut and of another network until it has been asked once.
 */
export async function openSite() {
  process.env.SELKIE_FAKE = '1'
  const root = fileURLToPath(new URL('..', import.meta.url))
  await build({ root, configFile: join(root, 'vite.config.mjs'), logLevel: 'warn' })
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://page')
    if (pathname === '/tab/api/node') {
      answer(response, new URL(request.headers.referer).searchParams.get('node'))
      return
    }
    try {
      if (!pathname.startsWith('/tab/')) throw new Error('outside')
      const name = normalize(pathname.slice(4)).replace(/\/$/, '/index.html')
      const file = await readFile(join(root, 'test/dist', name))
      response.writeHead(200, {
        'content-type': types[extname(name)] ?? 'application/octet-stream',
      })
      response.end(file)
    } catch {
      response.writeHead(404).end()
    }
  })
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
  const browser = await puppeteer.launch({
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
  return {
    browser,
    url: (query = '') => `http://127.0.0.1:${server.address().port}/tab/${query}`,
    async close() {
      await browser.close()
      server.close()
    },
  }
}

let moved = false

function answer(response, node) {
  if (node === 'none') {
    response.writeHead(404).end()
    return
  }
  let network = { id: node === 'broken' ? 'broken' : 'bitcoin-replay', application: 'bitcoin' }
  let address = { shut: SHUT, fleeing: FLEEING }[node] ?? OPEN
  if (node === 'moving' && !moved) {
    moved = true
    network = { id: 'before', application: 'opaque' }
    address = SHUT
  }
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(
    JSON.stringify({
      network,
      bootstrap: node === 'deaf' ? [...DEAF, address] : [address],
      config: { protocol: { gossipsub_config: { duplicate_cache_time: '5000ms' } } },
      peer_id: OPEN.split('/').at(-1),
    }),
  )
}

/** A page in the given look, with every error of it collected in `page.errors`. */
export async function openPage({ browser, url }, { query, width = 1440, scheme = 'dark' } = {}) {
  const context = await browser.createBrowserContext()
  const page = await context.newPage()
  page.errors = []
  page.on('pageerror', (error) => page.errors.push(String(error)))
  page.on('console', (line) => line.type() === 'error' && page.errors.push(line.text()))
  await page.setViewport({ width, height: width < 600 ? 844 : 900 })
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
  await page.goto(url(query))
  return page
}

/** Waits until the page's node is in this state. */
export const inState = (page, state) => page.waitForSelector(`html[data-state="${state}"]`)

/** Has the stand-in do something. */
export const tell = (page, command) =>
  page.evaluate((detail) => dispatchEvent(new CustomEvent('fake', { detail })), command)

/** Waits until the text of an element matches. */
export const says = (page, selector, pattern) =>
  page.waitForFunction(
    (where, source) => new RegExp(source).test(document.querySelector(where)?.textContent ?? ''),
    {},
    selector,
    pattern.source,
  )
