/** The program of a browser's worker: a node behind a message port. */

import { serve } from './bridge.js'
import { instantiate } from './instance.js'
import * as selkie from './selkie.js'

declare const self: Window

// What a user's application leaves uncaught is its own, and not the end of the worker, as it would be taken for on the page. What ends the node
// its instance tells.
self.addEventListener('error', (event) => {
  event.preventDefault()
  console.error(event.error ?? event.message)
})

serve(
  {
    post: (message, transfer = []) => self.postMessage(message, { transfer }),
    onMessage: (listener) => self.addEventListener('message', ({ data }) => listener(data)),
    onFailure: (listener) =>
      self.addEventListener('messageerror', () => listener('a message to it can not be read')),
  },
  (module, glue, crashed) => instantiate(module, glue ?? selkie, crashed),
)
