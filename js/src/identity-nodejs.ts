/**
 * Node's store: `identity.key` in a directory of the user's, readable by its owner alone, its address book `identity.key.book`, and
 * `identity.lock` beside them, which names the holder: the id of the process whose node runs on it, where the system
 * tells (Linux) its birth, which is the boot and the moment in it when it began, and a socket in the directory where it answers.
 *
 * The key is written to a file of its own and then linked into place, so that a reader finds all of
 * it or none; where the file system has no hard links, straight into a new file.
 *
 * The system ends the socket with its thread, however that ends, and connects to it from other containers of this machine too. So a lock
 * whose socket answers is held, and one whose socket does not is taken over. Where a directory takes no sockets (some shared file systems, long paths,
 * Windows) the process is looked for: a lock is taken over when that has died, also where another has its number by now: that one was
 * born at another moment, or (where no birth is told) after the lock, at least in a later boot. One with our own number is another thread's or another
 * copy's of this package, unless it is older than this process. (There containers are not kept apart: their numbers mean nothing to
 * each other; and a thread that is ended from outside leaves its lock until the process ends.)
 *
 * A lock is written beside and linked into place, and a dead one is moved away first, and back if it
 * turns out to be another's by now: of several that wait one goes ahead. The command `selkie` writes the same lock (src/bin/selkie/identity/lock.rs), whatever it runs the key for.
 */

import { randomBytes, randomUUID } from 'node:crypto'
import {
  link,
  mkdir,
  open as openFile,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { uptime } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { IdentityInUseError, SelkieError, StorageError } from './errors.js'
import { checkedKey, inUse } from './identity.js'
import type { IdentityStore } from './platform.js'

/** How much the clock may have been set since a boot, in ms, before a lock passes for one of an earlier. */
const CLOCK_SLACK = 60_000

/** The locks of this copy of the package in this thread. */
const held = new Set<string>()

/** No book that the node takes is larger. */
const MAX_BOOK_BYTES = 2 * 1024 * 1024

/** How often it is looked whether a lock is free, in ms: no file system tells. */
const GLANCE = 200

/** Systems take no longer name of a socket, in bytes with its end; some cut it. */
const MAX_SOCKET = 104

export async function openFileIdentity(
  directory: string,
  waits = false,
  signal?: AbortSignal,
): Promise<IdentityStore> {
  for (;;) {
    try {
      return await open(directory)
    } catch (error) {
      if (!waits || !(error instanceof IdentityInUseError)) throw error
      // An abort ends it; then its own reason is the error.
      await setTimeout(GLANCE, undefined, signal && { signal }).catch(() => {})
      signal?.throwIfAborted()
    }
  }
}

async function open(directory: string): Promise<IdentityStore> {
  const folder = resolve(directory)
  const keyPath = join(folder, 'identity.key')
  const lockPath = join(folder, 'identity.lock')
  return told(keyPath, async () => {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    if (held.has(lockPath)) throw inUse(keyPath, lockPath)
    held.add(lockPath)
    let socket: Server | undefined
    try {
      socket = await listen(`${lockPath}.${randomBytes(4).toString('hex')}`)
      if (!(await lock(lockPath, socket))) throw inUse(keyPath, lockPath)
    } catch (error) {
      await closed(socket)
      held.delete(lockPath)
      throw error
    }
    const bookPath = `${keyPath}.book`
    return {
      book: { load: () => readBook(bookPath), save: (bytes) => writeBook(bookPath, bytes) },
      load: () => told(keyPath, () => readKey(keyPath)),
      save: (key) => told(keyPath, () => writeKey(keyPath, key)),
      unlock: () =>
        told(lockPath, async () => {
          await rm(lockPath, { force: true })
          await closed(socket)
          held.delete(lockPath)
        }),
    }
  })
}

async function lock(path: string, socket: Server | undefined): Promise<boolean> {
  const lines = [`${process.pid} ${await birth(process.pid)}`.trimEnd()]
  if (socket) lines.push(basename(socket.address() as string))
  const ours = `${lines.join('\n')}\n`
  if (await place(path, ours)) return true
  const found = await readFile(path, 'utf8').catch((error) => {
    if (isCode(error, 'ENOENT')) return undefined
    throw error
  })
  // Who waits comes again.
  if (found === undefined || (await isHeld(path, found))) return false
  if (!(await takeAway(path, found))) return false
  const dead = socketOf(path, found)
  if (dead !== undefined) await rm(dead, { force: true })
  return place(path, ours)
}

function mayBeSocket(path: string): boolean {
  return process.platform !== 'win32' && Buffer.byteLength(path) < MAX_SOCKET
}

/** A socket that ends with this thread; undefined where the directory takes none. It keeps no process up. */
async function listen(path: string): Promise<Server | undefined> {
  if (!mayBeSocket(path)) return undefined
  const server = createServer((guest) => guest.destroy())
  return new Promise((resolve) => {
    server.once('error', () => resolve(undefined))
    server.listen(path, () => resolve(server.unref()))
  })
}

async function closed(socket: Server | undefined) {
  if (socket) await new Promise((resolve) => socket.close(resolve))
}

/** Whether somebody listens at a socket; undefined where that can't be told. */
async function answers(path: string): Promise<boolean | undefined> {
  if (!mayBeSocket(path)) return undefined
  return new Promise((resolve) => {
    const guest = connect(path, () => {
      guest.destroy()
      resolve(true)
    })
    guest.once('error', (error) => {
      const isNobody = isCode(error, 'ECONNREFUSED') || isCode(error, 'ENOENT')
      resolve(isNobody ? false : undefined)
    })
  })
}

/** Where the holder of the lock `found` answers, if it says so. */
function socketOf(path: string, found: string): string | undefined {
  const name = found.split('\n')[1]
  const isOurs = name?.startsWith(`${basename(path)}.`) && basename(name) === name
  return isOurs ? join(dirname(path), name!) : undefined
}

/** Puts a whole file where none is yet; false where one is. */
async function place(path: string, content: string): Promise<boolean> {
  const draft = `${path}.${randomUUID()}`
  await writeFile(draft, content, { flag: 'wx', mode: 0o600 })
  try {
    await link(draft, path)
    return true
  } catch (error) {
    if (isCode(error, 'EEXIST')) return false
    // No hard links here.
    return await writeFile(path, content, { flag: 'wx', mode: 0o600 }).then(
      () => true,
      (error) => {
        if (isCode(error, 'EEXIST')) return false
        throw error
      },
    )
  } finally {
    await rm(draft, { force: true })
  }
}

/** Takes a lock away whose holder has gone; false where another was quicker, whose lock stays. */
export async function takeAway(path: string, stale: string): Promise<boolean> {
  const aside = `${path}.${randomUUID()}`
  try {
    await rename(path, aside)
    const taken = await readFile(aside, 'utf8')
    if (taken === stale) return true
    await place(path, taken)
    return false
  } catch (error) {
    if (isCode(error, 'ENOENT')) return false
    throw error
  } finally {
    await rm(aside, { force: true })
  }
}

/** Whether who wrote the lock `found` is there, and not another process with its number. */
async function isHeld(path: string, found: string): Promise<boolean> {
  const socket = socketOf(path, found)
  const isThere = socket === undefined ? undefined : await answers(socket)
  if (isThere !== undefined) return isThere
  const [number = '', ...recorded] = found.split('\n')[0]!.trim().split(' ')
  const holder = Number.parseInt(number, 10)
  if (!isRunning(holder)) return false
  const born = await birth(holder)
  if (recorded.length > 0 && born !== '') return recorded.join(' ') === born
  const began =
    holder === process.pid ? performance.timeOrigin : Date.now() - uptime() * 1000 - CLOCK_SLACK
  return (await stat(path)).mtimeMs >= began
}

/** What no other process with this number has ever had; empty where the system does not tell. */
async function birth(pid: number): Promise<string> {
  try {
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8')
    const status = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The second field is the program's name in brackets, which may hold anything; the 22nd is the start.
    const start = status.slice(status.lastIndexOf(')') + 2).split(' ')[19]
    return start === undefined ? '' : `${boot.trim()} ${start}`
  } catch {
    return ''
  }
}

function isRunning(pid: number): boolean {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return isCode(error, 'EPERM')
  }
}

