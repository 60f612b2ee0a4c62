import assert from 'node:assert/strict'
import { test } from 'node:test'
import { taken, written } from './figures.mjs'

const figures = { speed: { fast: { value: 1234.5, unit: '/s' } } }
const templates = {
  one: (figure) => `${figure('speed', 'fast').value}`,
  two: () => '\n\n| a |\n\n',
}

test('what stands between markers is written anew, in a line or as a block', () => {
  const old = 'a <!-- figures:one -->9<!-- /figures --> b\n<!-- figures:two -->x<!-- /figures -->\n'
  const anew = written(old, figures, templates)
  assert.equal(
    anew,
    'a <!-- figures:one -->1234.5<!-- /figures --> b\n<!-- figures:two -->\n\n| a |\n\n<!-- /figures -->\n',
  )
  assert.equal(written(anew, figures, templates), anew)
})

test('a name that nobody knows, a figure that is absent and half a marker are errors', () => {
  const one = '<!-- figures:one --><!-- /figures -->'
  assert.throws(() => written(one, {}, templates), /no "fast" of speed/)
  assert.throws(() => written(one.replace('one', 'three'), figures, templates), /no "three"/)
  assert.throws(() => written('<!-- figures:one -->9', figures, templates), /no other half/)
})

test('rows are taken over the older ones, the others stay', () => {
  const rows = [{ name: 'slow', value: 1, unit: '/s', ratio: 2 }]
  const source = { commit: 'abc', machine: 'a machine', command: 'a command' }
  const both = taken(figures, 'speed', rows, source)
  assert.deepEqual(both.speed, { ...figures.speed, slow: { value: 1, unit: '/s', ...source } })
  const again = taken(both, 'speed', [{ name: 'slow', value: 3, unit: '/s' }], source)
  assert.equal(again.speed.slow.value, 3)
})
