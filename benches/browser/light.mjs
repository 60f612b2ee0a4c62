// How soon a tab that follows a ledger by its headers knows something: from the start of the navigation to all headers being there and a
// key being read whose proof holds. The chain of so many blocks is made first, which takes a while; then it stands still.
//
// - Cold: a new browser with nothing cached.
// - Cached: the browser has the WebAssembly, and nothing of the chain.
// - A reload: the headers come from IndexedDB, up to the node saying so; then up to the key being read again.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { launch, openPage } from '../../tests/support/browsers.mjs'
import { developmentAccount } from '../../tests/support/ledger.mjs'
import { startNative } from '../../tests/support/native.mjs'
import { openSite } from '../../tests/support/site.mjs'
import { measured } from './rounds.mjs'

const NETWORK = 'light-bench'
const GENESIS = '07'.repeat(32)

export async function light({ height, runs }) {
  const folder = await mkdtemp(join(tmpdir(), 'selkie-'))
  const site = await openSite({ isolated: true, cached: true })
  const native = await ledger(join(folder, 'ledger'), height)
  try {
    const url = `${site.url}light.html?${new URLSearchParams({
      peer: native.addresses.ws,
      height,
      key: developmentAccount(NETWORK, 0),
      network: JSON.stringify({ id: NETWORK, genesis: GENESIS, application: 'ledger-light' }),
    })}`
    const samples = []
    for (let run = 0; run < runs; run += 1) samples.push(await sample(url, height))
    const figure = (name, what, target) => ({
      name: `${name}, ${height.toLocaleString('en')} headers`,
      ...measured(samples.map((sample) => sample[what])),
      baseline: null,
      baseline_name: null,
      target,
    })
    return [
      figure('page opened to light-synced and a key proven, cold', 'cold', 3000),
      figure('page opened to light-synced and a key proven, wasm cached', 'cached', 1000),
      figure('reload to the headers of IndexedDB', 'kept', 300),
      figure('reload to a key proven', 'reread', null),
    ]
  } finally {
    await Promise.all([native.stop(), site.close()])
    await rm(folder, { recursive: true })
  }
}

/** A node that serves a chain of at least so many blocks, which grows no more. */
async function ledger(file, height) {
  const flags = ['--genesis', GENESIS, '--data', file]
  const options = { network: NETWORK, chain: 'ledger' }
  const maker = await startNative({ ...options, flags: [...flags, '--propose', '10'] })
  try {
    const site = await openSite()
    const browser = await launch('chromium')
    try {
      const page = await openPage(browser, site.url)
      page.setDefaultTimeout(0)
      await page.evaluate(
        async (address, network, height) => {
          await start({ network })
          await node.dial(address)
          await happened('sync:progress', ({ done }) => done >= BigInt(height))
        },
        maker.addresses.ws,
        { id: NETWORK, genesis: GENESIS, application: 'ledger-light' },
        height,
      )
    } finally {
      await Promise.all([browser.close(), site.close()])
    }
  } finally {
    await maker.stop()
  }
  return startNative({ ...options, flags })
}

async function sample(url, height) {
  const browser = await launch('chromium')
  try {
    const page = await openPage(browser, url)
    const first = await times(page)
    // The same profile, so that the cache is there; and a clean place for the chain.
    await page.evaluate(async () => {
      await node.stop()
      for (const { name } of await indexedDB.databases()) {
        await new Promise((resolve) => {
          const request = indexedDB.deleteDatabase(name)
          request.onsuccess = request.onerror = resolve
        })
      }
    })
    await page.reload()
    const second = await times(page)
    if (second.kept !== 0) throw new Error(`${second.kept} headers were kept`)
    await page.evaluate(() => node.stop())
    await page.reload()
    const third = await times(page)
    if (third.kept < height) throw new Error(`only ${third.kept} headers were kept`)
    return {
      cold: first.readMs,
      cached: second.readMs,
      kept: third.keptMs,
      reread: third.readMs,
    }
  } finally {
    await browser.close()
  }
}

async function times(page) {
  await page.waitForSelector('html[data-read-ms]')
  return page.evaluate(() => {
    const { kept, keptMs, readMs } = document.documentElement.dataset
    return { kept: Number(kept), keptMs: Number(keptMs), readMs: Number(readMs) }
  })
}
