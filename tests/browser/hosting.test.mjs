// How a page is served: under the content security policy that js/README.md says, and under less; with the package from another
// origin, such as a CDN.

import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { PATIENCE } from '../support/lines.mjs'
import { startNative } from '../support/native.mjs'
import { repository } from '../support/paths.mjs'
import { openSite } from '../support/site.mjs'

const readme = await readFile(repository('js/README.md'), 'utf8')
const [, POLICY] = /## Content security policy.*?```\n(.*?)\n```/s.exec(readme)

/** What lets pages of any origin use a file. */
const FOR_ALL = { 'access-control-allow-origin': '*' }

/**
 * A site with the policy, in which other words stand for some. `violated` resolves once a directive was, in a page there or in its worker,
 * which browsers tell nobody but a server.
 */
async function underPolicy(changes = {}) {
  const words = Object.entries(changes)
  const policy = words.reduce((policy, [from, to]) => {
    assert.ok(policy.includes(from), from)
    return policy.replace(from, to)
  }, POLICY)
  const violations = []
  const news = new EventEmitter()
  const site = await openSite({
    headers: () => ({ 'content-security-policy': `${policy}; report-uri /violation` }),
    reported: ({ 'csp-report': report }) => {
      violations.push(report['effective-directive'] ?? report['violated-directive'])
      news.emit('one')
    },
  })
  const violated = async (directive) => {
    const signal = AbortSignal.timeout(PATIENCE)
    while (!violations.includes(directive)) await once(news, 'one', { signal })
  }
  return { ...site, violations, violated }
}

/** What Firefox logs of all that it blocks, the page's icon too. */
const BLOCKED = /^Error: (Content-Security-Policy|Cross-Origin Request Blocked): /

