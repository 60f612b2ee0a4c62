// A web server on loopback at a free port: a page with the npm package, as a user's site might be.
//
//   /           a page that has the package as `selkie` and the helpers of page/helpers.js
//   /example/   examples/chain-in-a-tab, with what is built of it and the package
//   /selkie/    js/dist, with `Cache-Control: no-store` so that a new page fetches anew, unless it is asked for otherwise

import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { json } from 'node:stream/consumers'
import { repository } from './paths.mjs'

const FOLDERS = {
  '/example/selkie/': repository('js/dist'),
  '/example/dist/': repository('target/chain-in-a-tab'),
  '/example/': repository('examples/chain-in-a-tab'),
  '/selkie/': repository('js/dist'),
  '/': repository('tests/support/page'),
}

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
}

/**
 * Serves until closed. An `isolated` page may not be told of other origins, and gets a finer clock for it. What is `cached` is fetched,
 * and compiled, once. A file has the `headers` of its path. What browsers send here, as JSON, is `reported`.
 */
export async function openSite({
  isolated = false,
  cached = false,
  headers = () => ({}),
  reported = () => {},
} = {}) {
  const isolation = isolated
    ? {
        'cross-origin-opener-policy': 'same-origin',
        'cross-origin-embedder-policy': 'require-corp',
      }
    : {}
  const server = createServer(async (request, response) => {
    if (request.method === 'POST') {
      reported(await json(request))
      response.writeHead(204).end()
      return
    }
    const { pathname } = new URL(request.url, 'http://site')
    const [mount, folder] = Object.entries(FOLDERS).find(([mount]) => pathname.startsWith(mount))
    const name = normalize(`/${pathname.slice(mount.length) || 'index.html'}`)
    try {
      const body = await readFile(join(folder, name))
      const type = TYPES[extname(name)] ?? 'application/octet-stream'
      response.writeHead(200, {
        'content-type': type,
        'content-length': body.length,
        'cache-control': cached ? 'max-age=3600' : 'no-store',
        ...isolation,
        ...headers(pathname),
      })
      response.end(body)
    } catch {
      response.writeHead(404).end()
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    async close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
