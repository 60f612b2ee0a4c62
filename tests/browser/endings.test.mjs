// How things go wrong in a tab, and how they end: each time with a typed error that says what to do, or
// in order.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { startNative } from '../support/native.mjs'
import { openSite } from '../support/site.mjs'

for (const name of BROWSERS) {
  describe(name, () => {
    let browser, site, native
    before(async () => {
      browser = await launch(name)
      site = await openSite()
      native = await startNative()
    })
    after(() => Promise.all([browser?.close(), site?.close(), native?.stop()]))

    /** A test with a page of its own. */
    const onPage = (title, check) =>
      test(title, async () => {
        const page = await openPage(browser, site.url)
        try {
          await check(page)
        } finally {
          await page.close()
        }
      })

    const dial = (page, address) => page.evaluate((to) => outcome(node.dial(to)), address)

    for (const run of ['page', 'worker']) {
      onPage(`a ${run} on another network is refused with the reason`, async (page) => {
        const network = { id: 'another', application: 'bitcoin' }
        const tab = await page.evaluate((options) => start(options), { run, network })
        const { error } = await dial(page, native.addresses.ws)
        assert.deepEqual([error.code, error.name, error.ours], ['dial', 'DialError', true])
        assert.match(error.message, /this is network "selkie-test", not "another"; check chain/)
        const { peerId, reason } = await page.evaluate(() => happened('peer:refused'))
        assert.equal(peerId, native.peerId)
        assert.match(reason, /"selkie-test"/)
        const told = await native.until({ type: 'peer:refused', peerId: tab })
        assert.match(told.reason, /this is network "selkie-test", not "another"/)
        assert.deepEqual(await page.evaluate(() => node.peers()), [])
      })
    }

    onPage('another genesis is refused with the reason', async (page) => {
      const network = { id: 'selkie-test', genesis: 'ab'.repeat(32), application: 'bitcoin' }
      await page.evaluate((network) => start({ network }), network)
      const { error } = await dial(page, native.addresses.ws)
      assert.match(error.message, /check chain\.genesis/)
    })

    onPage('a port where nobody listens is told in a sentence', async (page) => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address()
      server.close()
      await once(server, 'close')
      await page.evaluate(() => start())
      const { error } = await dial(page, `/ip4/127.0.0.1/tcp/${port}/ws`)
      assert.deepEqual([error.code, error.name, error.fatal], ['dial', 'DialError', false])
      assert.match(error.message, new RegExp(`no WebSocket came up at ws://127.0.0.1:${port}/`))
      assert.match(error.message, /check that a node listens there/)
    })

    onPage('another peer than the one asked for is told', async (page) => {
      await page.evaluate(() => start())
      const other = '12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'
      const { error } = await dial(page, native.addresses.ws.replace(native.peerId, other))
      assert.equal(error.code, 'dial')
      assert.ok(error.message.includes(`another peer answers there: ${native.peerId}`))
    })

    onPage('what is no address, no setting or no transaction is named', async (page) => {
      await page.evaluate(() => start())
      const address = await dial(page, '/ip4/127.0.0.1/ws')
      assert.deepEqual([address.error.code, address.error.name], ['dial', 'DialError'])
      const nonsense = await dial(page, 'nonsense')
      assert.deepEqual(
        [nonsense.error.code, nonsense.error.name],
        ['invalid-address', 'ArgumentError'],
      )
      const setting = await page.evaluate(() =>
        outcome(start({ config: { network: { max_peers: 0 } } })),
      )
      assert.deepEqual([setting.error.code, setting.error.fatal], ['config', true])
      assert.match(setting.error.message, /network\.max_peers = 0: give/)
      const submitted = await page.evaluate(() =>
        outcome(node.transactions.submit(Uint8Array.of(0))),
      )
      assert.equal(submitted.error.code, 'rejected')
    })

    onPage('a second tab on one identity is told, or gets its own', async (page) => {
      const stored = { storage: 'indexeddb' }
      const begin = (page, options) => page.evaluate((o) => outcome(start(o)), options)
      const { value: first } = await begin(page, stored)
      const second = await openPage(browser, site.url, { beside: page })
      const { error } = await begin(second, stored)
      assert.deepEqual([error.code, error.name], ['identity-in-use', 'IdentityInUseError'])
      const own = await begin(second, { ...stored, identityInUse: 'ephemeral' })
      assert.match(own.value, /^12D3Koo/)
      assert.notEqual(own.value, first)
      await second.evaluate(() => node.stop())
      await page.evaluate(() => node.stop())
      assert.equal(
        (await begin(second, stored)).value,
        first,
        'the identity is free again, and kept',
      )
      await second.close()
      await page.evaluate(() => navigator.locks.request('selkie/identity/selkie-test', () => {}))
      assert.equal((await begin(page, stored)).value, first, 'a closed tab sets it free too')
    })

    onPage('one that waits for its identity has it when the other has stopped', async (page) => {
      const stored = { storage: 'indexeddb' }
      const first = await page.evaluate((options) => start(options), stored)
      const second = await openPage(browser, site.url, { beside: page })
      const wait = { ...stored, identityInUse: 'wait' }
      const given = await second.evaluate((options) => {
        const abort = new AbortController()
        const given = outcome(start({ ...options, signal: abort.signal }))
        setTimeout(() => abort.abort(new Error('enough')), 100)
        return given
      }, wait)
      assert.equal(given.error.message, 'enough')
      const waits = second.evaluate((options) => start(options), wait)
      await page.evaluate(() => node.stop())
      assert.equal(await waits, first)
      await second.close()
    })

    onPage('a page that may lock nothing starts with an identity of its own', async (page) => {
      // As over plain http.
      const reason = await page.evaluate(async () => {
        Object.defineProperty(navigator, 'locks', { value: undefined })
        await start({ storage: undefined })
        return (await happened('identity:ephemeral')).reason
      })
      assert.match(reason, /https or localhost/)
      const named = await page.evaluate(() => outcome(start({ storage: 'indexeddb' })))
      assert.deepEqual([named.error.code, named.error.name], ['storage', 'StorageError'])
    })

    for (const run of ['page', 'worker']) {
      onPage(`a ${run} whose network is back keeps the peers that answer`, async (page) => {
        await page.evaluate((run) => start({ run }), run)
        const { value } = await dial(page, native.addresses.ws)
        await page.evaluate(() => {
          dispatchEvent(new Event('online'))
          return happened('network:online')
        })
        // What is asked next comes after it.
        const connections = await page.evaluate(() => node.connections())
        assert.deepEqual(
          connections.map(({ peerId, transport, direction }) => [peerId, transport, direction]),
          [[value, 'ws', 'outbound']],
        )
      })
    }

    onPage('a panic on the page stops its node, and then the identity is free', async (page) => {
      const peerId = await page.evaluate(() => start({ storage: 'indexeddb' }))
      await page.evaluate((to) => node.dial(to), native.addresses.ws)
      const { code, message } = await page.evaluate(async () => {
        const { panicForTests } = await import('/selkie/selkie.js')
        // Nobody catches it.
        setTimeout(() => panicForTests('out of paper'))
        const { code, message } = (await happened('node:stop')).error
        return { code, message }
      })
      assert.equal(code, 'crashed')
      assert.match(message, /panicked at src.web.panic.rs.*out of paper/)
      await native.until({ type: 'peer:disconnect', peerId })
      await page.evaluate(() => navigator.locks.request('selkie/identity/selkie-test', () => {}))
      const { error } = await page.evaluate(() => outcome(start()))
      assert.equal(error.code, 'crashed')
    })

    onPage('a panic in a worker is told, and another one can start', async (page) => {
      const told = await page.evaluate(async () => {
        const [wasm, application] = [
          { glue: new URL('/selkie/ledger.js', location.href) },
          new URL('/panics.js', location.href),
        ]
        await start({ run: 'worker', network: 'selkie-test', wasm, application })
        const ended = happened('node:stop')
        const submitted = await outcome(node.transactions.submit(Uint8Array.of(1)))
        const { message } = (await ended).error
        await start({ run: 'worker' })
        return { code: submitted.error.code, message }
      })
      assert.equal(told.code, 'crashed')
      assert.match(told.message, /out of paper/)
    })

    for (const run of ['page', 'worker']) {
      onPage(
        `what other WebAssembly on the page ends by is not the end of a ${run}’s node`,
        async (page) => {
          await page.evaluate((run) => start({ run }), run)
          await page.evaluate(async () => {
            const error = new WebAssembly.RuntimeError('unreachable')
            const promise = Promise.resolve()
            dispatchEvent(new ErrorEvent('error', { error }))
            dispatchEvent(
              new PromiseRejectionEvent('unhandledrejection', { promise, reason: error }),
            )
          })
          const { value } = await dial(page, native.addresses.ws)
          assert.equal(value, native.peerId)
        },
      )
    }

    onPage('an abort gives up starting, and the identity is free', async (page) => {
      const { error } = await page.evaluate(() => {
        const controller = new AbortController()
        const onProgress = () => controller.abort(new Error('enough'))
        return outcome(start({ storage: 'indexeddb', signal: controller.signal, onProgress }))
      })
      assert.equal(error.message, 'enough')
      assert.match(await page.evaluate(() => start({ storage: 'indexeddb' })), /^12D3Koo/)
    })

    onPage(
      'an abort ends a dial, which brings no peer though it is answered then',
      async (page) => {
        const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
        await once(server, 'listening')
        const connection = once(server, 'connection')
        await page.evaluate(() => start())
        await page.evaluate((port) => {
          globalThis.controller = new AbortController()
          const { signal } = controller
          globalThis.dialled = outcome(node.dial(`/ip4/127.0.0.1/tcp/${port}/ws`, { signal }))
        }, server.address().port)
        const [socket] = await connection
        const { error } = await page.evaluate(() => {
          controller.abort()
          return dialled
        })
        assert.equal(error.name, 'AbortError')
        const closed = once(socket, 'close')
        const [, port] = native.addresses.ws.match(/\/tcp\/(\d+)\/ws/)
        const answered = connect(Number(port), '127.0.0.1')
        for (const end of [socket, answered]) end.on('error', () => {})
        socket.pipe(answered).pipe(socket)
        await closed
        server.close()
        assert.deepEqual(await page.evaluate(() => node.peers()), [])
        assert.deepEqual(await page.evaluate(() => node.connections()), [])
      },
    )

    for (const run of ['page', 'worker']) {
      onPage(`an abort ends a subscription, disposal ends a ${run}'s node`, async (page) => {
        await page.evaluate((run) => start({ run }), run)
        await page.evaluate((to) => node.dial(to), native.addresses.ws)
        const ended = await page.evaluate(async () => {
          const controller = new AbortController()
          const blocks = node.blocks.subscribe({ signal: controller.signal })
          const next = outcome(blocks.next())
          controller.abort()
          const rest = node.transactions.subscribe().next()
          const { peerId } = node
          await node[Symbol.asyncDispose]()
          await happened('node:stop')
          const late = await outcome(node.peers())
          return { aborted: (await next).error.name, done: (await rest).done, late, peerId }
        })
        assert.deepEqual(
          [ended.aborted, ended.done, ended.late.error.code],
          ['AbortError', true, 'stopped'],
        )
        await native.until({ type: 'peer:disconnect', peerId: ended.peerId })
      })
    }

    onPage('a node that ends tells its tabs', async (page) => {
      const brief = await startNative()
      await page.evaluate(() => start())
      await page.evaluate((to) => node.dial(to), brief.addresses.ws)
      assert.equal(await brief.stop(), 0)
      const gone = await page.evaluate(() => happened('peer:disconnect'))
      assert.equal(gone.peerId, brief.peerId)
    })
  })
}
