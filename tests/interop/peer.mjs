// A js-libp2p node with nothing of ours: TCP, WebSocket, Noise, Yamux, identify, ping and gossipsub as
// docs/wire.md asks of a plain peer, which is anonymous messages that are known by their content.

import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { createHash } from 'node:crypto'
import { PATIENCE } from '../support/lines.mjs'

export const AGENT = 'a-plain-peer/1'

/** `sha256(topic || data)[..20]` */
function messageId({ topic, data }) {
  return createHash('sha256').update(topic).update(data).digest().subarray(0, 20)
}

export async function startPlain({ listen = [] } = {}) {
  const pings = new EventTarget()
  const node = await createLibp2p({
    addresses: { listen },
    transports: [tcp(), webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: async () => false },
    nodeInfo: { userAgent: AGENT },
    services: {
      identify: identify(),
      ping: pingThatTells(pings),
      gossip: gossipsub({
        globalSignaturePolicy: 'StrictNoSign',
        msgIdFn: messageId,
        allowPublishToZeroTopicPeers: false,
      }),
    },
  })
  return new Plain(node, pings)
}

/** The ping service, which tells of pings that come in: by itself it answers them in silence. */
function pingThatTells(target) {
  return (components) => {
    const service = ping()(components)
    const answer = service.handlePing
    service.handlePing = (stream, connection) => {
      const detail = String(connection.remotePeer)
      target.dispatchEvent(new CustomEvent('pinged', { detail }))
      return answer(stream, connection)
    }
    return service
  }
}

/** A js-libp2p node, and the events that a test waits for. */
export class Plain {
  #history = []
  #waiting = new Set()

  constructor(node, pings) {
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
    keep(pings, 'pinged')
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

  dial(address) {
    return this.node.dial(multiaddr(address))
  }

  /** Pings a peer; resolves to the round trip in milliseconds. */
  ping(peerId) {
    return this.node.services.ping.ping(peerIdFromString(peerId))
  }

  /** Resolves once a peer has pinged us. */
  pinged(peerId) {
    return this.happened('pinged', (from) => from === peerId)
  }

  stop() {
    return this.node.stop()
  }
}
