// What the node that serves this page says about itself at `api/node`: the network that it belongs
// to and the addresses at which a tab can join. A page served from elsewhere has no such answer
// and starts on the development network with no one to call.

import type { NetworkId } from 'selkie'

/** Network, and whom to call first. */
export interface Invitation {
  readonly network: NetworkId
  readonly bootstrap: readonly string[]
}

/** The invitation of a page that nobody's node serves. */
export const NOBODY: Invitation = {
  network: { id: 'selkie-dev', application: 'opaque' },
  bootstrap: [],
}

/** At most so many addresses are taken from an answer. */
const MAX_BOOTSTRAP = 16

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' && value.length <= 1024 ? value : undefined
}

/** Reads the answer of `api/node`; what doesn't fit is left out. */
export function parseInvitation(answer: unknown): Invitation {
  if (typeof answer !== 'object' || answer === null) return NOBODY
  const { network, bootstrap } = answer as { network?: unknown; bootstrap?: unknown }
  const said = (typeof network === 'object' && network !== null ? network : {}) as Record<
    string,
    unknown
  >
  const genesis = text(said['genesis'])
  return {
    network: {
      id: text(said['id']) ?? NOBODY.network.id,
      application: said['application'] === 'bitcoin' ? 'bitcoin' : 'opaque',
      ...(genesis === undefined ? {} : { genesis }),
    },
    bootstrap: (Array.isArray(bootstrap) ? bootstrap : [])
      .filter((address) => text(address) !== undefined)
      .slice(0, MAX_BOOTSTRAP) as string[],
  }
}

/** Asks whoever serves the page. Resolves to nothing where there is no node behind it. */
export async function fetchInvitation(signal: AbortSignal): Promise<Invitation | undefined> {
  try {
    const response = await fetch('api/node', {
      headers: { accept: 'application/json' },
      cache: 'no-store',
      signal: AbortSignal.any([signal, AbortSignal.timeout(5000)]),
    })
    return response.ok ? parseInvitation(await response.json()) : undefined
  } catch {
    // No server, no JSON, too slow: to the page they are one case.
    return undefined
  }
}
