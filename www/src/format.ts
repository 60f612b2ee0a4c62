// Numbers as a person reads them. Units are decimal, as a network counts: 1 kB is 1,000 bytes.

const whole = new Intl.NumberFormat('en')

/** 1234567 as "1,234,567". */
export function count(value: number): string {
  return whole.format(value)
}

/** "1 peer", "3 peers". */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`
}

/** 1729000 as "1.73 MB": three figures, and the unit that leaves one to three before the point. */
export function bytes(value: number): string {
  if (!Number.isFinite(value) || value < 0) return '0 B'
  let amount = value
  let unit = 'B'
  for (const next of ['kB', 'MB', 'GB', 'TB']) {
    // 999.5 would be shown as 1000 of the smaller unit.
    if (amount < 999.5) break
    amount /= 1000
    unit = next
  }
  if (unit === 'B') return `${Math.round(amount)} B`
  return `${amount.toFixed(amount < 9.995 ? 2 : amount < 99.95 ? 1 : 0)} ${unit}`
}

/** A rate in bytes a second. */
export function rate(value: number): string {
  return `${bytes(value)}/s`
}

/** A round trip in milliseconds; nothing measured yet is a dash. */
export function roundTrip(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return '–'
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
}

/** How long ago, at the grain that matters: "now", "42 s", "3 min", "2 h". */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 1) return 'now'
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  return `${Math.floor(seconds / 3600)} h`
}

/**
 * An id with its middle left out. The tail is the longer part: a peer id begins with its kind, and
 * the id of a mined block with zeros.
 */
export function short(id: string, head = 6, tail = 8): string {
  return id.length <= head + tail + 1 ? id : `${id.slice(0, head)}…${id.slice(-tail)}`
}

/** At most `limit` characters of what somebody else wrote. */
export function clip(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`
}
