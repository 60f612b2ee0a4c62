/**
 * From whatever the user gave to a compiled WebAssembly module.
 *
 * The compiler works as the body arrives, and gets the response itself: a browser keeps compiled code
 * with the response that it fetched, and for no other. What has arrived is counted on a copy. Only
 * where a server does not know `application/wasm` the body goes to the compiler under a response of
 * our own. A page in place of the file (the fallback of many development servers) is told apart by
 * name, for that is the usual way in which a bundler's set-up is wrong.
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
  return compiled(() => WebAssembly.compile(bytes), name, signal)
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
  const over = new AbortController()
  return compiled(
    async () => {
      const counted =
        onProgress && response.clone().body?.pipeTo(counter(totalOf(response), onProgress), over)
      // What throws at once must not leave the other without anybody who hears of its end.
      const compiling = async () => WebAssembly.compileStreaming(asWasm(response))
      const [module] = await Promise.all([compiling(), counted])
      return module
    },
    name,
    signal,
  ).finally(() => over.abort())
}

/** The response itself, wherever the compiler takes it. */
function asWasm(response: Response): Response {
  if (response.headers.get('content-type') === 'application/wasm') return response
  return new Response(response.body, { headers: { 'content-type': 'application/wasm' } })
}

/** Nobody reads its body, so its connection is let go. */
function refused({ body }: Response, problem: string): LoadError {
  body?.cancel().catch(() => {})
  return new LoadError('load', `${problem}; ${ADVICE}`)
}

function counter(
  total: { total?: number },
  onProgress: NonNullable<LoadOptions['onProgress']>,
): WritableStream<Uint8Array> {
  let loaded = 0
  return new WritableStream({
    write({ byteLength }) {
      loaded += byteLength
      onProgress({ loaded, ...total })
    },
  })
}

/** The length counts what was sent, which under a content encoding is not what arrives here. */
function totalOf({ headers }: Response): { total?: number } {
  const length = Number(headers.get('content-length'))
  return length > 0 && !headers.has('content-encoding') ? { total: length } : {}
}

async function compiled(
  compile: () => Promise<WebAssembly.Module>,
  name: string,
  signal?: AbortSignal,
): Promise<WebAssembly.Module> {
  try {
    return await compile()
  } catch (cause) {
    signal?.throwIfAborted()
    throw new LoadError('load', `can't compile ${name}: ${cause}; ${ADVICE}`, { cause })
  }
}
