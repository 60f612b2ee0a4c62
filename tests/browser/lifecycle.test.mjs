// A page's life and its network's: mounted again at once, reloaded, left and come back to, frozen, and cut off without a word.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { idOf, transactions } from '../support/bitcoin.mjs'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { deferred } from '../support/deferred.mjs'
import { startNative } from '../support/native.mjs'
import { openSite } from '../support/site.mjs'

const NETWORK = { id: 'selkie-test', application: 'bitcoin' }
/** How often it is done what may fail now and then. */
const TIMES = 5

/** Who is silent is not noticed by itself while a test runs. */
const PATIENT = { network: { keepalive_interval: '1h' } }

/** A way to a native node that can be cut without a word, and that holds those who come while it is held. */
async function openWay(native) {
  const port = Number(/\/tcp\/(\d+)\//.exec(native.addresses.ws)[1])
  const links = new Set()
  let held
  const server = createServer(async (guest) => {
    server.emit('guest')
    await held?.promise
    const host = connect(port, '127.0.0.1')
    const link = [guest, host]
    links.add(link)
    for (const end of link) {
      end.on('error', () => {})
      end.on('close', () => {
        links.delete(link)
        for (const each of link) each.destroy()
      })
    }
    guest.pipe(host)
    host.pipe(guest)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    address: native.addresses.ws.replace(`/${port}/`, `/${server.address().port}/`),
    /** Resolves when the next one has come. */
    guest: () => once(server, 'guest'),
    hold() {
      held = deferred()
    },
    letGo() {
      held.resolve()
      held = undefined
    },
    /** Those who are on their way hear nothing any more, and are not told. */
    cut() {
      for (const [guest, host] of links) {
        guest.unpipe(host).pause()
        host.unpipe(guest).pause()
      }
    },
    close() {
      for (const link of links) for (const end of link) end.destroy()
      server.close()
    },
  }
}

for (const name of BROWSERS) {
  describe(name, () => {
    let browser, site, native
    before(async () => {
      browser = await launch(name)
      site = await openSite({ cached: true })
      native = await startNative()
    })
    after(() => Promise.all([browser?.close(), site?.close(), native?.stop()]))

    /** A test with a page of its own. */
    const onPage = (title, options, check) =>
      test(title, options, async () => {
        const page = await openPage(browser, site.url)
        try {
          await check(page)
          assert.deepEqual(page.errors, [])
        } finally {
          await page.close()
        }
      })

    for (const run of ['page', 'worker']) {
      onPage(
        `a ${run}'s node that is mounted twice, again and again, has one identity`,
        {},
        async (page) => {
          const peers = await page.evaluate(
            async (run, network, times) => {
              const options = { run, network, storage: 'indexeddb', identityInUse: 'wait' }
              const peers = []
              let stopping
              for (let time = 0; time < times; time += 1) {
                const unmounted = new AbortController()
                const first = outcome(selkie.createNode({ ...options, signal: unmounted.signal }))
                unmounted.abort()
                const node = await selkie.createNode(options)
                peers.push(node.peerId)
                if ((await first).error?.name !== 'AbortError')
                  throw new Error('the first one started')
                // As in an unmount, nobody awaits it.
                stopping = node.stop()
              }
              await stopping
              return peers
            },
            run,
            NETWORK,
            TIMES,
          )
          assert.deepEqual([peers.length, new Set(peers).size], [TIMES, 1])
        },
      )

      onPage(
        `a ${run} that is reloaded, or left and come back to, has its identity`,
        {},
        async (page) => {
          const begin = () =>
            page.evaluate((run) => outcome(start({ run, storage: 'indexeddb' })), run)
          const first = await begin()
          assert.equal(first.error, undefined)
          for (let time = 0; time < TIMES; time += 1) {
            if (time % 4 === 3) {
              await page.goto(`${site.url}accept.js`)
              await page.goBack()
            } else {
              await page.reload()
            }
            // Kept for the way back, it has its node still.
            if (await page.evaluate(() => globalThis.node !== undefined)) continue
            assert.deepEqual(await begin(), first)
          }
        },
      )

      for (const how of ['bootstrap', 'dial']) {
        onPage(
          `a ${run} whose network was gone has its peer again: by ${how}`,
          {},
          async (page) => {
            const way = await openWay(native)
            try {
              const bootstrap = how === 'bootstrap' ? [way.address] : []
              await page.evaluate((options) => start(options), { run, bootstrap, config: PATIENT })
              if (how === 'dial') await page.evaluate((to) => node.dial(to), way.address)
              await page.evaluate(() => happened('peer:connect'))
              await page.evaluate(() => {
                globalThis.again = new Promise((resolve) =>
                  node.addEventListener('peer:connect', resolve, { once: true }),
                )
                dispatchEvent(new Event('offline'))
                return happened('network:offline')
              })
              way.cut()
              await page.evaluate(() => {
                dispatchEvent(new Event('online'))
                return again.then(() => {})
              })
              const [bytes] = transactions.splice(0, 1)
              await page.evaluate(
                (hex) => node.transactions.submit(fromHex(hex)),
                bytes.toString('hex'),
              )
              await native.until({ type: 'item:accepted', kind: 'transaction', id: idOf(bytes) })
            } finally {
              way.close()
            }
          },
        )
      }
    }

    onPage('a page whose machine slept keeps the peers that answer', {}, async (page) => {
      await page.evaluate(() => start())
      await page.evaluate((to) => node.dial(to), native.addresses.ws)
      const { sleptMs } = await page.evaluate(() => {
        const now = performance.now.bind(performance)
        performance.now = () => now() + 120_000
        return happened('node:wake')
      })
      assert.ok(sleptMs > 60_000, String(sleptMs))
      const peers = await page.evaluate(() => node.peers())
      assert.deepEqual(
        peers.map(({ peerId }) => peerId),
        [native.peerId],
      )
    })

    // Chromium alone can be told to freeze a page.
    const chromium = { skip: name !== 'chromium' }

    onPage(
      'a page that is frozen in the middle of a dial hears how that ended, and dials again',
      chromium,
      async (page) => {
        const way = await openWay(native)
        const session = await page.createCDPSession()
        const become = (state) => session.send('Page.setWebLifecycleState', { state })
        try {
          await page.evaluate(() => start())
          way.hold()
          const guest = way.guest()
          await page.evaluate((to) => {
            globalThis.dialled = outcome(node.dial(to))
          }, way.address)
          await guest
          await become('frozen')
          way.letGo()
          await become('active')
          const dialled = await page.evaluate(async () => {
            await Promise.all([happened('node:freeze'), happened('node:resume')])
            return dialled
          })
          // Browsers may break off what a frozen page was about.
          assert.ok([undefined, 'dial'].includes(dialled.error?.code), dialled.error?.message)
          assert.equal(await page.evaluate((to) => node.dial(to), way.address), native.peerId)
          assert.equal((await page.evaluate(() => node.connections())).length, 1)
        } finally {
          way.close()
        }
      },
    )
  })
}
