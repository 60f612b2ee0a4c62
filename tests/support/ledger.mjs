// The development keys of the built-in ledger, as src/chain/ledger/development.rs makes them.

import { createHash, createPrivateKey, createPublicKey } from 'node:crypto'

/** What stands before the 32 bytes of an Ed25519 secret in PKCS #8. */
const PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')

/** The address of a development network's account with this number, in hex. */
export function developmentAccount(network, number) {
  const words = ['selkie development key 1', network, `account ${number}`].join('\0')
  const secret = createHash('sha256').update(words).digest()
  const key = createPrivateKey({
    key: Buffer.concat([PREFIX, secret]),
    format: 'der',
    type: 'pkcs8',
  })
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' })
  return spki.subarray(-32).toString('hex')
}