async function readKey(path: string): Promise<Uint8Array | undefined> {
  try {
    const { mode, size } = await stat(path)
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw new StorageError('storage', `others may read ${path}; run: chmod 600 '${path}'`)
    }
    // A file of any size may lie there; the check sees that it is no key.
    const bytes = size > 1024 * 1024 ? undefined : new Uint8Array(await readFile(path))
    return checkedKey(bytes, path)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** `linked` gives a file a second name, and fails where that name is taken: a hard link. */
export async function writeKey(path: string, key: Uint8Array, linked = link) {
  const draft = draftOf(path)
  await rm(draft, { force: true })
  await writeNew(draft, key)
  try {
    await linked(draft, path)
  } catch (error) {
    if (isCode(error, 'EEXIST')) throw error
    // FAT, and some file systems of phones and networks.
    await writeNew(path, key)
  } finally {
    await rm(draft, { force: true })
  }
  await syncFolder(dirname(path))
}

/** The lock's holder alone writes, so one name will do: what a process left that died over it is taken away by the next. */
function draftOf(path: string): string {
  return `${path}.draft`
}

/** As much of a file as shows that it is larger than a book. */
async function readBook(path: string): Promise<Uint8Array | undefined> {
  try {
    const file = await openFile(path, 'r')
    try {
      const { buffer, bytesRead } = await file.read(new Uint8Array(MAX_BOOK_BYTES + 1))
      return buffer.slice(0, bytesRead)
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** A whole new file in the old one's place. */
async function writeBook(path: string, bytes: Uint8Array) {
  const draft = draftOf(path)
  await rm(draft, { force: true })
  await writeNew(draft, bytes)
  await rename(draft, path)
}

/** Lets a new name outlast a power cut. Windows has no such call, and needs none. */
async function syncFolder(path: string) {
  if (process.platform === 'win32') return
  const folder = await openFile(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** Writes a file that is not there yet; what can't be written whole is taken away again. */
async function writeNew(path: string, bytes: Uint8Array) {
  const file = await openFile(path, 'wx', 0o600)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } catch (error) {
    await rm(path, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

/** Errors of the file system as errors of ours. */
async function told<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (cause instanceof SelkieError) throw cause
    throw new StorageError(
      'storage',
      `can't keep the identity in ${path}: ${cause}; pass a directory that can be written, or storage: 'memory'`,
      { cause },
    )
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
