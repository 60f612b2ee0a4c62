/** The entry for browsers. The two addresses are written so that bundlers find the files. */

import { createNodeOn } from './create.js'
import { browserPlatform } from './platform-browser.js'

export const createNode = createNodeOn(
  browserPlatform(
    () => new URL('./selkie_bg.wasm', import.meta.url),
    () => new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'selkie' }),
  ),
)

export { clearStorage } from './clear-browser.js'
export * from './public-errors.js'
