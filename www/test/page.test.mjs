// The page in headless Chromium, with a stand-in for the node.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'
import { inState, OPEN, openPage, openSite, says, SHUT, tell } from './site.mjs'

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

let site
before(async () => (site = await openSite()))
after(() => site.close())

/** Runs a test on a page of its own and expects that the page reported no error. */
const onPage = (name, options, body) =>
  test(name, async () => {
    const page = await openPage(site, options)
    try {
      await body(page)
      assert.deepEqual(page.errors, options.errors ?? [])
    } finally {
      await page.browserContext().close()
    }
  })

const rows = (page, list) => page.$$eval(`#${list} tbody tr`, (found) => found.length)
const text = (page, selector) => page.$eval(selector, (element) => element.textContent.trim())
const focused = (page) => page.evaluate(() => document.activeElement.id)

async function fill(page) {
  await inState(page, 'connected')
  await tell(page, { do: 'items', kind: 'block', count: 5 })
  await tell(page, { do: 'items', kind: 'transaction', count: 60 })
  for (const level of ['error', 'warn', 'info']) {
    await tell(page, { do: 'log', level, message: `A line of level ${level}.` })
  }
  await page.waitForSelector('#blocks [data-check="verified"]')
  await says(page, '#log .entries', /level error/)
}

for (const width of [390, 1440]) {
  for (const scheme of ['dark', 'light']) {
    onPage(`axe finds nothing serious, ${width} px, ${scheme}`, { width, scheme }, async (page) => {
      // Colours are judged at rest, not in the middle of a fade.
      await page.emulateMediaFeatures([
        { name: 'prefers-color-scheme', value: scheme },
        { name: 'prefers-reduced-motion', value: 'reduce' },
      ])
      await fill(page)
      await page.evaluate(axe)
      const serious = async () => {
        const { violations } = await page.evaluate(() => axe.run())
        return violations
          .filter(({ impact }) => impact === 'serious' || impact === 'critical')
          .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`)
      }
      assert.deepEqual(await serious(), [])
      await page.$eval('#address', (field) => (field.value = 'nowhere'))
      await page.click('#dial')
      await page.click('#submit')
      await tell(page, { do: 'crash' })
      await inState(page, 'failed')
      assert.deepEqual(await serious(), [], 'with errors shown')
    })
  }
}

for (const width of [320, 390, 700, 900, 1440]) {
  onPage(`nothing runs over the edge at ${width} px`, { width }, async (page) => {
    await fill(page)
    const beyond = await page.evaluate(() => {
      const edge = document.documentElement.clientWidth
      return [...document.querySelectorAll('main *')]
        .filter((element) => element.getBoundingClientRect().right > edge + 0.5)
        .map((element) => element.outerHTML.slice(0, 80))
    })
    assert.deepEqual(beyond, [])
    const [content, window] = await page.evaluate(() => [
      document.documentElement.scrollWidth,
      innerWidth,
    ])
    assert.ok(content <= window, `${content} px of content in ${window}`)
    const sideways = await page.$$eval('.scroll', (lists) =>
      lists.filter((list) => list.scrollWidth > list.clientWidth).map((list) => list.className),
    )
    assert.deepEqual(sideways, [])
  })
}

onPage('the page joins by itself and tells when the first block came', {}, async (page) => {
  await inState(page, 'connected')
  assert.equal(await page.$eval('#address', (field) => field.value), OPEN)
  await says(page, '#status', /Connected to 3 peers/)
  assert.equal(await rows(page, 'peers'), 3)
  assert.equal(await text(page, '#self-network'), 'bitcoin-replay')
  const first = () => page.evaluate(() => document.documentElement.dataset.firstBlockMs)
  assert.equal(await first(), undefined)
  await tell(page, { do: 'items', kind: 'block', count: 1 })
  await page.waitForSelector('html[data-first-block-ms]')
  const ms = await first()
  assert.ok(Number(ms) > 0)
  await tell(page, { do: 'items', kind: 'block', count: 1 })
  await says(page, '#count-blocks', /^2$/)
  assert.equal(await first(), ms, 'the first stays the first')
})

onPage('a chain that is synced shows how far it is, and why it waits', {}, async (page) => {
  await inState(page, 'connected')
  const bar = () =>
    page.$eval('#sync-bar', ({ hidden, value, max, parentElement }) => ({
      ...{ hidden, value, max },
      shown: parentElement.offsetParent !== null,
    }))
  assert.equal((await bar()).shown, false, 'this one has no sync')
  await tell(page, { do: 'sync', done: 1200, total: 5000 })
  await says(page, '#sync-text', /^block 1,200 of 5,000, 250 a second, 12 s left$/)
  assert.deepEqual(await bar(), { hidden: false, value: 1200, max: 5000, shown: true })
  await tell(page, { do: 'sync', done: 5000, total: 5000 })
  await says(page, '#sync-text', /^block 5,000$/)
  assert.equal((await bar()).hidden, true)
  await tell(page, { do: 'sync', done: 5000, total: 5000, trouble: 'it has begun anew' })
  await says(page, '#sync-text', /^waits at block 5,000: it has begun anew$/)
})

onPage('peers are put in order and filtered, and their rows stay the same', {}, async (page) => {
  await inState(page, 'connected')
  await says(page, '#count-peers', /^3$/)
  const shown = () =>
    page.$$eval('#peers td.transport button', (tags) => tags.map((cell) => cell.textContent))
  const all = await shown()
  await page.select('#peers-order', 'transport')
  assert.deepEqual(await shown(), [...all].sort())
  await page.select('#peers-order', 'rttMs')
  assert.deepEqual(await shown(), ['ws', 'webtransport', 'webrtc-direct'])
  await page.type('#peers-filter', 'INBOUND')
  assert.deepEqual(await shown(), ['webrtc-direct'])
  await page.type('#peers-filter', ' nobody')
  assert.equal(await text(page, '#peers .empty'), 'No peer has that in it.')
})

for (const [what, list, whole] of [
  ['a peer’s addresses are', 'peers', OPEN],
  ['the whole id of who sent a block is', 'blocks', OPEN.split('/').at(-1)],
]) {
  onPage(`${what} reached by keyboard, and by touch`, {}, async (page) => {
    await inState(page, 'connected')
    await tell(page, { do: 'items', kind: 'block', count: 1 })
    await page.waitForSelector(`#${list} tbody tr .tag`)
    const shown = () =>
      page.$$eval(`#${list} .whole`, (all) =>
        all.filter((one) => one.checkVisibility()).map((one) => one.textContent),
      )
    assert.deepEqual(await shown(), [])
    await page.focus(`#${list} tbody tr .tag`)
    await page.keyboard.press('Enter')
    assert.deepEqual(await shown(), [whole])
    await page.keyboard.press('Escape')
    assert.deepEqual(await shown(), [])
    await page.tap(`#${list} tbody tr .tag`)
    assert.deepEqual(await shown(), [whole])
  })
}

onPage('a page that may keep nothing starts, and takes another choice', {}, async (page) => {
  // As where storage is blocked, and in a sandboxed frame: the mere mention throws.
  await page.evaluateOnNewDocument(() =>
    Object.defineProperty(window, 'localStorage', {
      get() {
        throw new DOMException('The document is sandboxed.', 'SecurityError')
      },
    }),
  )
  await page.reload()
  await inState(page, 'connected')
  await page.click('#run input[value="worker"] + *')
  await says(page, '#announce', /The node restarts/)
  await inState(page, 'connected')
  assert.ok(await page.$eval('#run input[value="worker"]', (radio) => radio.checked))
})

onPage('where there is no clipboard the text is there to select', {}, async (page) => {
  await inState(page, 'connected')
  // As over plain http.
  await page.evaluate(() => Object.defineProperty(navigator, 'clipboard', { value: undefined }))
  await page.click('#self-id .copy')
  await says(page, '#announce', /Select the text instead/)
})

onPage('whose row has the focus keeps it while the order changes', {}, async (page) => {
  await inState(page, 'connected')
  await says(page, '#count-peers', /^3$/)
  const order = (by) =>
    page.$eval(
      '#peers-order',
      (select, by) => {
        select.value = by
        select.dispatchEvent(new Event('input'))
      },
      by,
    )
  for (let row = 1; row <= 3; row += 1) {
    await order('connectedAt')
    await page.focus(`#peers tbody tr:nth-child(${row}) button`)
    const held = await page.evaluateHandle(() => document.activeElement)
    for (const by of ['transport', 'rttMs', 'connectedAt']) {
      await order(by)
      const stays = await page.evaluate((button) => button === document.activeElement, held)
      assert.ok(stays, `row ${row} by ${by}`)
    }
  }
})

onPage('the node behaves as the one that serves the page says', {}, async (page) => {
  await inState(page, 'connected')
  assert.deepEqual(await page.evaluate(() => JSON.parse(document.documentElement.dataset.config)), {
    protocol: { gossipsub_config: { duplicate_cache_time: '5000ms' } },
  })
})

onPage('lists are bounded, counters are not; a forged block is called one', {}, async (page) => {
  await inState(page, 'connected')
  await tell(page, { do: 'items', kind: 'transaction', count: 1234 })
  await says(page, '#count-transactions', /^1,234$/)
  await says(page, '#transactions tbody', /./)
  assert.equal(await rows(page, 'transactions'), 50)
  await tell(page, { do: 'forge' })
  await page.waitForSelector('#blocks [data-check="mismatch"]')
  await says(page, '#log .entries', /does not hash to its id/)
})

onPage('a paused list stands still and goes on where the network is', {}, async (page) => {
  await inState(page, 'connected')
  await page.click('#transactions .pause')
  await tell(page, { do: 'items', kind: 'transaction', count: 3 })
  await says(page, '#count-transactions', /^3$/)
  assert.equal(await rows(page, 'transactions'), 0)
  await page.click('#transactions .pause')
  await page.waitForSelector('#transactions tbody tr:nth-child(3)')
})

onPage('connecting works by keyboard alone', { query: '?manual' }, async (page) => {
  await inState(page, 'ready')
  await page.keyboard.press('Tab')
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip')
  await page.keyboard.press('Enter')
  assert.equal(await focused(page), 'main')
  await page.keyboard.press('Tab')
  assert.equal(await focused(page), 'address')
  await page.keyboard.down('Control')
  await page.keyboard.press('a')
  await page.keyboard.up('Control')
  await page.keyboard.type('/ip4/192.0.2.1/tcp/4001')
  await page.keyboard.press('Enter')
  await says(page, '#connect-message', /plain TCP/)
  assert.equal(await page.$eval('#address', (field) => field.ariaInvalid), 'true')
  assert.equal(await focused(page), 'address')
  await page.keyboard.down('Control')
  await page.keyboard.press('a')
  await page.keyboard.up('Control')
  await page.keyboard.type(OPEN)
  await page.keyboard.press('Tab')
  assert.equal(await focused(page), 'dial')
  const ring = await page.$eval('#dial', (button) => getComputedStyle(button).outlineStyle)
  assert.equal(ring, 'solid', 'the focus is visible')
  await page.keyboard.press('Enter')
  await inState(page, 'connected')
  await says(page, '#connect-message', /Connected to 12D3Ko/)
  assert.equal(await focused(page), 'dial', 'the focus stays')
})

onPage(
  'a dial is cancelled by its button, and brings nothing',
  { query: '?manual' },
  async (page) => {
    await inState(page, 'ready')
    await page.type('#address', OPEN.replace('/9001/', '/3/'))
    await page.click('#dial')
    await says(page, '#connect-message', /^Connecting…$/)
    assert.equal(await text(page, '#dial'), 'Cancel')
    await page.click('#dial')
    await says(page, '#connect-message', /^Cancelled\.$/)
    assert.equal(await text(page, '#dial'), 'Connect')
    assert.equal(await rows(page, 'peers'), 0)
  },
)

onPage('every control is reached by Tab and shows the focus', {}, async (page) => {
  await fill(page)
  const wanted = await page.$$eval(
    'a, button, input, select, textarea, .scroll',
    (all) => all.filter((one) => one.checkVisibility() && !one.closest('tbody')).length,
  )
  const met = new Set()
  for (let presses = 0; presses < 300; presses += 1) {
    await page.keyboard.press('Tab')
    const [key, visible] = await page.evaluate(() => {
      const now = document.activeElement
      const shown = now.matches('.choice input') ? now.nextElementSibling : now
      const all = [...document.querySelectorAll('*')]
      const key = now === document.body || now.closest('tbody') ? '' : String(all.indexOf(now))
      return [key, getComputedStyle(shown).outlineStyle !== 'none' || now === document.body]
    })
    assert.ok(visible, `focus of element ${key} is invisible`)
    if (key !== '') met.add(key)
  }
  // Of two radio buttons Tab reaches the chosen one, the arrows the other.
  assert.equal(met.size, wanted - 1)
})

onPage('tries again without saying so each time', { query: '?node=shut' }, async (page) => {
  await page.evaluate(() => {
    const status = document.getElementById('status')
    globalThis.said = []
    new MutationObserver(() => said.push(status.textContent)).observe(status, {
      childList: true,
      characterData: true,
      subtree: true,
    })
  })
  // Between two questions for the invitation lies a try.
  const asks = () => page.waitForRequest((request) => request.url().endsWith('/api/node'))
  for (let times = 0; times < 3; times += 1) await asks()
  const said = await page.evaluate(() => said)
  assert.deepEqual([...new Set(said)], said, 'each of them once')
  assert.equal(await text(page, '#status'), 'Not connected, trying again')
})

onPage('a dial that fails says why below the field', { query: '?node=shut' }, async (page) => {
  await says(page, '#connect-message', /Nobody answers at port 1.*right\.$/)
  assert.equal(await page.$eval('#connect-message', (line) => line.ariaLive), 'polite')
  assert.equal(await page.$eval('#address', (field) => field.value), SHUT)
  await page.click('#address', { count: 3 })
  await page.type('#address', OPEN)
  assert.equal(await text(page, '#connect-message'), '', 'typing takes the error away')
  // The page goes on trying by itself: between two questions for the invitation lies a try.
  const asks = () => page.waitForRequest((request) => request.url().endsWith('/api/node'))
  await asks()
  await asks()
  assert.equal(await text(page, '#connect-message'), '', 'a try of the page says nothing there')
  assert.equal(await page.$eval('#address', (field) => field.value), OPEN)
  await page.click('#dial')
  await inState(page, 'connected')
})

onPage('whoever answers and goes is not taken for a peer', { query: '?node=fleeing' }, (page) =>
  inState(page, 'connected'),
)

onPage('addresses that never answer do not hide one that does', { query: '?node=deaf' }, (page) =>
  inState(page, 'connected'),
)

onPage(
  'a page goes along to the network of its server',
  { query: '?node=moving' },
  async (page) => {
    await inState(page, 'connected')
    await says(page, '#self-network', /^bitcoin-replay$/)
    assert.equal(await page.$eval('#address', (field) => field.value), OPEN)
    await tell(page, { do: 'items', kind: 'block', count: 1 })
    await page.waitForSelector('#blocks [data-check="verified"]')
  },
)

onPage('when all peers have gone the page joins again', {}, async (page) => {
  await inState(page, 'connected')
  await tell(page, { do: 'leave' })
  await says(page, '#log .entries', /has gone: the peer closed/)
  await inState(page, 'connected')
})

onPage('the log shows what the filter lets through', {}, async (page) => {
  await fill(page)
  const levels = () => page.$$eval('#log li', (all) => all.map((one) => one.dataset.level))
  await page.select('#log-level', 'error')
  await says(page, '#log-count', /^1 line$/)
  assert.deepEqual(await levels(), ['error'])
  await page.select('#log-level', 'warn')
  await says(page, '#log-count', /^2 lines$/)
  assert.deepEqual(await levels(), ['warn', 'error'], 'newest first')
  await page.select('#log-level', 'trace')
  await tell(page, { do: 'log', level: 'trace', message: '<b>not markup</b>' })
  await says(page, '#log .entries', /<b>not markup/)
  for (let lines = 0; lines < 600; lines += 1) {
    await tell(page, { do: 'log', level: 'debug', message: `Line ${lines}.` })
  }
  await says(page, '#log li', /Line 599/)
  assert.equal((await levels()).length, 500)
  await page.click('#log-clear')
  await says(page, '#log-count', /^0 lines$/)
})

onPage('a transaction is published, or the reason given why not', {}, async (page) => {
  await inState(page, 'connected')
  await page.type('#bytes', 'xyz')
  await page.click('#submit')
  await says(page, '#publish-message', /"x" is not a hex digit/)
  await page.$eval('#bytes', (field) => (field.value = '00'))
  await page.click('#submit')
  await says(page, '#publish-message', /The chain refused it/)
  assert.equal(await text(page, '#random'), 'Random transaction')
  await page.click('#random')
  await page.click('#submit')
  await says(page, '#publish-message', /^Published as [0-9a-f]{10}…/)
})

onPage('a node that crashed is started again', {}, async (page) => {
  await inState(page, 'connected')
  await tell(page, { do: 'crash' })
  await inState(page, 'failed')
  assert.equal(await text(page, '#failure-reason'), 'The node crashed. Start it again.')
  await page.click('#restart')
  await inState(page, 'connected')
  assert.equal(await page.$eval('#failure', (card) => card.hidden), true)
})

onPage('the choice of page or worker restarts the node and is kept', {}, async (page) => {
  await inState(page, 'connected')
  await page.focus('#run input:checked')
  await page.keyboard.press('ArrowRight')
  await says(page, '#announce', /restarts/)
  await inState(page, 'connected')
  await page.reload()
  await inState(page, 'connected')
  assert.equal(await page.$eval('#run input:checked', (radio) => radio.value), 'worker')
})

onPage('a node that cannot start says so', { query: '?node=broken' }, async (page) => {
  await inState(page, 'failed')
  assert.match(await text(page, '#failure-reason'), /could not be fetched/)
})

const missing = 'Failed to load resource: the server responded with a status of 404 (Not Found)'
const alone = { query: '?manual&node=none', errors: [missing] }
onPage('a page that no node serves waits on the development network', alone, async (page) => {
  await inState(page, 'ready')
  assert.equal(await text(page, '#self-network'), 'selkie-dev')
  assert.equal(await page.$eval('#address', (field) => field.value), '')
  await page.click('#dial')
  await says(page, '#connect-message', /Paste the address/)
})

onPage('nothing moves as the page comes alive', { query: '?manual' }, async (page) => {
  await page.evaluate(() => {
    document.documentElement.dataset.shift = '0'
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        const sum = Number(document.documentElement.dataset.shift) + entry.value
        document.documentElement.dataset.shift = String(sum)
      }
    }).observe({ type: 'layout-shift', buffered: true })
  })
  await inState(page, 'ready')
  await page.click('#dial')
  await fill(page)
  const shift = await page.evaluate(
    () =>
      new Promise((done) =>
        requestAnimationFrame(() =>
          requestAnimationFrame(() => done(Number(document.documentElement.dataset.shift))),
        ),
      ),
  )
  assert.ok(shift < 0.02, `layout shift of ${shift}`)
})
