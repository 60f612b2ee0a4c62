// Addresses that last: those of WebSocket with TLS, whose certificate is a CA's, and those that carry their certificate's hash, after the
// node has begun anew.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { idOf, transactions } from '../support/bitcoin.mjs'
import { BROWSERS, launch, openPage } from '../support/browsers.mjs'
import { startNative } from '../support/native.mjs'
import { openSite } from '../support/site.mjs'

/** A certificate for this machine and its key, as files in a folder, and the hash of its public key. */
async function certify(folder) {
  const files = { certificate: join(folder, 'cert.pem'), key: join(folder, 'key.pem') }
  const words = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7'
  const named = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const out = ['-keyout', files.key, '-out', files.certificate]
  await promisify(execFile)('openssl', [...words.split(' '), ...named, ...out])
  const { publicKey } = new X509Certificate(await readFile(files.certificate))
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  return { ...files, trusted: createHash('sha256').update(spki).digest('base64') }
}

/** Words of a node that listens with TLS. */
const withTls = ({ certificate, key }) =>
  `[security.tls_config]\ncertificate = "${certificate}"\nkey = "${key}"\n`

/** What is silent is given up soon: not every transport tells of a node that has ended. */
const QUICK_PINGS = { network: { keepalive_interval: '500ms', connection_timeout: '2s' } }

for (const name of BROWSERS) {
  describe(name, () => {
    let browser, site, folder, files
    before(async () => {
      folder = await mkdtemp(join(tmpdir(), 'selkie-addresses-'))
      files = await certify(folder)
      browser = await launch(name, files)
      site = await openSite()
    })
    after(async () => {
      await Promise.all([browser?.close(), site?.close()])
      await rm(folder, { recursive: true })
    })

    for (const run of ['page', 'worker']) {
      test(`a ${run} joins by WebSocket with TLS, in both spellings`, async () => {
        const native = await startNative({ transports: ['wss'], config: withTls(files) })
        const page = await openPage(browser, site.url)
        try {
          const address = native.addresses.wss
          assert.match(address, /\/tls\/ws\/p2p\//)
          for (const [place, spelling] of [address, address.replace('/tls/ws', '/wss')].entries()) {
            await page.evaluate((run) => start({ run }), run)
            const peer = await page.evaluate((to) => node.dial(to), spelling)
            assert.equal(peer, native.peerId)
            const bytes = transactions[place]
            const submit = (hex) => node.transactions.submit(fromHex(hex))
            const id = await page.evaluate(submit, bytes.toString('hex'))
            assert.equal(id, idOf(bytes))
            await native.until({ type: 'item:accepted', kind: 'transaction', id })
            await page.evaluate(() => node.stop())
          }
          assert.deepEqual(page.errors, [])
        } finally {
          await page.close()
          await native.stop()
        }
      })
    }

    test('a certificate that the browser does not take is a dial that fails', async () => {
      // One that was told of none.
      const stranger = await launch(name)
      const native = await startNative({ transports: ['wss'], config: withTls(files) })
      try {
        const page = await openPage(stranger, site.url)
        await page.evaluate(() => start())
        const { error } = await page.evaluate((to) => outcome(node.dial(to)), native.addresses.wss)
        assert.deepEqual([error?.code, error?.ours], ['dial', true])
        assert.match(error.message, /wss:\/\/127\.0\.0\.1/)
      } finally {
        await stranger.close()
        await native.stop()
      }
    })

    for (const [transport, run] of [
      ['webtransport', 'page'],
      ['webtransport', 'worker'],
      ['webrtc', 'page'],
    ]) {
      // As in join.test.mjs: Firefox drops loopback candidates.
      const skip = name === 'firefox' && transport === 'webrtc'
      test(
        `a ${run} dials a node at its old address after its restart: ${transport}`,
        { skip },
        async () => {
          const own = await mkdtemp(join(folder, 'node-'))
          const options = { transports: [transport], folder: own }
          let native = await startNative(options)
          const page = await openPage(browser, site.url)
          try {
            const address = native.addresses[transport]
            assert.match(address, /\/certhash\//)
            await page.evaluate((options) => start(options), { run, config: QUICK_PINGS })
            const peer = await page.evaluate((to) => node.dial(to), address)
            await native.stop()
            await page.evaluate(() => happened('peer:disconnect'))
            const listen = { [transport]: address.replace(/\/(certhash|p2p)\/.*/, '') }
            native = await startNative({ ...options, listen })
            assert.equal(native.addresses[transport], address)
            assert.equal(await page.evaluate((to) => node.dial(to), address), peer)
            assert.equal(peer, native.peerId)
            assert.deepEqual(page.errors, [])
          } finally {
            await page.close()
            await native.stop()
          }
        },
      )
    }
  })
}
