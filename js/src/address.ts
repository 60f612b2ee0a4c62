/**
 * An address in full, as a worker, an import and `new URL` take it. What Turbopack makes of `new URL('./file', import.meta.url)` is a
 * URL by its class, but holds a path below the page's origin.
 */
export function inFull(address: URL): URL {
  return new URL(address.href, globalThis.location?.href)
}
