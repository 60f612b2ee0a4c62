// The tab's own check of a block, apart from the one that the node has made already: what the page
// shows under an id is hashed to that id here, by the browser's own SHA-256. A Bitcoin id is the
// double SHA-256 of the 80 byte header, written backwards; its last header field but one, `bits`,
// is the target that the hash must not exceed. An opaque item's id is the SHA-256 of all of it.

import { toHex } from './bytes'

/** What the check found; `unknown` where there is no way to check. */
export type Check = 'verified' | 'mismatch' | 'unknown'

const HEADER = 80
const BITS_AT = 72

async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  // A copy, since the bytes may lie in memory that is shared with a worker.
  return new Uint8Array(await crypto.subtle.digest('SHA-256', new Uint8Array(bytes)))
}

/** The target that the four bytes of `bits` stand for: three of mantissa, one of exponent. */
function target(bits: number): bigint {
  const mantissa = BigInt(bits & 0x7fffff)
  const exponent = BigInt(bits >>> 24)
  return exponent > 3n ? mantissa << (8n * (exponent - 3n)) : mantissa >> (8n * (3n - exponent))
}

/** Checks a block of the given application (`bitcoin`, `opaque`) against the id it came under. */
export async function verifyBlock(
  application: string,
  id: string,
  data: Uint8Array,
): Promise<Check> {
  // Browsers offer SHA-256 to secure pages only; loopback counts as secure.
  if (globalThis.crypto?.subtle === undefined) return 'unknown'
  if (application === 'opaque') {
    return toHex(await sha256(data)) === id ? 'verified' : 'mismatch'
  }
  if (application !== 'bitcoin') return 'unknown'
  if (data.length < HEADER) return 'mismatch'
  const header = data.slice(0, HEADER)
  const hash = toHex((await sha256(await sha256(header))).reverse())
  const bits = new DataView(header.buffer, header.byteOffset).getUint32(BITS_AT, true)
  return hash === id && BigInt(`0x${hash}`) <= target(bits) ? 'verified' : 'mismatch'
}