for (const name of BROWSERS) {
  describe(name, () => {
    let browser
    before(async () => (browser = await launch(name)))
    after(() => browser?.close())

    /** Runs a test on a page of a site, which nobody else visits. */
    async function visiting(site, body) {
      const page = await openPage(browser, site.url)
      try {
        await body(page)
        const others = page.errors.filter((error) => !BLOCKED.test(error))
        assert.deepEqual(others, [])
      } finally {
        await page.browserContext().close()
        await site.close()
      }
    }

    for (const run of ['page', 'worker']) {
      test(`the README's policy lets a ${run} do all`, async () => {
        const natives = await Promise.all(
          ['ws', 'webtransport'].map((transport) => startNative({ transports: [transport] })),
        )
        const bootstrap = natives.flatMap(({ addresses }) => Object.values(addresses))
        try {
          const site = await underPolicy()
          await visiting(site, async (page) => {
            const said = await page.evaluate(
              async (run, bootstrap) => {
                const application = new URL('chain.js', location.href)
                const network = { id: 'selkie-test' }
                await start({ run, network, application, bootstrap, storage: 'indexeddb' })
                const met = bootstrap.map((address) =>
                  happened('peer:connect', ({ peerId }) => address.endsWith(peerId)),
                )
                const transports = (await Promise.all(met)).map(({ transport }) => transport)
                const steal = new TextEncoder().encode('steal 5')
                const { error } = await outcome(node.transactions.submit(steal))
                await node.stop()
                // The last to be reported: all else that was, is by then.
                document.body.append(Object.assign(new Image(), { src: 'absent.png' }))
                return { transports, code: error.code }
              },
              run,
              bootstrap,
            )
            assert.deepEqual(said, { transports: ['ws', 'webtransport'], code: 'rejected' })
            await site.violated('img-src')
            assert.deepEqual(
              site.violations.filter((each) => each !== 'img-src'),
              [],
            )
          })
        } finally {
          await Promise.all(natives.map((native) => native.stop()))
        }
      })
    }

    for (const [what, changes, run, code, message] of [
      ['no WebAssembly', { "'wasm-unsafe-eval'": '' }, 'page', 'load', /can't compile/],
      [
        'no worker',
        { "worker-src 'self'": "worker-src 'none'" },
        'worker',
        'crashed',
        /worker-src/,
      ],
    ]) {
      test(`a policy that allows ${what} is an error that says so (${run})`, async () =>
        visiting(await underPolicy(changes), async (page) => {
          const { error } = await page.evaluate((run) => outcome(start({ run })), run)
          assert.equal(error?.code, code)
          assert.match(error.message, message)
        }))
    }

    for (const run of ['page', 'worker']) {
      test(`a WebSocket that a policy does not name is a dial that fails (${run})`, async () => {
        const natives = await Promise.all(
          ['ws', 'ws'].map((transport) => startNative({ transports: [transport] })),
        )
        const [named, other] = natives.map(({ addresses }) => addresses.ws)
        const site = await underPolicy({
          'ws: wss:': `ws://127.0.0.1:${/tcp\/(\d+)/.exec(named)[1]}`,
        })
        try {
          await visiting(site, async (page) => {
            const { peer, error } = await page.evaluate(
              async (run, named, other) => {
                await start({ run })
                return { peer: await node.dial(named), ...(await outcome(node.dial(other))) }
              },
              run,
              named,
              other,
            )
            assert.deepEqual([peer, error?.code], [natives[0].peerId, 'dial'])
            await site.violated('connect-src')
          })
        } finally {
          await Promise.all(natives.map((native) => native.stop()))
        }
      })
    }

    /** What the README has a policy name where the package comes from a host. */
    const from = (host) => ({
      "script-src 'self'": `script-src 'self' ${host}`,
      "worker-src 'self'": `worker-src 'self' blob: ${host}`,
      "connect-src 'self'": `connect-src 'self' ${host}`,
    })

    for (const run of ['page', 'worker']) {
      test(`the package comes from another origin, under the policy that names it (${run})`, async () => {
        const native = await startNative({ transports: ['ws'], chain: 'opaque' })
        const cdn = await openSite({ headers: () => FOR_ALL })
        try {
          await visiting(await underPolicy(from(new URL(cdn.url).origin)), async (page) => {
            const said = await page.evaluate(
              async (run, address, cdn) => {
                const { createNode } = await import(`${cdn}selkie/browser.js`)
                const application = new URL('chain.js', location.href)
                const mine = await createNode({ run, network: 'selkie-test', application })
                await mine.dial(address)
                const steal = new TextEncoder().encode('steal 5')
                const { error } = await outcome(mine.transactions.submit(steal))
                const network = { id: 'another', application: 'ledger-light' }
                const light = await createNode({ run, network })
                const { done } = await new Promise((resolve) =>
                  light.addEventListener('sync:progress', ({ detail }) => resolve(detail)),
                )
                const said = [error.code, String(done)]
                await Promise.all([mine.stop(), light.stop()])
                return said
              },
              run,
              native.addresses.ws,
              cdn.url,
            )
            assert.deepEqual(said, ['rejected', '0'])
          })
        } finally {
          await native.stop()
          await cdn.close()
        }
      })
    }

    for (const [what, workers] of [
      ['workers of its own origin alone', () => "worker-src 'self' blob:"],
      ['no workers in memory', (host) => `worker-src 'self' ${host}`],
    ]) {
      test(`a policy that allows ${what} is an error that says so`, async () => {
        const cdn = await openSite({ headers: () => FOR_ALL })
        const { origin } = new URL(cdn.url)
        const changes = { ...from(origin), "worker-src 'self'": workers(origin) }
        try {
          await visiting(await underPolicy(changes), async (page) => {
            const { error } = await page.evaluate(startWorkerFrom, cdn.url)
            assert.equal(error?.code, 'crashed')
            assert.match(error.message, /worker-src/)
          })
        } finally {
          await cdn.close()
        }
      })
    }

    test('another origin that allows nobody to use its worker is an error that says so', async () => {
      const cdn = await openSite({
        headers: (path) => (path === '/selkie/worker.js' ? {} : FOR_ALL),
      })
      try {
        await visiting(await openSite(), async (page) => {
          const { error } = await page.evaluate(startWorkerFrom, cdn.url)
          assert.equal(error?.code, 'crashed')
          assert.match(error.message, /that origin that it is used here/)
        })
      } finally {
        await cdn.close()
      }
    })
  })
}

/** In a page: with the package of another origin. */
async function startWorkerFrom(origin) {
  const { createNode } = await import(`${origin}selkie/browser.js`)
  return outcome(createNode({ run: 'worker', network: 'selkie-test' }))
}
