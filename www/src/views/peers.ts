// The table of connected peers. Rows are kept by peer id and changed in place, so that the focus
// and a selection survive the refresh of every second.

import type { Peer } from 'selkie'
import { copyButton, h, idText, setText, within } from '../dom'
import { clip, roundTrip, short } from '../format'

interface Row {
  readonly element: HTMLTableRowElement
  readonly transport: HTMLElement
  readonly rtt: HTMLElement
  readonly direction: HTMLElement
  readonly agent: HTMLElement
}

/** The table of peers, oldest connection first. */
export class PeerTable {
  readonly #body: HTMLTableSectionElement
  readonly #empty: HTMLElement
  readonly #rows = new Map<string, Row>()

  constructor(section: HTMLElement) {
    this.#body = within(section, 'tbody', HTMLTableSectionElement)
    this.#empty = within(section, '.empty', HTMLElement)
  }

  /** Shows these peers and no others. The node bounds how many there are. */
  show(peers: readonly Peer[]): void {
    const here = new Set(peers.map((peer) => peer.peerId))
    for (const [peerId, row] of this.#rows) {
      if (here.has(peerId)) continue
      row.element.remove()
      this.#rows.delete(peerId)
    }
    for (const peer of peers) {
      let row = this.#rows.get(peer.peerId)
      if (row === undefined) {
        row = newRow(peer.peerId)
        this.#rows.set(peer.peerId, row)
        this.#body.append(row.element)
      }
      setText(row.transport, clip(peer.transport, 24))
      setText(row.rtt, roundTrip(peer.rttMs))
      setText(row.direction, peer.direction === 'inbound' ? '← inbound' : '→ outbound')
      setText(row.agent, clip(peer.agent, 64) || '–')
      row.element.title = peer.addresses.slice(0, 8).join('\n')
    }
    this.#empty.hidden = peers.length > 0
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
  const direction = cell('direction')
  const agent = cell('agent')
  const element = h('tr', { role: 'row' }, id, carrier, rtt, direction, agent)
  return { element, transport, rtt, direction, agent }
}
