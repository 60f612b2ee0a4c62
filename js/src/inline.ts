/**
 * The entry for places where a file beside the JavaScript can't be found: all is in this module,
 * the WebAssembly as base64 (a third larger; about the same under gzip), the worker as text.
 */

import { createNodeOn } from './create.js'
import { wasm, worker } from './embedded.js'
import { browserPlatform } from './platform-browser.js'

export const createNode = createNodeOn(
  browserPlatform(
    () => Uint8Array.from(atob(wasm), (char) => char.charCodeAt(0)),
    () => {
      const address = URL.createObjectURL(new Blob([worker], { type: 'text/javascript' }))
      const started = new Worker(address, { type: 'module', name: 'selkie' })
      // It has answered once, so it has been read.
      started.addEventListener('message', () => URL.revokeObjectURL(address), { once: true })
      return started
    },
  ),
)

export * from './public-errors.js'
