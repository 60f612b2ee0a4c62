/**
 * An address in full, as a worker, an import and `new URL` take it. What Turbopack makes of `new URL('./file', import.meta.url)` is a
 * URL by its class, but holds a path below the page's origin.
 */
export function inFull(address: URL): URL {
  const { location } = globalThis as { location?: Location }
  // Beside a worker's program that stands in memory there is nothing, but it has an origin.
  const inMemory = location?.protocol === 'blob:' && location.origin !== 'null'
  return new URL(address.href, inMemory ? location.origin : location?.href)
}

/** Whether a worker may start by it here. By the URL standard the origin of an app's or an extension's own scheme is 'null'. */
export function isOwn({ origin, protocol, host }: URL): boolean {
  if (origin !== 'null') return origin === globalThis.origin
  return protocol === 'blob:' || (protocol === location.protocol && host === location.host)
}
