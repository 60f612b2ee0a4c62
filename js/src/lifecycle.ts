/**
 * What a browser tells of the network and of a page's life, as events of the node.
 *
 * A page that is frozen, or kept for the way back (the back/forward cache), stands still with all its timers; peers may
 * give it up meanwhile, and connections end unseen. So does one whose network is gone. When it is over, the node looks at its
 * connections at once. What no browser tells of, a machine that slept, the node sees by its own clock.
 */

export type Moment = 'network:offline' | 'network:online' | 'node:freeze' | 'node:resume'

/** The global scope of a page, or of a worker, which has no document and hears less. */
export type Scope = Pick<EventTarget, 'addEventListener'> & {
  document?: Pick<EventTarget, 'addEventListener'>
}

export function watchLifecycle(scope: Scope, told: (moment: Moment) => void, signal: AbortSignal) {
  let frozen = false
  // Both kinds come one after the other where a page is kept: one of them is told.
  const freezes = (freeze: boolean) => {
    if (freeze === frozen) return
    frozen = freeze
    told(freeze ? 'node:freeze' : 'node:resume')
  }
  const kept = (event: Event) => (event as PageTransitionEvent).persisted
  scope.addEventListener('offline', () => told('network:offline'), { signal })
  scope.addEventListener('online', () => told('network:online'), { signal })
  scope.addEventListener('pagehide', (event) => kept(event) && freezes(true), { signal })
  scope.addEventListener('pageshow', (event) => kept(event) && freezes(false), { signal })
  scope.document?.addEventListener('freeze', () => freezes(true), { signal })
  scope.document?.addEventListener('resume', () => freezes(false), { signal })
}
