// What the rounds of a measurement say together: their median, and between what they lie.

export const middle = (samples) => samples.toSorted((a, b) => a - b)[samples.length >> 1]

const spread = (rounds) => (rounds.length > 1 ? [Math.min(...rounds), Math.max(...rounds)] : null)

/** A figure's value. */
export const measured = (rounds) => ({ value: middle(rounds), spread: spread(rounds) })

/** What it stands beside. */
export const beside = (rounds) => ({ baseline: middle(rounds), baseline_spread: spread(rounds) })
