/** The hand-written contract against the implementation: this file only has to compile. */

import type * as contract from '../index.js'
import type * as browser from '../src/browser.js'
import type * as inline from '../src/inline.js'
import type * as nodejs from '../src/nodejs.js'

/** Every entry exports what the contract says, and nothing more. */
type Same<A, B> = [keyof A, keyof B] extends [keyof B, keyof A] ? true : false

declare const entries: [typeof browser, typeof inline, typeof nodejs]
entries satisfies (typeof contract)[]
const _exact: [
  Same<typeof contract, typeof browser>,
  Same<typeof contract, typeof inline>,
  Same<typeof contract, typeof nodejs>,
] = [true, true, true]

/** And the contract reads in use as the README has it. */
export async function use(createNode: typeof contract.createNode, signal: AbortSignal) {
  await using node = await createNode({
    network: { id: 'selkie-dev', application: 'bitcoin' },
    storage: { directory: './data' },
    config: { network: { max_peers: 8 } },
    signal,
  })
  node.addEventListener('peer:connect', ({ detail }) => detail.agent.length)
  node.addEventListener('node:stop', ({ detail }) => detail.error?.code)
  // @ts-expect-error: an event has the fields of its own kind only
  node.addEventListener('peer:connect', ({ detail }) => detail.protocols)

  for await (const block of node.blocks.subscribe({ signal })) {
    block.data satisfies Uint8Array
    block.missed satisfies number
  }
  for await (const message of node.gossip.subscribe('topic', { validate: true })) {
    await message.report('accept')
  }
  for await (const message of node.gossip.subscribe('topic')) {
    // @ts-expect-error: without validate there is no verdict to give
    await message.report('accept')
  }
  const application: contract.Application = {
    checkTransaction: (bytes) => ({ verdict: 'accept', id: bytes.subarray(0, 32), fee: 5 }),
    checkBlock: async (_, hash) => ({ verdict: 'reject', reason: String(hash.length) }),
    // @ts-expect-error: there are three verdicts
    checkVote: () => ({ verdict: 'perhaps' }),
    deliver: async ({ kind, data }) => [kind, data.length],
  }
  await createNode({ network: 'selkie-dev', application })
  const config: contract.NodeConfig = {
    network: { keepalive_interval: '20s', listen_addresses: ['/memory/0'] },
    protocol: { validation: { votes: { all: 1024, per_peer: 512 }, application_timeout: '1s' } },
    // @ts-expect-error: a count is a number
    security: { rate_limits: { burst: 'many' } },
  }
  // @ts-expect-error: there is no such field
  config.network = { max_pears: 7 }
  await node.expectDuty([node.peerId], { inMs: 1000, forMs: 5000, signal })
  // @ts-expect-error: a duty lasts some time
  await node.expectDuty([], {})
  const answer = await node.dial('/memory/1').catch(({ code }: contract.SelkieError) => code)
  answer satisfies string
  const code: contract.ErrorCode = 'no-peers'
  // @ts-expect-error: there is no such code
  code satisfies 'no-pears'
  await createNode({
    network: 'selkie-dev',
    run: 'worker',
    application: new URL('file:///chain.js'),
  })
  const glue = new URL('file:///chain.js')
  await createNode({ network: 'selkie-dev', wasm: { glue }, application: 'payments' })
  node.addEventListener('eclipse:suspected', ({ detail }) => detail.signs.includes('stale-tip'))
  node.addEventListener('application:error', ({ detail }) => detail.call.length + detail.count)
  await node.handle('/echo/1', ({ readable, writable }) => readable.pipeTo(writable), { signal })
  const { peer, readable } = await node.open('12D3KooW', '/echo/1', { signal })
  for await (const piece of readable) piece satisfies Uint8Array
  peer satisfies string
  // @ts-expect-error: a handler is a function
  await node.handle('/echo/1', readable)
  const { proof } = await node.state.get(new Uint8Array(1), { at: 7n })
  // @ts-expect-error: heights are bigint
  await node.state.get(proof, { at: 7 })
  for await (const { height, values } of node.state.watch([proof], { signal })) {
    height satisfies bigint
    for (const { key, value } of values) (key.length + value.length) satisfies number
  }
  // @ts-expect-error: keys come in a list
  node.state.watch(proof)
  node.addEventListener('state:unverified', ({ detail }) => detail.reason.length)
}
