// What the page keeps from one visit to the next. A sandboxed frame, and a browser that blocks storage, throw at the mere mention of
// `localStorage`: there nothing is kept, and the page goes on as at its first visit.

/** What was kept under a name. */
export function kept(name: string): string | null {
  try {
    return localStorage.getItem(name)
  } catch {
    return null
  }
}

/** Keeps a text under a name, where that can be. */
export function keep(name: string, text: string): void {
  try {
    localStorage.setItem(name, text)
  } catch {
    // Blocked, or full: it holds until the page is left.
  }
}
