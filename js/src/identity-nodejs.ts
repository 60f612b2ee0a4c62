/**
 * Node's store: `identity.key` in a directory of the user's, readable by its owner alone, and
 * `identity.lock` beside it, which holds the id of the process whose node runs on it.
 *
 * The key is written to a file of its own and then linked into place, so that a reader finds all of
 * it or none; where the file system has no hard links, straight into a new file.
 *
 * A lock whose process has died is taken over. One with our own number is another thread's or another
 * copy's of this package, unless it is older than this process. (Between looking and taking over, two
 * processes started in the same instant could both go ahead; the loser is then kicked out by peers,
 * as without a lock. So it is with containers that share a directory: their numbers mean nothing to
 * each other. A thread that is ended from outside leaves its lock until the process ends.)
 */

import { link, mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { SelkieError, StorageError } from './errors.js'
import { checkedKey, inUse } from './identity.js'
import type { IdentityStore } from './platform.js'

/** The locks of this copy of the package in this thread. */
const held = new Set<string>()

export async function openFileIdentity(directory: string): Promise<IdentityStore> {
  const folder = resolve(directory)
  const keyPath = join(folder, 'identity.key')
  const lockPath = join(folder, 'identity.lock')
  return told(keyPath, async () => {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    if (held.has(lockPath)) throw inUse(keyPath)
    held.add(lockPath)
    try {
      if (!(await lock(lockPath))) throw inUse(keyPath)
    } catch (error) {
      held.delete(lockPath)
      throw error
    }
    return {
      load: () => told(keyPath, () => readKey(keyPath)),
      save: (key) => told(keyPath, () => writeKey(keyPath, key)),
      unlock: () =>
        told(lockPath, async () => {
          await rm(lockPath, { force: true })
          held.delete(lockPath)
        }),
    }
  })
}

async function lock(path: string): Promise<boolean> {
  try {
    await writeFile(path, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
    return true
  } catch (error) {
    if (!isCode(error, 'EEXIST')) throw error
  }
  const holder = Number.parseInt(await readFile(path, 'utf8'), 10)
  if (holder === process.pid ? await isOurs(path) : isRunning(holder)) return false
  await writeFile(path, `${process.pid}\n`, { mode: 0o600 })
  return true
}

/** Whether this process wrote the lock, and not one with its number that died before it. */
async function isOurs(path: string): Promise<boolean> {
  return (await stat(path)).mtimeMs >= performance.timeOrigin
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
  const draft = `${path}.${process.pid}`
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
}

/** Writes a file that is not there yet; what can't be written whole is taken away again. */
async function writeNew(path: string, key: Uint8Array) {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(key)
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
