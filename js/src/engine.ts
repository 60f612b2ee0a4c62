/**
 * An engine is the WebAssembly node as the facade drives it, wherever it runs.
 *
 * The page runs a {@link LocalEngine} itself; a worker serves one through its message port, and the
 * page holds a `RemoteEngine` (bridge.ts) of the same shape. One method, {@link Engine.call}, keeps
 * both thin: what calls mean is written once, in node.ts.
 *
 * After a panic the WebAssembly's promises stay pending for ever, because the code that would settle
 * them is dead. So an engine also tells of its crash (instance.ts knows of it), and the facade rejects what is pending.
 */

import { openApplication, type ApplicationHost } from './application.js'
import { ConfigError, crashMessage, isTrap } from './errors.js'
import type { NodeEvent, WasmLog, WasmNode } from './selkie.js'

export interface Glue {
  start(
    config: object,
    application: ApplicationHost | undefined,
    keeps: boolean,
    book: Uint8Array | undefined,
  ): Promise<WasmNode>
  generateIdentity(): Uint8Array
  openLog?: (level: string) => WasmLog
}

/** What can be called: the node's own methods, and those that come before there is a node. */
export type Calls = Omit<WasmNode, 'peerId'> & {
  generateIdentity(): Uint8Array
  /** Reads the log from now on, once. */
  openLog(level: string): void
  /** Its next lines, as events. */
  nextLog(): Promise<NodeEvent[] | undefined>
  /**
   * Resolves to the peer id. A worker is given the address of the application's module. `keeps`: what a chain stores outlasts the node. `book`: what the last
   * `saveBook` has given.
   */
  start(
    config: object,
    application: object | string | undefined,
    keeps: boolean,
    book: Uint8Array | undefined,
  ): Promise<string>
}

export type Method = keyof Calls

export type Answer<M extends Method> = Promise<Awaited<ReturnType<Calls[M]>>>

export interface Engine {
  call<M extends Method>(method: M, ...args: Parameters<Calls[M]>): Answer<M>
  readonly crash: Crash
  /**
   * Lets go of the node and its thread, and then calls `release`: nobody else may use the identity
   * before the node is down. Resolves after that, but for two cases on this thread, where nobody
   * knows how long it takes: while the node starts (it is stopped when it has), and after a crash
   * (it is asked to stop; where it can't, `release` is never called).
   */
  close(release: () => Promise<void>): Promise<void>
}

/** Rings once, with a sentence; those who listen later hear it at once. */
export class Crash {
  readonly #listeners: ((message: string) => void)[] = []
  #message: string | undefined

  listen(listener: (message: string) => void) {
    if (this.#message === undefined) this.#listeners.push(listener)
    else listener(this.#message)
  }

  ring(message: string) {
    if (this.#message !== undefined) return
    this.#message = message
    for (const listener of this.#listeners.splice(0)) listener(message)
  }
}

export class LocalEngine implements Engine {
  readonly #glue: Glue
  #closed = false
  readonly crash = new Crash()
  readonly #sharers: Set<LocalEngine>
  #starting: Promise<WasmNode> | undefined
  #node: WasmNode | undefined
  #log: WasmLog | undefined
  #stopping: Promise<void> | undefined
  #broken = false

  /**
   * `sharers` are the engines of one WebAssembly instance, this one too: the crash of one is the end
   * of all, wherever it shows.
   */
  constructor(glue: Glue, sharers = new Set<LocalEngine>()) {
    this.#glue = glue
    this.#sharers = sharers.add(this)
    this.crash.listen(() => (this.#broken = true))
  }

  async call<M extends Method>(method: M, ...args: Parameters<Calls[M]>): Answer<M> {
    try {
      return (await this.#invoke(method, args)) as Awaited<Answer<M>>
    } catch (error) {
      if (isTrap(error)) crashAll(this.#sharers, error.message)
      throw error
    }
  }

  async close(release: () => Promise<void>) {
    this.#closed = true
    this.#sharers.delete(this)
    const starting = this.#starting
    // Only what has trapped may still run on: an ordinary failure, such as of its store, comes when it is down.
    const down = this.#stop(this.#node, starting).then(release, async (error) => {
      if (!isTrap(error)) await release()
      throw error
    })
    // Not freed by hand: a call may still borrow it, and the glue's finalizer knows when none does.
    this.#node = undefined
    if (!this.#broken) this.#log?.end()
    this.#log = undefined
    if (!this.#broken && starting === undefined) return down
    down.catch(() => {})
  }

  async #start(
    config: object,
    application: object | string | undefined,
    keeps: boolean,
    book: Uint8Array | undefined,
  ): Promise<WasmNode> {
    const host = application === undefined ? undefined : await openApplication(application)
    return this.#glue.start(config, host, keeps, book)
  }

  #openLog(level: string) {
    if (this.#glue.openLog === undefined) {
      const problem = `config: log = "${level}": this WebAssembly is built without a log; give one (wasm) whose crate does not ask for selkie's feature silent`
      throw new ConfigError('config', problem, { fatal: true })
    }
    this.#log = this.#glue.openLog(level)
  }

  async #stop(node: WasmNode | undefined, starting: Promise<WasmNode> | undefined) {
    node ??= await starting?.catch(() => undefined)
    if (node !== undefined) await this.#stopNode(node)
  }

  /** Stops it once: whoever asks again hears how that went. */
  #stopNode(node: WasmNode): Promise<void> {
    this.#stopping ??= node.stop()
    return this.#stopping
  }

  async #invoke(method: Method, args: unknown[]): Promise<unknown> {
    if (method === 'generateIdentity') return this.#glue.generateIdentity()
    if (method === 'openLog') return this.#openLog(args[0] as string)
    if (method === 'nextLog') return this.#log?.next()
    if (method === 'start') {
      try {
        this.#starting = this.#start(...(args as Parameters<Calls['start']>))
        const started = await this.#starting
        if (!this.#closed) this.#node = started
        return started.peerId()
      } finally {
        this.#starting = undefined
      }
    }
    const node = this.#node
    if (node === undefined) throw new Error(`${method} was called before start, or after close`)
    if (method === 'stop') return this.#stopNode(node)
    return (node[method] as (...args: unknown[]) => unknown).apply(node, args)
  }
}

/** The instance that these engines share has ended: in words, by what. */
export function crashAll(engines: Set<LocalEngine>, words: string) {
  for (const engine of [...engines]) engine.crash.ring(crashMessage(words))
}
