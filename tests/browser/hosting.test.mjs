// How a page is served: under the content security policy that js/README.md says, and under less; with the package from another
// origin, such as a CDN.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { startNative } from '../support/native.mjs'
import { repository } from '../support/paths.mjs'
import { openSite } from '../support/site.mjs'

const readme = await readFile(repository('js/README.md'), 'utf8')
const [, POLICY] = /## Content security policy.*?```\n(.*?)\n```/s.exec(readme)

/** What lets pages of any origin use a file. */
const FOR_ALL = { 'access-control-allow-origin': '*' }

/** A site with the policy, in which other words stand for some. */
const underPolicy = (words = '', others = '') =>
  openSite({ headers: () => ({ 'content-security-policy': POLICY.replace(words, others) }) })

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
          await visiting(await underPolicy(), async (page) => {
            const said = await page.evaluate(
              async (run, bootstrap) => {
                const violations = []
                document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) =>
                  violations.push(effectiveDirective),
                )
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
                return { transports, code: error.code, violations }
              },
              run,
              bootstrap,
            )
            assert.deepEqual(said, {
              transports: ['ws', 'webtransport'],
              code: 'rejected',
              violations: [],
            })
          })
        } finally {
          await Promise.all(natives.map((native) => native.stop()))
        }
      })
    }

    for (const [what, words, others, run, code, message] of [
      ['no WebAssembly', "'wasm-unsafe-eval'", '', 'page', 'load', /can't compile/],
      ['no worker', "worker-src 'self'", "worker-src 'none'", 'worker', 'crashed', /allow workers/],
    ]) {
      test(`a policy that allows ${what} is an error that says so (${run})`, async () =>
        visiting(await underPolicy(words, others), async (page) => {
          const { error } = await page.evaluate((run) => outcome(start({ run })), run)
          assert.equal(error?.code, code)
          assert.match(error.message, message)
        }))
    }

    for (const run of ['page', 'worker']) {
      test(`a policy that allows no WebSocket is a dial that fails (${run})`, async () =>
        visiting(await underPolicy('ws: wss:'), async (page) => {
          const { error } = await page.evaluate(async (run) => {
            await start({ run })
            return outcome(node.dial('/ip4/127.0.0.1/tcp/1/ws'))
          }, run)
          assert.equal(error?.code, 'dial')
        }))
    }

    for (const run of ['page', 'worker']) {
      test(`the package comes from another origin (${run})`, async () => {
        const native = await startNative({ transports: ['ws'], chain: 'opaque' })
        const cdn = await openSite({ headers: () => FOR_ALL })
        try {
          await visiting(await openSite(), async (page) => {
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

    test('another origin that allows nobody to use its worker is an error that says so', async () => {
      const cdn = await openSite({
        headers: (path) => (path === '/selkie/worker.js' ? {} : FOR_ALL),
      })
      try {
        await visiting(await openSite(), async (page) => {
          const { error } = await page.evaluate(async (cdn) => {
            const { createNode } = await import(`${cdn}selkie/browser.js`)
            return outcome(createNode({ run: 'worker', network: 'selkie-test' }))
          }, cdn.url)
          assert.equal(error?.code, 'crashed')
          assert.match(error.message, /another origin that it is used here/)
        })
      } finally {
        await cdn.close()
      }
    })
  })
}
