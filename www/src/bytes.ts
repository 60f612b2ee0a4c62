// Bytes that a person types, and bytes made up for a person who has none at hand.

/** The largest transaction that the box takes, in bytes; what the network takes is less or equal. */
export const MAX_TRANSACTION = 1_000_000

/** Hex to bytes. White space and a leading 0x are allowed; otherwise the error says what is wrong. */
export function parseHex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, '').replace(/^0x/i, '')
  if (digits === '') throw new Error('Paste the transaction as hex, or press the button beside.')
  if (digits.length > 2 * MAX_TRANSACTION) {
    throw new Error(`That is more than ${MAX_TRANSACTION / 1_000_000} MB, the most that fits here.`)
  }
  const wrong = /[^0-9a-f]/i.exec(digits)
  if (wrong) {
    throw new Error(`"${wrong[0]}" is not a hex digit. Use 0 to 9 and a to f only.`)
  }
  if (digits.length % 2 === 1) {
    throw new Error('Half a byte is missing: the number of hex digits must be even.')
  }
  const bytes = new Uint8Array(digits.length / 2)
  for (let at = 0; at < bytes.length; at += 1) {
    bytes[at] = Number.parseInt(digits.slice(2 * at, 2 * at + 2), 16)
  }
  return bytes
}

/** Bytes to hex. */
export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** `length` random bytes. */
export function randomBytes(length: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(length))
}

/**
 * A Bitcoin transaction that is well formed and worth nothing: version 1, one input that spends
 * random nonsense, one output of zero that carries 32 random bytes behind OP_RETURN. It passes the
 * checks that need no ledger, and no miner would ever take it.
 */
export function randomBitcoinTransaction(): Uint8Array {
  const input = `01${toHex(randomBytes(32))}0000000000ffffffff`
  const output = `01${'00'.repeat(8)}226a20${toHex(randomBytes(32))}`
  return parseHex(`01000000${input}${output}00000000`)
}
