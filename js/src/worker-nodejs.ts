/** The program of a worker thread of Node: a node behind a message port. */

import { parentPort } from 'node:worker_threads'
import { serve } from './bridge.js'
import init, { WasmNode } from './selkie.js'

if (parentPort === null) throw new Error('this file is for a worker thread; import selkie instead')
const port = parentPort

serve(
  {
    post: (message, transfer = []) => port.postMessage(message, transfer as ArrayBuffer[]),
    onMessage: (listener) => port.on('message', listener),
  },
  async (module) => {
    await init({ module_or_path: module })
    return WasmNode
  },
)
