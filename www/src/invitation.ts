// What the node that serves this page says about itself at `api/node`: the network that it belongs
// to, the addresses at which a tab can join, and the settings in which members agree. A page served from elsewhere has no such answer
// and starts on the development network with no one to call.

import type { NetworkId, NodeConfig } from 'selkie'

/** Network, whom to call first, and how a member behaves. */
export interface Invitation {
  readonly network: NetworkId
  readonly bootstrap: readonly string[]
  readonly config: NodeConfig
}

/** The invitation of a page that nobody's node serves. */
export const NOBODY: Invitation = {
  network: { id: 'selkie-dev', application: 'opaque' },
  bootstrap: [],
  config: {},
}

/** At most so many addresses are taken from an answer. */
const MAX_BOOTSTRAP = 16

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' && value.length <= 1024 ? value : undefined
}

function fields(value: unknown): Record<string, unknown> | undefined {
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isRecord ? (value as Record<string, unknown>) : undefined
}

/** The settings that a node may tell its members: never whom to be (`identity`), nor the chain again. */
function settings(value: unknown): NodeConfig {
  const config = fields(value)
  const said = (['network', 'protocol', 'security'] as const).flatMap((name) => {
    const section = fields(config?.[name])
    return section === undefined ? [] : [[name, section] as const]
  })
  return Object.fromEntries(said)
}

/** Reads the answer of `api/node`; what doesn't fit is left out. */
export function parseInvitation(answer: unknown): Invitation {
  const { network, bootstrap, config } = fields(answer) ?? {}
  const said = fields(network) ?? {}
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
    config: settings(config),
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
