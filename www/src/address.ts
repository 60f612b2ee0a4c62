// What can be said about an address before a dial is tried, and about a dial that failed, in
// words for the person at the page. The node's own messages are kept where they say more.

/** Whether the page came over https, and where the node runs; both narrow what can be dialled. */
export interface Surroundings {
  readonly secure: boolean
  readonly run: 'page' | 'worker'
}

/** Why this address can't be dialled from here, or nothing where it is worth a try. */
export function addressProblem(address: string, around: Surroundings): string | undefined {
  if (address === '') return 'Paste the address of a node first.'
  if (!address.startsWith('/')) {
    return 'An address begins with a slash, for example /ip4/127.0.0.1/tcp/9001/ws/p2p/12D3Koo…'
  }
  const parts = address.split('/').slice(1)
  const has = (protocol: string): boolean => parts.includes(protocol)
  if (has('p2p-circuit')) return undefined
  if (has('webrtc-direct')) {
    if (around.run === 'worker') {
      return 'WebRTC works from the page only: choose Page under "Run the node in", then connect.'
    }
    return certificateProblem(parts)
  }
  if (has('webtransport')) return certificateProblem(parts)
  if (has('wss') || (has('tls') && has('ws'))) return undefined
  if (has('ws')) {
    const loopback = has('127.0.0.1') || has('::1') || has('localhost')
    if (around.secure && !loopback) {
      return 'This page came over https, so the browser refuses /ws. Use an address with /wss, /webtransport or /webrtc-direct.'
    }
    return undefined
  }
  if (has('tcp') || has('quic-v1') || has('quic')) {
    return 'A browser can’t open plain TCP or QUIC. Use an address of the same node with /ws, /webtransport or /webrtc-direct in it.'
  }
  return 'There is no transport in this address that a browser has. It needs /ws, /webtransport or /webrtc-direct.'
}

function certificateProblem(parts: readonly string[]): string | undefined {
  if (parts.includes('certhash')) return undefined
  return 'The part /certhash/… is missing. Copy the whole address as the node prints it.'
}

/** Groups addresses by the peer that they end with; one that names no peer stands for itself. */
export function byPeer(addresses: readonly string[]): string[][] {
  const groups = new Map<string, string[]>()
  for (const address of addresses) {
    const peer = /\/p2p\/([^/]+)$/.exec(address)?.[1] ?? address
    groups.set(peer, [...(groups.get(peer) ?? []), address])
  }
  return [...groups.values()]
}

/** The sentence for an error, whatever was thrown. */
export function sentence(error: unknown): string {
  const text = error instanceof Error ? error.message.trim() : ''
  if (text === '') return 'It failed without a reason. Look at the log below.'
  const begun = text.replace(/^[a-z](?=[a-z' ])/, (letter) => letter.toUpperCase())
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`
}
