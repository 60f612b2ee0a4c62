/** The program of a browser's worker: a node behind a message port. */

import { serve } from './bridge.js'
import init, { WasmNode } from './selkie.js'

declare const self: Window

serve(
  {
    post: (message, transfer = []) => self.postMessage(message, { transfer }),
    onMessage: (listener) => self.addEventListener('message', ({ data }) => listener(data)),
  },
  async (module) => {
    await init({ module_or_path: module })
    return WasmNode
  },
  self,
)
