import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir, uptime } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { deferred } from '../../tests/support/deferred.mjs'
import { IdentityInUseError, StorageError } from '../dist/errors.js'
import { NoStorageError } from '../dist/identity.js'
import { openBrowserIdentity } from '../dist/identity-browser.js'
import { openFileIdentity, takeAway, writeKey } from '../dist/identity-nodejs.js'
import { fakePlatform, once as happens, startFake, turn } from './fake.mjs'

const openIdentity = ({ directory }, _, waits, signal) => openFileIdentity(directory, waits, signal)

async function directory(t) {
  const path = await mkdtemp(join(tmpdir(), 'selkie-identity-'))
  t.after(() => rm(path, { recursive: true }))
  return path
}

async function start(path, options = {}) {
  const { fake, node } = await startFake(
    { storage: { directory: path }, ...options },
    { openIdentity },
  )
  return { node, key: fake.config.identity }
}

test('the key is kept in a file that its owner alone may read', async (t) => {
  const path = join(await directory(t), 'deep', 'er')
  const first = await start(path)
  const file = join(path, 'identity.key')
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  assert.deepEqual(new Uint8Array(await readFile(file)), first.key)
  await first.node.stop()
  assert.deepEqual(await readdir(path), ['identity.key', 'identity.key.book'])

  const second = await start(path)
  assert.deepEqual(second.key, first.key)
  await second.node.stop()
})

test('a second node on it is told so, or gets a key of its own', async (t) => {
  const path = await directory(t)
  const first = await start(path)
  await assert.rejects(start(path), (error) => {
    assert.ok(error instanceof IdentityInUseError)
    assert.match(error.message, /identityInUse: 'wait' .*'ephemeral'/)
    return error.code === 'identity-in-use'
  })
  const second = await start(path, { identityInUse: 'ephemeral' })
  assert.notDeepEqual(second.key, first.key)
  await second.node.stop()
  // The ephemeral node's end has not unlocked the first one's key.
  await assert.rejects(start(path), IdentityInUseError)
  await first.node.stop()
  const third = await start(path)
  assert.deepEqual(third.key, first.key)
  await third.node.stop()
})

test('one that waits starts when the first has stopped, and has the same key', async (t) => {
  const path = await directory(t)
  const first = await start(path)
  let started = false
  const second = start(path, { identityInUse: 'wait' }).finally(() => (started = true))
  await turn()
  assert.equal(started, false)
  await first.node.stop()
  assert.deepEqual((await second).key, first.key)
  await (await second).node.stop()
})

test('an abort ends the waiting with its reason, and takes the identity from nobody', async (t) => {
  const path = await directory(t)
  const first = await start(path)
  const gone = new AbortController()
  const second = start(path, { identityInUse: 'wait', signal: gone.signal })
  await turn()
  gone.abort(new Error('enough'))
  await assert.rejects(second, /enough/)
  await first.node.stop()
  await (await start(path)).node.stop()
})

test('of two that start at once one wins', async (t) => {
  const path = await directory(t)
  const results = await Promise.allSettled([start(path), start(path)])
  assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  for (const { value } of results) await value?.node.stop()
})

test('one that was aborted takes the identity from nobody', async (t) => {
  const path = await directory(t)
  const gone = new AbortController()
  const first = start(path, { signal: gone.signal })
  gone.abort(new Error('enough'))
  const second = start(path)
  await assert.rejects(first, /enough/)
  await (await second).node.stop()
})

test('the lock of a process that runs holds, that of one that has died does not', async (t) => {
  const path = await directory(t)
  const lock = join(path, 'identity.lock')
  await writeFile(lock, `${process.ppid}\n`)
  await assert.rejects(start(path), IdentityInUseError)
  const { pid } = spawnSync(process.execPath, ['--version'])
  for (const dead of [`${pid}\n`, `${process.pid}\n`, 'garbage', '']) {
    await writeFile(lock, dead)
    // Before this process: a container's first process has the number 1 each time.
    await utimes(lock, 1, 1)
    await (await start(path)).node.stop()
  }
})

test('a lock whose socket answers holds, whatever its number means here, as in another container', async (t) => {
  const path = await directory(t)
  const lock = join(path, 'identity.lock')
  const first = await start(path)
  const [, socket] = (await readFile(lock, 'utf8')).split('\n')
  // Another copy of this package, to which the first one's locks are nothing, and whose own number is the holder's.
  const program = `import(process.argv[1]).then(({ openFileIdentity }) => openFileIdentity(process.argv[2]))
    .then((store) => store.unlock().then(() => 'opened'), ({ code }) => code).then(console.log)`
  const other = () => {
    const words = ['-e', program, new URL('../dist/identity-nodejs.js', import.meta.url).href, path]
    return spawnSync(process.execPath, words, { encoding: 'utf8' }).stdout.trim()
  }
  for (const process of ['1 an-earlier-boot 17', '999999999', 'garbage']) {
    await writeFile(lock, `${process}\n${socket}\n`)
    assert.equal(other(), 'identity-in-use')
  }
  await first.node.stop()
  assert.deepEqual((await readdir(path)).sort(), ['identity.key', 'identity.key.book'])
})

