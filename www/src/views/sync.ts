// How far the chain is, where the node's chain has one: a bar while it fetches, and in words what it waits for.

import type { SyncProgress } from 'selkie'
import { byId, onFrame, setText } from '../dom'
import { age, clip, count } from '../format'

/** The most that is shown of why it waits. */
const LONGEST = 400

export class SyncBar {
  #latest: SyncProgress | undefined

  show(progress: SyncProgress | undefined): void {
    this.#latest = progress
    onFrame(this.#draw)
  }

  readonly #draw = (): void => {
    const latest = this.#latest
    byId('sync', HTMLElement).hidden = latest === undefined
    if (latest === undefined) return
    const bar = byId('sync-bar', HTMLProgressElement)
    bar.hidden = latest.done >= latest.total
    bar.max = Math.max(1, Number(latest.total))
    bar.value = Number(latest.done)
    setText(byId('sync-text', HTMLElement), words(latest))
  }
}

/** "block 1,200 of 5,000, 300 a second, 12 s left". */
export function words({ done, total, rate, etaSeconds, trouble }: SyncProgress): string {
  const here = `block ${count(Number(done))}`
  if (trouble !== undefined) return clip(`waits at ${here}: ${trouble}`, LONGEST)
  if (done >= total) return here
  const parts = [`${here} of ${count(Number(total))}`]
  if (rate >= 1) parts.push(`${count(Math.round(rate))} a second`)
  if (etaSeconds !== undefined && etaSeconds >= 1) parts.push(`${age(etaSeconds * 1000)} left`)
  return parts.join(', ')
}
