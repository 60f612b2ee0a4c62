// Real transactions, cut out of the block in testdata. (All are from before SegWit, so that a
// transaction's id is the hash of all its bytes.)

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { repository } from './paths.mjs'

/** The block's id, as testdata/README.md has it. */
export const BLOCK_ID = '0000000000000000025aff8be8a55df8f89c77296db6198f272d6577325d4069'
export const BLOCK_FILE = 'block-413567.raw'

const HEADER = 80

export const block = readFileSync(repository(`testdata/${BLOCK_FILE}`))

/** The transactions after the coinbase, which travels in its block only. */
export const transactions = cut(block)

/** Bitcoin's id of some bytes. */
export function idOf(bytes) {
  const once = createHash('sha256').update(bytes).digest()
  return createHash('sha256').update(once).digest().reverse().toString('hex')
}

function cut(block) {
  let at = HEADER
  const skip = (bytes) => void (at += bytes)
  const count = () => {
    const first = block.readUInt8(at++)
    if (first < 0xfd) return first
    const size = 2 ** (first - 0xfc)
    const number = block.readUIntLE(at, Math.min(size, 6))
    skip(size)
    return number
  }
  const script = () => skip(count())
  const each = (skipOne) => {
    for (let left = count(); left > 0; left -= 1) skipOne()
  }
  const found = []
  each(() => {
    const begin = at
    skip(4)
    each(() => (skip(36), script(), skip(4)))
    each(() => (skip(8), script()))
    skip(4)
    found.push(block.subarray(begin, at))
  })
  return found.slice(1)
}
