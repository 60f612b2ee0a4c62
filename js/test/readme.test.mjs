/** What the README's code does where a call fails: the rest of it runs in browsers. */

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { ArgumentError } from '../dist/errors.js'
import { fakePlatform } from './fake.mjs'

const README = await readFile(new URL('../README.md', import.meta.url), 'utf8')

test('the wallet lets its subscription go when its payment is refused', async () => {
  const [, code] = /## A wallet\n.*?(async function pay.*?\n}\n)/s.exec(README)
  const { pay } = await import(`data:text/javascript,${encodeURIComponent(`export ${code}`)}`)
  const { fake, createNode } = fakePlatform()
  fake.answers.submit = () => {
    throw new ArgumentError('rejected', 'it pays nobody')
  }
  const node = await createNode({ network: 'pay-chain' })
  await assert.rejects(pay(node, 'steal 5'), { code: 'rejected' })
  assert.deepEqual(fake.called('unsubscribe'), [[1]])
  await node.stop()
})
