/** The entry for browsers. The addresses are written so that bundlers find the files. */

import { inFull } from './address.js'
import { createNodeOn } from './create.js'
import { browserPlatform } from './platform-browser.js'
import * as selkie from './selkie.js'

export const createNode = createNodeOn(
  browserPlatform(
    {
      selkie: () => ({
        glue: selkie,
        module: () => new URL('./selkie_bg.wasm', import.meta.url),
      }),
      ledger: () => ({
        glue: inFull(new URL('./ledger.js', import.meta.url)).href,
        module: () => new URL('./ledger_bg.wasm', import.meta.url),
      }),
    },
    () => new URL('./worker.js', import.meta.url),
  ),
)

export { clearStorage } from './clear-browser.js'
export * from './public-errors.js'
