/** The log of the WebAssembly, which the builds for tests have and the one that ships has not. */

import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { createNode } from '../dist/nodejs.js'
import { WasmNode } from '../dist/selkie.js'
import { FakeNode, startFake, turn } from './fake.mjs'

const network = 'selkie-dev'
const SILENT = { code: 'config', fatal: true, message: /^config: log = "debug": .*feature silent/ }
const skip = WasmNode.openLog === undefined && 'this WebAssembly is as it ships'

/** Starts a node that listens, and resolves to it and to the first line of the log of a level. */
async function started(t, options, wanted) {
  const config = { network: { listen_addresses: ['/memory/0'] } }
  const node = await createNode({ network, config, ...options })
  t.after(() => node.stop())
  const line = new Promise((resolve) =>
    node.addEventListener(
      'log',
      ({ detail }) => detail.level === wanted && resolve(detail.message),
    ),
  )
  return [node, line]
}

/** As a build of one's own is given. */
const wasm = {
  glue: new URL('../dist/ledger.js', import.meta.url),
  module: new URL('../dist/ledger_bg.wasm', import.meta.url),
}

for (const run of ['page', 'worker']) {
  for (const [what, own] of [
    ["the package's WebAssembly", {}],
    ["one that is one's own", { wasm }],
  ]) {
    test(`lines of ${what} come as events, run: ${run}`, { skip }, async (t) => {
      const [, line] = await started(t, { log: 'debug', run, ...own }, 'debug')
      assert.match(await line, /^\w+(::\w+)*: ./)
    })
  }
}

test('they are in the console, and each node hears up to its own level', { skip }, async (t) => {
  const shown = mock.method(console, 'debug', () => {})
  t.after(() => shown.mock.restore())
  const [quiet] = await started(t, { log: 'warn' }, 'warn')
  const heard = []
  quiet.addEventListener('log', ({ detail }) => heard.push(detail.level))
  const [, line] = await started(t, { log: 'debug' }, 'debug')
  const message = await line
  assert.ok(shown.mock.calls.some(({ arguments: [text] }) => text === message))
  await turn()
  assert.ok(!heard.includes('debug'))
})

test('a console that throws is not the end of the node', { skip }, async (t) => {
  const shown = mock.method(console, 'debug', () => {
    throw new Error('no paper')
  })
  t.after(() => shown.mock.restore())
  const [node, line] = await started(t, { log: 'debug' }, 'debug')
  await line
  assert.deepEqual(await node.peers(), [])
})

test('where nobody asks for it there is none', async (t) => {
  const shown = ['debug', 'info'].map((name) => mock.method(console, name, () => {}))
  t.after(() => shown.forEach(({ mock }) => mock.restore()))
  const [node] = await started(t, {}, 'debug')
  await node.metrics()
  assert.deepEqual(
    shown.map(({ mock }) => mock.callCount()),
    [0, 0],
  )
})

test('a build without a log says which one has it', async (t) => {
  await assert.rejects(startFake({ log: 'debug' }), SILENT)
  if (skip) await assert.rejects(createNode({ network, log: 'debug' }), SILENT)
})

test('what a page was too slow for is told, and the end of the node is that of the reading', async () => {
  let end
  const ended = new Promise((resolve) => (end = resolve))
  const pulls = [
    [
      { type: 'lagged', missed: 5, kinds: { log: 5 } },
      { type: 'log', level: 'info', message: 'chain: out of paper' },
    ],
    ended,
  ]
  const asked = []
  const openLog = (level) => {
    asked.push(level)
    return { next: async () => pulls.shift(), end }
  }
  const { node } = await startFake({ log: 'info' }, { glue: { ...FakeNode.glue(), openLog } })
  const told = []
  for (const type of ['lagged', 'log']) {
    node.addEventListener(type, ({ type, detail }) => told.push([type, detail]))
  }
  while (told.length < 2) await turn()
  assert.deepEqual(asked, ['info'])
  assert.deepEqual(told, [
    ['lagged', { missed: 5, kinds: { log: 5 } }],
    ['log', { level: 'info', message: 'chain: out of paper' }],
  ])
  await node.stop()
  await ended
})
