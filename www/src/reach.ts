// One node has several addresses, and one that does not answer takes as long as a dial may. So each
// is tried a little after the one before, or as soon as all before it have failed, and whichever
// answers first ends the others: "happy eyeballs" (RFC 8305).

/** How long a way has the word alone, in milliseconds: all sixteen begin within half of the longest try. */
export const HEAD_START = 500

/** Dials one address after the other until one answers; rejects with what the last one said. */
export async function reach(
  addresses: readonly string[],
  dial: (address: string, signal: AbortSignal) => Promise<unknown>,
  signal: AbortSignal,
  headStart = HEAD_START,
): Promise<void> {
  const over = new AbortController()
  const both = AbortSignal.any([signal, over.signal])
  const dials: Promise<unknown>[] = []
  try {
    for (const address of addresses) {
      dials.push(dial(address, both))
      const answered = Promise.any(dials).then(
        () => true,
        () => false,
      )
      if (await within(headStart, answered)) return
      signal.throwIfAborted()
    }
    await Promise.any(dials)
  } catch (error) {
    throw error instanceof AggregateError ? error.errors.at(-1) : error
  } finally {
    over.abort()
  }
}

/** What `answered` resolves to in this time, else nothing. */
async function within<T>(milliseconds: number, answered: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<undefined>((over) => {
    timer = setTimeout(() => over(undefined), milliseconds)
  })
  try {
    return await Promise.race([answered, late])
  } finally {
    clearTimeout(timer)
  }
}
