// A program of a user's, as tests/browser/runtimes.test.mjs has Node, Deno and Bun run it: it joins at the address it is given, with an
// identity that is kept, on its thread and in a worker, and says what became of that.

import { createNode } from 'selkie'

const [, , address, directory] = process.argv
const say = (fields) => console.log(JSON.stringify(fields))

for (const run of ['page', 'worker']) {
  const network = { id: 'selkie-test', application: 'bitcoin' }
  const node = await createNode({ run, network, storage: { directory } })
  const second = createNode({ run, network, storage: { directory } })
  const { code } = await second.then(
    (node) => node.stop(),
    (error) => error,
  )
  const blocks = node.blocks.subscribe()
  const peer = await node.dial(address)
  say({ type: 'joined', run, peerId: node.peerId, peer, second: code })
  const { value } = await blocks.next()
  say({ type: 'block', run, id: value.id, size: value.data.length })
  const gone = new Promise((resolve) => node.addEventListener('node:stop', resolve))
  await node.stop()
  await gone
}
say({ type: 'end' })
