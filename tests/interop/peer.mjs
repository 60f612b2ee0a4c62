// A js-libp2p node with nothing of ours: TCP, WebSocket, Noise, Yamux, identify, ping and gossipsub as
// docs/wire.md asks of a plain peer, which is anonymous messages that are known by their content.

import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { createHash } from 'node:crypto'
import { PATIENCE } from '../support/lines.mjs'

export const AGENT = 'a-plain-peer/1'

/** `sha256(topic || data)[..20]` */
function messageId({ topic, data }) {
  return createHash('sha256').update(topic).update(data).digest().subarray(0, 20)
}

export async function startPlain({ listen = [] } = {}) {
  const node = await createLibp2p({
    addresses: { listen },
    transports: [tcp(), webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: async () => false },
    nodeInfo: { userAgent: AGENT },
    services: {
      identify: identify(),
      ping: ping(),
      gossip: gossipsub({
        globalSignaturePolicy: 'StrictNoSign',
        msgIdFn: messageId,
        allowPublishToZeroTopicPeers: false,
      }),
    },
  })
  return new Plain(node)
}

/** A js-libp2p node, and the events that a test waits for. */
export class Plain {
  #history = []
  #waiting = new Set()

  constructor(node) {
    this.node = node
    this.gossip = node.services.gossip
    const keep = (target, type) =>
      target.addEventListener(type, ({ detail }) => {
        this.#history.push({ type, detail })
        for (const look of this.#waiting) look()
      })
    keep(node, 'peer:identify')
    keep(node, 'peer:disconnect')
    keep(this.gossip, 'subscription-change')
    keep(this.gossip, 'gossipsub:graft')
    keep(this.gossip, 'message')
  }

  get address() {
    return String(this.node.getMultiaddrs()[0])
  }

  get peerId() {
    return String(this.node.peerId)
  }

  /** The detail of the first event of a type, past or to come, for which a check holds. */
  happened(type, fits = () => true) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${PATIENCE} ms without ${type}`)), PATIENCE)
      const look = () => {
        const found = this.#history.find((event) => event.type === type && fits(event.detail))
        if (found === undefined) return
        this.#waiting.delete(look)
        clearTimeout(late)
        resolve(found.detail)
      }
      this.#waiting.add(look)
      look()
    })
  }

  /** Resolves once a peer takes part in a topic and has taken us into its mesh. */
  async meshed(peerId, topic) {
    await this.happened('subscription-change', ({ peerId: from, subscriptions }) =>
      subscriptions.some((s) => String(from) === peerId && s.subscribe && s.topic === topic),
    )
    await this.happened(
      'gossipsub:graft',
      (graft) => String(graft.peerId) === peerId && graft.topic === topic,
    )
  }

  /** Resolves once these bytes have come by a topic. */
  received(topic, bytes) {
    return this.happened('message', (message) => {
      return message.topic === topic && Buffer.from(bytes).equals(message.data)
    })
  }

  /** The streams of a protocol that a peer has opened to us. */
  streamsFrom(peerId, protocol) {
    return this.node
      .getConnections()
      .filter((connection) => String(connection.remotePeer) === peerId)
      .flatMap(({ streams }) => streams)
      .filter((stream) => stream.protocol === protocol && stream.direction === 'inbound')
  }

  stop() {
    return this.node.stop()
  }
}
