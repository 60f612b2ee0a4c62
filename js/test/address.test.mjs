import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inFull, isOwn } from '../dist/address.js'

const NAME = 'file:///home/ann/chain.js'

test('an address in full is left as it is', () => {
  assert.equal(inFull(new URL(NAME)).href, NAME)
})

/** Has a page, or a worker, at this address until the test ends. */
function at(t, address, origin = new URL(address).origin) {
  globalThis.location = new URL(address)
  globalThis.origin = origin
  t.after(() => {
    delete globalThis.location
    delete globalThis.origin
  })
}

// As Turbopack makes them.
const path = Object.create(URL.prototype, { href: { value: '/media/chain.js' } })

for (const [where, address] of [
  ['page', 'https://ann.example/wallet/'],
  ["page's worker in memory", 'blob:https://ann.example/7a0e'],
]) {
  test(`a path is one of the ${where}’s origin`, (t) => {
    at(t, address)
    assert.ok(path instanceof URL)
    assert.equal(inFull(path).href, 'https://ann.example/media/chain.js')
    assert.equal(inFull(new URL(NAME)).href, NAME)
  })
}

test('an address in full is left as it is where there is no origin', (t) => {
  at(t, 'blob:null/7a0e')
  assert.equal(inFull(new URL(NAME)).href, NAME)
})

for (const [page, own, others] of [
  [
    'https://ann.example/wallet/',
    ['https://ann.example/selkie/worker.js', 'blob:https://ann.example/7a0e'],
    ['https://cdn.example/worker.js', 'http://ann.example/worker.js'],
  ],
  [
    'capacitor://localhost/index.html',
    ['capacitor://localhost/worker.js', 'blob:capacitor://localhost/7a0e'],
    ['capacitor://other/worker.js', 'https://localhost/worker.js'],
  ],
]) {
  // A browser may tell a page its own scheme's origin all the same.
  for (const origin of [new URL(page).origin, page.split('/', 3).join('/')]) {
    test(`a page of ${page} starts workers by its own programs (${origin})`, (t) => {
      at(t, page, origin)
      for (const address of own) assert.equal(isOwn(new URL(address)), true, address)
      for (const address of others) assert.equal(isOwn(new URL(address)), false, address)
    })
  }
}
