/**
 * From whatever the user gave to a compiled WebAssembly module.
 *
 * A fetched body is counted on its way into the compiler, which works as it arrives. It goes there
 * under a response of our own, so that a server which does not know `application/wasm` will do. A
 * page in place of the file (the fallback of many development servers) is told apart by name, for
 * that is the usual way in which a bundler's set-up is wrong.
 */

import type { WasmSource } from '../index.js'
import { LoadError } from './errors.js'

export type { WasmSource }

export interface LoadOptions {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: { loaded: number; total?: number }) => void) | undefined
}

const ADVICE =
  "serve the package's dist/selkie_bg.wasm and pass its address as `wasm` (for a ledger dist/ledger_bg.wasm, and dist/ledger.js beside it as `wasm.glue`), or import 'selkie/inline'"

export async function loadModule(
  source: WasmSource,
  options: LoadOptions,
): Promise<WebAssembly.Module> {
  options.signal?.throwIfAborted()
  if (source instanceof WebAssembly.Module) return source
  if (source instanceof Response) return compileResponse(source, options)
  if (typeof source === 'string' || source instanceof URL) {
    return compileResponse(await get(source, options.signal), options)
  }
  return compileBytes(source, options, 'the given bytes')
}

export async function compileBytes(
  bytes: BufferSource,
  { signal, onProgress }: LoadOptions,
  name: string,
): Promise<WebAssembly.Module> {
  onProgress?.({ loaded: bytes.byteLength, total: bytes.byteLength })
  return compiled(WebAssembly.compile(bytes), name, signal)
}

async function get(address: string | URL, signal?: AbortSignal): Promise<Response> {
  try {
    return await fetch(address, { signal: signal ?? null, credentials: 'same-origin' })
  } catch (cause) {
    signal?.throwIfAborted()
    throw new LoadError('load', `can't fetch ${address}: ${cause}; ${ADVICE}`, { cause })
  }
}

function compileResponse(response: Response, { signal, onProgress }: LoadOptions) {
  const name = response.url || 'the given response'
  if (!response.ok || response.body === null) {
    throw refused(response, `${name} answered with status ${response.status}`)
  }
  if (response.headers.get('content-type')?.startsWith('text/html')) {
    throw refused(response, `${name} is a web page, not WebAssembly`)
  }
  const body = onProgress
    ? response.body.pipeThrough(counter(totalOf(response), onProgress))
    : response.body
  const wasm = new Response(body, { headers: { 'content-type': 'application/wasm' } })
  return compiled(WebAssembly.compileStreaming(wasm), name, signal)
}

/** Nobody reads its body, so its connection is let go. */
function refused({ body }: Response, problem: string): LoadError {
  body?.cancel().catch(() => {})
  return new LoadError('load', `${problem}; ${ADVICE}`)
}

function counter(
  total: { total?: number },
  onProgress: NonNullable<LoadOptions['onProgress']>,
): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  let loaded = 0
  return new TransformStream({
    transform(chunk, controller) {
      loaded += chunk.byteLength
      onProgress({ loaded, ...total })
      controller.enqueue(chunk)
    },
  })
}

/** The length counts what was sent, which under a content encoding is not what arrives here. */
function totalOf({ headers }: Response): { total?: number } {
  const length = Number(headers.get('content-length'))
  return length > 0 && !headers.has('content-encoding') ? { total: length } : {}
}

async function compiled(
  module: Promise<WebAssembly.Module>,
  name: string,
  signal?: AbortSignal,
): Promise<WebAssembly.Module> {
  try {
    return await module
  } catch (cause) {
    signal?.throwIfAborted()
    throw new LoadError('load', `can't compile ${name}: ${cause}; ${ADVICE}`, { cause })
  }
}
