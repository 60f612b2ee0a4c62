// The table of connected peers, in the order and as far as the person at it wants them. Rows are kept
// by peer id and changed in place, so that the focus and a selection survive the refresh of every second.

import type { Peer } from 'selkie'
import { byId, copyButton, h, idText, setText, within } from '../dom'
import { clip, roundTrip, short } from '../format'

const NONE = 'No peers yet. Connect to a node to join the network.'

interface Row {
  readonly element: HTMLTableRowElement
  readonly transport: HTMLElement
  readonly rtt: HTMLElement
  readonly score: HTMLElement
  readonly direction: HTMLElement
  readonly agent: HTMLElement
}

/** By what peers can be put in order: the least comes first, what is not known last. */
export type Order = 'connectedAt' | 'rttMs' | 'reputation' | 'transport' | 'direction' | 'agent'

/** The peers in which a text occurs, in an order; of alike ones the one that is here longest first. */
export function chosen(peers: readonly Peer[], filter: string, order: Order): Peer[] {
  const wanted = filter.trim().toLowerCase()
  const told = ({ peerId, transport, direction, agent, addresses }: Peer) =>
    [peerId, transport, direction, agent, ...addresses].join('\n').toLowerCase()
  const value = (peer: Peer) => peer[order] ?? Infinity
  return peers
    .filter((peer) => told(peer).includes(wanted))
    .sort((a, b) => {
      const [one, other] = [value(a), value(b)]
      return one < other ? -1 : one > other ? 1 : a.connectedAt - b.connectedAt
    })
}

/** The table of peers. */
export class PeerTable {
  readonly #body: HTMLTableSectionElement
  readonly #empty: HTMLElement
  readonly #filter = byId('peers-filter', HTMLInputElement)
  readonly #order = byId('peers-order', HTMLSelectElement)
  readonly #rows = new Map<string, Row>()
  #peers: readonly Peer[] = []

  constructor(section: HTMLElement) {
    this.#body = within(section, 'tbody', HTMLTableSectionElement)
    this.#empty = within(section, '.empty', HTMLElement)
    for (const control of [this.#filter, this.#order]) {
      control.addEventListener('input', () => this.#draw())
    }
  }

  /** Shows these peers and no others. The node bounds how many there are. */
  show(peers: readonly Peer[]): void {
    this.#peers = peers
    this.#draw()
  }

  #draw(): void {
    const peers = chosen(this.#peers, this.#filter.value, this.#order.value as Order)
    const here = new Set(peers.map((peer) => peer.peerId))
    for (const [peerId, row] of this.#rows) {
      if (here.has(peerId)) continue
      row.element.remove()
      this.#rows.delete(peerId)
    }
    for (const [at, peer] of peers.entries()) {
      let row = this.#rows.get(peer.peerId)
      if (row === undefined) {
        row = newRow(peer.peerId)
        this.#rows.set(peer.peerId, row)
      }
      const there = this.#body.children[at]
      // What stands where it belongs is not touched.
      if (there !== row.element) this.#body.insertBefore(row.element, there ?? null)
      setText(row.transport, clip(peer.transport, 24))
      setText(row.rtt, roundTrip(peer.rttMs))
      setText(row.score, peer.reputation.toFixed(1))
      setText(row.direction, peer.direction === 'inbound' ? '← inbound' : '→ outbound')
      setText(row.agent, clip(peer.agent, 64) || '–')
      row.element.title = peer.addresses.slice(0, 8).join('\n')
    }
    this.#empty.hidden = peers.length > 0
    const none = this.#peers.length > 0 ? 'No peer has that in it.' : NONE
    setText(this.#empty, none)
  }
}

function newRow(peerId: string): Row {
  const cell = (kind: string) => h('td', { role: 'cell', class: kind })
  const id = cell('id')
  id.append(
    h(
      'span',
      { class: 'pair' },
      idText(peerId),
      copyButton(peerId, `the peer id ${short(peerId)}`),
    ),
  )
  const transport = h('span', { class: 'tag' })
  const carrier = cell('transport')
  carrier.append(transport)
  const rtt = cell('number rtt')
  const score = cell('number score')
  const direction = cell('direction')
  const agent = cell('agent')
  const element = h('tr', { role: 'row' }, id, carrier, rtt, score, direction, agent)
  return { element, transport, rtt, score, direction, agent }
}
