/**
 * The message port between a page and the worker that runs its node.
 *
 * Requests carry a number and are answered with it, in any order. Bytes of answers are moved, not
 * copied; bytes of requests are copied, for they are the caller's, and no more of them than the
 * caller gave: a view would take its whole buffer along. An abort ends the waiting on the
 * page's side; where the node can take back what it has begun, the call's last argument is a signal, of
 * which the worker makes one of its own.
 */

import {
  Crash,
  crashAll,
  LocalEngine,
  type Answer,
  type Calls,
  type Engine,
  type Glue,
  type Method,
} from './engine.js'
import { crashed, report, revive, type ErrorReport } from './errors.js'
import type { GlueModule } from './instance.js'
import { Pending } from './pending.js'

/** One end of a channel: browsers' and Node's workers differ in how they say the same. */
export interface Port {
  post(message: unknown, transfer?: Transferable[]): void
  onMessage(listener: (message: unknown) => void): void
  /** The other end ended without being asked to, or what it sent can't be read. */
  onFailure(listener: (reason: string) => void): void
  close(): Promise<void>
}

type Request = { id: number; method: 'load' | Method; args: unknown[]; abortable: boolean }
type Abort = { abort: number }
type Response =
  { id: number; value: unknown } | { id: number; error: ErrorReport } | { crash: string }

type Waiting = { resolve(value: unknown): void; reject(error: Error): void }

/** The page's side. */
export class RemoteEngine implements Engine {
  readonly #port: Port
  readonly #waiting = new Map<number, Waiting>()
  readonly crash = new Crash()
  #lastId = 0

  private constructor(port: Port) {
    this.#port = port
    port.onMessage((message) => this.#receive(message as Response))
    port.onFailure((reason) => this.crash.ring(`the node's worker failed: ${reason}`))
    this.crash.listen((message) => {
      const error = crashed(message)
      for (const { reject } of this.#waiting.values()) reject(error)
      this.#waiting.clear()
    })
  }

  /**
   * Resolves once the worker, which starts as the module loads, has made an instance of it. The worker imports a glue by its address, and
   * has the other itself.
   */
  static async open(
    port: Port,
    module: Promise<WebAssembly.Module>,
    glue: GlueModule | string,
    signal?: AbortSignal,
  ): Promise<RemoteEngine> {
    const engine = new RemoteEngine(port)
    const pending = new Pending()
    engine.crash.listen((message) => pending.fail(crashed(message)))
    try {
      const address = typeof glue === 'string' ? glue : undefined
      await pending.wait(async () => engine.#request('load', [await module, address]), signal)
    } catch (error) {
      await engine.close()
      throw error
    }
    return engine
  }

  call<M extends Method>(method: M, ...args: Parameters<Calls[M]>) {
    return this.#request(method, args) as Answer<M>
  }

  async close(release = async () => {}) {
    this.#waiting.clear()
    await this.#port.close()
    await release()
  }

  #request(method: Request['method'], args: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId
      const copies: ArrayBuffer[] = []
      const owned = (arg: unknown): unknown => {
        if (Array.isArray(arg)) return arg.map(owned)
        if (!(arg instanceof Uint8Array) || arg.byteLength === arg.buffer.byteLength) return arg
        const copy = new Uint8Array(arg)
        copies.push(copy.buffer)
        return copy
      }
      const signal = args.at(-1)
      const abortable = signal instanceof AbortSignal
      const own = (abortable ? args.slice(0, -1) : args).map(owned)
      this.#port.post({ id, method, args: own, abortable } satisfies Request, copies)
      this.#waiting.set(id, { resolve, reject })
      if (!abortable) return
      const abort = () => {
        if (this.#waiting.has(id)) this.#port.post({ abort: id } satisfies Abort)
      }
      signal.addEventListener('abort', abort, { once: true })
    })
  }

  #receive(response: Response) {
    if ('crash' in response) return this.crash.ring(response.crash)
    const waiting = this.#waiting.get(response.id)
    this.#waiting.delete(response.id)
    if ('error' in response) waiting?.reject(revive(response.error))
    else waiting?.resolve(response.value)
  }
}

/** The worker's side: loads the module that comes first, then serves calls until it is ended. */
export function serve(
  port: Omit<Port, 'close'>,
  load: (
    module: WebAssembly.Module,
    glue: string | undefined,
    crashed: (words: string) => void,
  ) => Promise<Glue>,
) {
  let engine: LocalEngine | undefined
  const abortable = new Map<number, AbortController>()

  async function answer({ id, method, args, abortable: aborts }: Request): Promise<unknown> {
    if (method === 'load') {
      const [module, glue] = args as [WebAssembly.Module, string | undefined]
      const engines = new Set<LocalEngine>()
      engine = new LocalEngine(
        await load(module, glue, (words) => crashAll(engines, words)),
        engines,
      )
      engine.crash.listen((crash) => port.post({ crash } satisfies Response))
      return undefined
    }
    if (engine === undefined) throw new Error(`${method} was called before the module was loaded`)
    if (aborts) {
      const abort = new AbortController()
      abortable.set(id, abort)
      args.push(abort.signal)
    }
    return engine.call(method, ...(args as Parameters<Calls[typeof method]>))
  }

  // Who sent it waits for an answer, and nobody knows to what.
  port.onFailure((crash) => port.post({ crash } satisfies Response))
  port.onMessage((message) => {
    const request = message as Request | Abort
    if ('abort' in request) return abortable.get(request.abort)?.abort()
    const { id } = request
    answer(request)
      .finally(() => abortable.delete(id))
      .then((value) => port.post({ id, value } satisfies Response, ownedBuffers(value)))
      .catch((error) => port.post({ id, error: report(error) } satisfies Response))
  })
}

/** The buffers that hold one byte array of an answer each, and so can move to another thread. */
function ownedBuffers(value: unknown): Transferable[] {
  if (Array.isArray(value)) return value.flatMap(ownedBuffers)
  const fields = value instanceof Uint8Array ? [value] : Object.values(Object(value))
  const buffers = new Set<ArrayBuffer>()
  for (const field of fields) {
    if (!(field instanceof Uint8Array) || !(field.buffer instanceof ArrayBuffer)) continue
    if (field.byteLength === field.buffer.byteLength) buffers.add(field.buffer)
  }
  return [...buffers]
}
