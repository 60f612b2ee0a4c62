/** The program of a worker thread of Node: a node behind a message port. */

import { parentPort } from 'node:worker_threads'
import { serve } from './bridge.js'
import { instantiate } from './instance.js'
import * as selkie from './selkie.js'

if (parentPort === null) throw new Error('this file is for a worker thread; import selkie instead')
const port = parentPort

serve(
  {
    post: (message, transfer = []) => port.postMessage(message, transfer as ArrayBuffer[]),
    onMessage: (listener) => port.on('message', listener),
    onFailure: (listener) =>
      port.on('messageerror', (error) => listener(`a message to it can not be read: ${error}`)),
  },
  (module, glue, crashed) => instantiate(module, glue ?? selkie, crashed),
)
