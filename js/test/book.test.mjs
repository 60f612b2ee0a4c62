/** The address book over restarts: where it is kept, when it is written, and what becomes of one that is none. */

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { deferred } from '../../tests/support/deferred.mjs'
import { BookKeeper, readBook } from '../dist/book.js'
import { openFileIdentity } from '../dist/identity-nodejs.js'
import { never, once, startFake, turn } from './fake.mjs'

const openIdentity = ({ directory }, _, waits, signal) => openFileIdentity(directory, waits, signal)

async function directory(t) {
  const path = await mkdtemp(join(tmpdir(), 'selkie-book-'))
  t.after(() => rm(path, { recursive: true }))
  return path
}

const inFolder = (path, more) =>
  startFake({ storage: { directory: path } }, { openIdentity, ...more })

test('in Node it is a file beside the key, which the next node begins with', async (t) => {
  const path = await directory(t)
  const file = join(path, 'identity.key.book')
  const first = await inFolder(path)
  assert.equal(first.fake.kept, undefined)
  first.fake.answers.saveBook = () => Uint8Array.of(7, 8)
  await first.node.stop()
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  assert.deepEqual([...(await readFile(file))], [7, 8])
  const second = await inFolder(path)
  assert.deepEqual(second.fake.kept, Uint8Array.of(7, 8))
  await second.node.stop()
})

test('what a process left that died over writing it is taken away by the next', async (t) => {
  const path = await directory(t)
  const left = ['identity.key.book', 'identity.key'].map((name) => join(path, `${name}.draft`))
  for (const draft of left) await writeFile(draft, 'half a')
  const { fake, node } = await inFolder(path)
  fake.answers.saveBook = () => Uint8Array.of(7)
  await node.stop()
  assert.deepEqual((await readdir(path)).sort(), ['identity.key', 'identity.key.book'])
})

test('of a file that is no book as much is read as shows that', async (t) => {
  const path = await directory(t)
  const file = join(path, 'identity.key.book')
  await writeFile(file, new Uint8Array(3 * 1024 * 1024))
  const { fake, node } = await inFolder(path)
  assert.equal(fake.kept.length, 2 * 1024 * 1024 + 1)
  await node.stop()
  await rm(file)
  await mkdir(file)
  const second = await inFolder(path)
  const read = await once(second.node, 'book:lost')
  assert.match(read.detail.reason, /EISDIR/)
  // Nor can it be written there.
  const written = once(second.node, 'book:lost')
  await second.node.stop()
  assert.match((await written).detail.reason, /EISDIR|ENOTEMPTY|EEXIST/)
})

test('what the node says of the book that it was given is told', async () => {
  const book = { load: async () => Uint8Array.of(1), save: async () => {} }
  const store = { book, load: async () => Uint8Array.of(1), unlock: async () => {} }
  const started = startFake({ storage: 'indexeddb' }, { openIdentity: async () => store })
  const { fake, node } = await started
  assert.deepEqual(fake.kept, Uint8Array.of(1))
  await node.stop()
  const lost = await startFake(
    { storage: 'indexeddb' },
    {
      openIdentity: async () => store,
      engine: async () => {
        const { LocalEngine } = await import('../dist/engine.js')
        const { FakeNode } = await import('./fake.mjs')
        const glue = FakeNode.glue()
        glue.node.answers.bookLost = () => 'it is damaged'
        return new LocalEngine(glue)
      },
    },
  )
  const { detail } = await once(lost.node, 'book:lost')
  assert.equal(detail.reason, 'it is damaged')
  await lost.node.stop()
})

test('what is in memory alone has no book', async () => {
  const { fake, node } = await startFake()
  fake.answers.saveBook = () => assert.fail('nobody keeps it')
  await node.stop()
})

test('what can not be read, and what is no bytes, is lost and throws nothing', async () => {
  assert.deepEqual(await readBook({ load: async () => undefined }), {})
  assert.deepEqual(await readBook({ load: async () => 'text' }), { lost: 'it is no address book' })
  const broken = { load: () => Promise.reject(new Error('the disk is gone')) }
  assert.match((await readBook(broken)).lost, /the disk is gone/)
})

/** A keeper whose node has a longer book each time. */
function keeper(save, failed = assert.fail) {
  const saved = []
  let taken = 0
  const store = { save: save ?? (async (bytes) => void saved.push(bytes.length)) }
  return { saved, keeper: new BookKeeper(store, async () => new Uint8Array(++taken), failed) }
}

test('it is written at pauses that double, until the node is over', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const over = new AbortController()
  const { saved, keeper: book } = keeper()
  book.keep(undefined, over.signal)
  const after = async (ms) => {
    t.mock.timers.tick(ms)
    for (let turns = 0; turns < 10; turns++) await undefined
    return saved.length
  }
  assert.equal(await after(4_999), 0)
  assert.equal(await after(1), 1)
  assert.equal(await after(10_000), 2)
  assert.equal(await after(19_999), 2)
  assert.equal(await after(1), 3)
  for (const pause of [40_000, 80_000, 160_000, 300_000, 300_000]) await after(pause)
  assert.equal(saved.length, 8)
  over.abort()
  assert.equal(await after(1e6), 8)
})

test('it is written when the page is hidden or goes', async () => {
  const over = new AbortController()
  const { saved, keeper: book } = keeper()
  const scope = Object.assign(new EventTarget(), { document: new EventTarget() })
  book.keep(scope, over.signal)
  scope.dispatchEvent(new Event('pagehide'))
  await turn()
  scope.document.dispatchEvent(new Event('visibilitychange'))
  await turn()
  assert.deepEqual(saved, [1, 2])
  over.abort()
  scope.dispatchEvent(new Event('pagehide'))
  await turn()
  assert.equal(saved.length, 2)
})

test('one writing at a time, and one that fails is told and tried again', async () => {
  const [first, reasons] = [deferred(), []]
  let asked = 0
  const save = () => (++asked === 1 ? first.promise : Promise.resolve())
  const { keeper: book } = keeper(save, (reason) => reasons.push(reason))
  const writing = [book.write(), book.write()]
  await turn()
  assert.equal(asked, 1)
  first.reject(new Error('no room'))
  await Promise.all(writing)
  assert.deepEqual(reasons.length, 1)
  assert.match(reasons[0], /no room/)
  await book.write()
  assert.equal(asked, 2)
  // Of a node that is over there is nothing to tell.
  const ended = new BookKeeper({ save: assert.fail }, async () => assert.fail(), assert.fail)
  await ended.write()
})

test('a storage that hangs keeps no node from stopping', async (t) => {
  const book = { load: async () => undefined, save: never }
  const store = { book, load: async () => Uint8Array.of(1), unlock: async () => {} }
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const started = startFake({ storage: 'indexeddb' }, { openIdentity: async () => store })
  const { fake, node } = await started
  t.mock.timers.tick(1)
  const stopping = node.stop()
  while (!fake.stopped) await undefined
  for (let turns = 0; turns < 50; turns++) await undefined
  t.mock.timers.tick(10_000)
  await stopping
})
