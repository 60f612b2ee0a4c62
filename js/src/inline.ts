/**
 * The entry for places where a file beside the JavaScript can't be found: all is in this module,
 * the WebAssembly as base64 (a third larger; about the same under gzip), the worker as text. It is
 * the one with the ledgers, for every chain: a second one beside it would be most of the first anew.
 */

import { createNodeOn } from './create.js'
import { wasm, worker } from './embedded.js'
import * as ledger from './ledger.js'
import { browserPlatform, scriptAddress } from './platform-browser.js'

/** Of the worker's program: one for all workers, as long as there is the page. */
let address: URL | undefined

const build = () => ({
  glue: ledger,
  module: () => Uint8Array.from(atob(wasm), (char) => char.charCodeAt(0)),
})

export const createNode = createNodeOn(
  browserPlatform(
    { selkie: build, ledger: build },
    () => (address ??= new URL(scriptAddress(worker))),
  ),
)

export { clearStorage } from './clear-browser.js'
export * from './public-errors.js'
