import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inFull } from '../dist/address.js'

const NAME = 'file:///home/ann/chain.js'

test('an address in full is left as it is', () => {
  assert.equal(inFull(new URL(NAME)).href, NAME)
})

test('a path is one of the page’s origin', (t) => {
  globalThis.location = { href: 'https://ann.example/wallet/' }
  t.after(() => delete globalThis.location)
  // As Turbopack makes them.
  const path = Object.create(URL.prototype, { href: { value: '/media/chain.js' } })
  assert.ok(path instanceof URL)
  assert.equal(inFull(path).href, 'https://ann.example/media/chain.js')
  assert.equal(inFull(new URL(NAME)).href, NAME)
})