test('a lock whose socket does not answer does not hold, though its process runs, and the socket goes with it', async (t) => {
  const path = await directory(t)
  const lock = join(path, 'identity.lock')
  await writeFile(lock, `${process.ppid}\nidentity.lock.0badcafe\n`)
  const worker = new Worker(
    `require('node:net').createServer().listen(require('node:worker_threads').workerData)
      .on('listening', () => require('node:worker_threads').parentPort.postMessage('there'))`,
    { eval: true, workerData: join(path, 'identity.lock.0badcafe') },
  )
  await once(worker, 'message')
  await assert.rejects(start(path), IdentityInUseError)
  // As it is ended from outside.
  await worker.terminate()
  const { node } = await start(path)
  const names = await readdir(path)
  assert.ok(!names.includes('identity.lock.0badcafe'), String(names))
  await node.stop()
})

test('a lock whose number another process has by now does not hold', async (t) => {
  const path = await directory(t)
  const lock = join(path, 'identity.lock')
  await writeFile(lock, `${process.ppid}\n`)
  await assert.rejects(start(path), (error) => error.message.includes(lock))
  // Of a boot before this one.
  const january = Date.now() / 1000 - uptime() - 3600
  await utimes(lock, january, january)
  await (await start(path)).node.stop()
  if (process.platform !== 'linux') return
  await writeFile(lock, `${process.ppid} an-earlier-boot 17\n`)
  await (await start(path)).node.stop()
})

test('who takes a dead lock away takes none that another has put there meanwhile', async (t) => {
  const path = await directory(t)
  const lock = join(path, 'identity.lock')
  assert.equal(await takeAway(lock, 'dead'), false)
  await writeFile(lock, 'alive')
  assert.equal(await takeAway(lock, 'dead'), false)
  assert.equal(await readFile(lock, 'utf8'), 'alive')
  assert.equal(await takeAway(lock, 'alive'), true)
  assert.deepEqual(await readdir(path), [])
})

