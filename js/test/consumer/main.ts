import { createNode, SelkieError, type ProtocolStream, type SelkieNode } from 'selkie'

export async function start(signal: AbortSignal): Promise<SelkieNode> {
  const node = await createNode({ network: 'selkie-dev', storage: 'memory', signal })
  node.addEventListener('peer:connect', ({ detail }) => console.log(detail.peerId))
  await node.handle('/my-chain/echo/1', ({ readable, writable }: ProtocolStream) =>
    readable.pipeTo(writable),
  )
  for await (const { id, data } of node.blocks.subscribe({ signal }))
    console.log(id, data.byteLength)
  return node
}

export const isFatal = (error: unknown): boolean => error instanceof SelkieError && error.fatal
