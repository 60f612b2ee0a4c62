// The table of connected peers, in the order and as far as the person at it wants them. Rows are kept
// by peer id and changed in place, and others move around the one that has the focus or the selection, so that it survives the refresh of every
// second in whatever order.

import type { Peer } from 'selkie'
import { byId, copyButton, disclosure, h, idText, setText, within } from '../dom'
import { clip, roundTrip, short } from '../format'

const NONE = 'No peers yet. Connect to a node to join the network.'

interface Row {
  readonly element: HTMLTableRowElement
  readonly transport: HTMLElement
  readonly rtt: HTMLElement
  readonly score: HTMLElement
  readonly direction: HTMLElement
  readonly agent: HTMLElement
  readonly addresses: HTMLElement
}

/** By what peers can be put in order: the least comes first, what is not known last. */
export type Order = 'connectedAt' | 'rttMs' | 'reputation' | 'transport' | 'direction' | 'agent'

/** The peers in which a text occurs, in an order; of alike ones the one that is here longest first. */
export function chosen(peers: readonly Peer[], filter: string, order: Order): Peer[] {
  const wanted = filter.trim().toLowerCase()
  const told = ({ peerId, transport, direction, agent, addresses }: Peer) =>
    [peerId, transport, direction, agent, ...addresses].join('\n').toLowerCase()
  return peers
    .filter((peer) => told(peer).includes(wanted))
    .sort((a, b) => compare(a[order], b[order]) || a.connectedAt - b.connectedAt)
}

function compare(one: Peer[Order], other: Peer[Order]): number {
  const [isUnknown, isOther] = [one, other].map((value) => value === null || value === '')
  if (isUnknown || isOther) return Number(isUnknown) - Number(isOther)
  return one! < other! ? -1 : Number(one! > other!)
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
    const held = this.#held()
    let next = this.#body.firstElementChild
    for (const peer of peers) {
      let row = this.#rows.get(peer.peerId)
      if (row === undefined) {
        row = newRow(peer.peerId)
        this.#rows.set(peer.peerId, row)
      }
      // Whoever stands before the row that is held, and belongs behind it, gets there in its turn.
      while (row.element === held && next !== held) {
        const other = next!
        next = other.nextElementSibling
        this.#body.append(other)
      }
      if (row.element === next) next = next.nextElementSibling
      else this.#body.insertBefore(row.element, next)
      setText(row.transport, clip(peer.transport, 24))
      setText(row.rtt, roundTrip(peer.rttMs))
      setText(row.score, peer.reputation.toFixed(1))
      setText(row.direction, peer.direction === 'inbound' ? '← inbound' : '→ outbound')
      setText(row.agent, clip(peer.agent, 64) || '–')
      const addresses = peer.addresses.slice(0, 8)
      const told = addresses.map((address) => clip(address, 128)).join('\n')
      setText(row.addresses, told || 'It has told no address.')
    }
    this.#empty.hidden = peers.length > 0
    const none = this.#peers.length > 0 ? 'No peer has that in it.' : NONE
    setText(this.#empty, none)
  }

  /** The row that must not move: what moves loses the focus and the selection. */
  #held(): Element | undefined {
    const selected = document.getSelection()?.anchorNode ?? null
    const nodes = [document.activeElement, selected]
    const rows = [...this.#body.children]
    return nodes.flatMap((node) => rows.filter((row) => row.contains(node)))[0]
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
  const [transport, addresses] = disclosure('Addresses')
  const carrier = cell('transport')
  carrier.append(transport, addresses)
  const rtt = cell('number rtt')
  const score = cell('number score')
  const direction = cell('direction')
  const agent = cell('agent')
  const element = h('tr', { role: 'row' }, id, carrier, rtt, score, direction, agent)
  return { element, transport, rtt, score, direction, agent, addresses }
}