test('the lock of another thread of this process holds', async (t) => {
  const path = await directory(t)
  const open = async () => {
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads')
       import(workerData.module)
         .then(({ openFileIdentity }) => openFileIdentity(workerData.path))
         .then(async (store) => {
           parentPort.postMessage('opened')
           parentPort.once('message', () => store.unlock())
         }, ({ code }) => parentPort.postMessage(code))`,
      {
        eval: true,
        workerData: { path, module: new URL('../dist/identity-nodejs.js', import.meta.url).href },
      },
    )
    t.after(() => worker.terminate())
    const [said] = await once(worker, 'message')
    return { worker, said }
  }
  const first = await open()
  assert.equal(first.said, 'opened')
  assert.equal((await open()).said, 'identity-in-use')
  await assert.rejects(start(path), IdentityInUseError)
  first.worker.postMessage('unlock')
  await once(first.worker, 'exit')
  await (await start(path)).node.stop()
})

test('a file that is no key is not overwritten', async (t) => {
  const path = await directory(t)
  const file = join(path, 'identity.key')
  for (const content of [new Uint8Array(0), new Uint8Array(20_000), new Uint8Array(2_000_000)]) {
    await writeFile(file, content, { mode: 0o600 })
    await assert.rejects(start(path), (error) => {
      assert.ok(error instanceof StorageError)
      return error.message.includes(file)
    })
    assert.equal((await stat(file)).size, content.length)
    await rm(file)
  }
  // And each failure has let go of the lock.
  await (await start(path)).node.stop()
})

test('without hard links the key is written all the same, and none is replaced', async (t) => {
  const path = await directory(t)
  const file = join(path, 'identity.key')
  const unsupported = () => Promise.reject(Object.assign(new Error('no links'), { code: 'EPERM' }))
  await writeKey(file, new Uint8Array([1, 2, 3]), unsupported)
  assert.deepEqual([...(await readFile(file))], [1, 2, 3])
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  await assert.rejects(writeKey(file, new Uint8Array([4]), unsupported), { code: 'EEXIST' })
  assert.equal((await stat(file)).size, 3)
  assert.deepEqual(await readdir(path), ['identity.key'])
})

test('a key that others may read is refused, with what to do', async (t) => {
  const path = await directory(t)
  await (await start(path)).node.stop()
  const file = join(path, 'identity.key')
  await chmod(file, 0o644)
  await assert.rejects(start(path), {
    code: 'storage',
    message: `others may read ${file}; run: chmod 600 '${file}'`,
  })
})

test('a place that is no directory is a sentence', async (t) => {
  const file = join(await directory(t), 'file')
  await writeFile(file, '')
  await assert.rejects(start(file), { code: 'storage', message: /pass a directory/ })
})

/** A browser's globals, for a test. */
function browser(t, globals) {
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name)
    Object.defineProperty(globalThis, name, { value, configurable: true })
    t.after(() => {
      delete globalThis[name]
      if (before) Object.defineProperty(globalThis, name, before)
    })
  }
}

test('a browser that allows no locks, as in a sandboxed frame, is a storage error', async (t) => {
  const cause = new DOMException('denied in this context', 'SecurityError')
  const navigator = { locks: { request: () => Promise.reject(cause) } }
  browser(t, { indexedDB: {}, navigator })
  await assert.rejects(openBrowserIdentity('selkie-dev'), (error) => {
    assert.ok(error instanceof StorageError)
    assert.match(error.message, /denied in this context; .*storage: 'memory'/)
    return error.code === 'storage' && error.cause === cause
  })
})

test('a browser whose storage fails otherwise may have a key: no other one is used', async (t) => {
  const cause = new DOMException('the disk is full', 'QuotaExceededError')
  const navigator = { locks: { request: () => Promise.reject(cause) } }
  browser(t, { indexedDB: {}, navigator })
  const isStorage = (error) => error instanceof StorageError && !(error instanceof NoStorageError)
  await assert.rejects(openBrowserIdentity('net'), isStorage)
})

test('by default a place that keeps nothing is no reason not to start, and is told', async (t) => {
  // A page over plain http has no locks, and one in a sandboxed frame may use none.
  for (const navigator of [
    {},
    { locks: { request: () => Promise.reject(new DOMException('denied', 'SecurityError')) } },
  ]) {
    browser(t, { indexedDB: {}, navigator })
    const browserLike = {
      defaultStorage: 'indexeddb',
      openIdentity: (_, ...network) => openBrowserIdentity(...network),
    }
    const { fake, node } = await startFake({}, browserLike)
    const { detail } = await happens(node, 'identity:ephemeral')
    assert.match(detail.reason, /storage: 'memory'/)
    assert.equal(fake.config.identity.length, 68)
    await node.stop()
    // Who names the place wants that one.
    await assert.rejects(startFake({ storage: 'indexeddb' }, browserLike), NoStorageError)
  }
})

test('one that runs beside another on a key of its own tells so', async (t) => {
  const path = await directory(t)
  const first = await start(path)
  const second = await start(path, { identityInUse: 'ephemeral' })
  const { detail } = await happens(second.node, 'identity:ephemeral')
  assert.deepEqual([first.node.ephemeral, second.node.ephemeral], [undefined, detail.reason])
  assert.match(detail.reason, /another node runs/)
  await Promise.all([first.node.stop(), second.node.stop()])
})

test('a key that is none is no reason for another one', async () => {
  const openIdentity = async () => ({
    load: () => Promise.reject(new StorageError('storage', 'no key')),
    unlock: async () => {},
  })
  const starts = startFake({}, { defaultStorage: 'indexeddb', openIdentity })
  await assert.rejects(starts, { code: 'storage', message: 'no key' })
})

test('a browser waits for the lock, and no longer than its signal says', async (t) => {
  const asked = []
  const request = (name, options, use) => {
    asked.push([name, Object.keys(options)])
    return new Promise((resolve, reject) => {
      options.signal?.addEventListener('abort', () => reject(options.signal.reason))
      if (!options.signal) resolve(use(null))
    })
  }
  browser(t, { indexedDB: {}, navigator: { locks: { request } } })
  await assert.rejects(openBrowserIdentity('selkie-dev'), IdentityInUseError)
  const gone = new AbortController()
  const parts = {
    defaultStorage: 'indexeddb',
    openIdentity: (_, ...network) => openBrowserIdentity(...network),
  }
  const { createNode } = fakePlatform(parts)
  const { signal } = gone
  const starts = createNode({ network: 'selkie-dev', identityInUse: 'wait', signal })
  await turn()
  gone.abort('enough')
  await assert.rejects(starts, (reason) => reason === 'enough')
  const name = 'selkie/identity/selkie-dev'
  assert.deepEqual(asked, [
    [name, ['ifAvailable']],
    [name, ['signal']],
  ])
})

test('storage that never answers holds up nobody who gives up, and is unlocked once it does', async () => {
  const [loaded, asked] = [0, 1].map(deferred)
  let unlocked = 0
  const openIdentity = async () => ({
    load: () => (asked.resolve(), loaded.promise),
    unlock: async () => void unlocked++,
  })
  const gone = new AbortController()
  const options = { storage: 'indexeddb', signal: gone.signal }
  const starts = startFake(options, { openIdentity })
  await asked.promise
  gone.abort('enough')
  await assert.rejects(starts, (reason) => reason === 'enough')
  // What is under way there still has the lock.
  assert.equal(unlocked, 0)
  loaded.resolve(Uint8Array.of(1))
  await turn()
  assert.equal(unlocked, 1)
})
