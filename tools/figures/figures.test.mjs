import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { lacking, taken, written } from './figures.mjs'
import { tables } from './tables.mjs'

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

test('a template that no document uses and a bench without rows are told', () => {
  const document = '`./build.sh bench speed` <!-- figures:one -->9<!-- /figures -->'
  const { one, two } = templates
  assert.deepEqual(lacking([document], figures, { one }), [])
  assert.match(lacking([document], figures, { one, two }).join(), /no document uses "two"/)
  for (const none of [{}, { speed: {} }]) {
    assert.match(lacking([document], none, { one }).join(), /no figures of "speed"/)
  }
})

test('rows are taken over the older ones, the others stay', () => {
  const rows = [{ name: 'slow', value: 1, unit: '/s', ratio: 2 }]
  const source = { commit: 'abc', machine: 'a machine', command: 'a command' }
  const both = taken(figures, 'speed', rows, source)
  assert.deepEqual(both.speed, {
    ...figures.speed,
    slow: { value: 1, unit: '/s', ...source },
  })
  const again = taken(both, 'speed', [{ name: 'slow', value: 3, unit: '/s' }], source)
  assert.equal(again.speed.slow.value, 3)
  const own = taken({}, 'speed', [{ name: 'slow', command: 'its own' }], source)
  assert.equal(own.speed.slow.command, 'its own')
})

test('a figure stands with the least and the most of its rounds, where they are known', () => {
  const vote = { value: 1.234, unit: 'ms', baseline: 0.5678 }
  const spreads = { spread: [1.1, 2.3456], baseline_spread: [0.5, null] }
  const row = (of) => tables.votes(() => of).split('\n')[4]
  assert.equal(row(vote), '| alone | 1.23 ms | 0.568 ms |')
  assert.equal(
    row({ ...vote, ...spreads }),
    '| alone | 1.23 ms (1.1 to 2.35) | 0.568 ms (0.5 to ∞) |',
  )
  const budget = {
    value: 1e7,
    baseline: 1e7,
    target: '0.95 to 1.05',
    met: true,
    spread: [99e5, 1e7],
  }
  assert.match(
    tables.budgets(() => budget),
    /\| 1.000 \(0.990 to 1.000\) \|/,
  )
  const rate = { value: 173203, spread: [168123, 176456] }
  assert.equal(
    tables['rate-tcp'](() => rate),
    '173,203/s (168,000 to 176,000)',
  )
  const rows = [{ name: 'rate', ...rate, ratio: null }]
  assert.deepEqual(taken({}, 'speed', rows, {}).speed.rate, rate)
})

test('a size that is compared with a limit keeps its digits', () => {
  const row = tables.wasm(() => ({ value: 1.0012, target: 0.85, met: false, baseline: null }))
  assert.match(row, /\| raw \| 1\.001 \| 0\.85 \|/)
})

test('each attack in the README has what was measured, or a test that is there', () => {
  const at = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
  const [, table] = readFileSync(at('README.md'), 'utf8').split(
    '\n| attack | what stands against it |',
  )
  const rows = table.split('\n\n')[0].split('\n').slice(2)
  for (const row of rows) {
    const [name, , measured = ''] = row.split(' | ')
    const tests = [...measured.matchAll(/`([\w/]+\.rs)`/g)].map(([, path]) => path)
    assert.ok(measured.includes('<!-- figures:attack-') || tests.length > 0, name)
    for (const path of tests) {
      assert.ok(
        [path, `src/${path}`].some((path) => existsSync(at(path))),
        path,
      )
    }
  }
})

test('runs in virtual time stand beside those of gossipsub, with what they must keep', () => {
  const run = (p50, found, holds) => ({
    broken: holds ? [] : ['p99'],
    figures: {
      kinds: { transaction: { delivered: 0.99875, milliseconds: [p50, 99.6, null], hops: 4 } },
      bytes_per_useful_byte: 1.234,
      speed: 0.456,
      memory_mib: 71,
    },
    verdicts: [
      { what: 'taken', wanted: '100.00%', found: '1 of 1', holds: true },
      { what: 'delivered', wanted: '99.90%', found: '99.875%: 799 of 800, 1 never', holds: true },
      { what: 'p99', wanted: 'at most 2s', found, holds },
    ],
  })
  const row = {
    nodes: 20,
    selkie: run(80.2, '99ms', true),
    gossipsub: run(70, '3s', false),
    commit: 'abc',
  }
  const sim = {
    'figures/load, 20 nodes': row,
    'blocks, 20 nodes': row,
    'attacks/dawn, 20 nodes': { ...row, selkie: row.gossipsub, gossipsub: row.selkie },
  }
  const lines = (name) => tables[name](undefined, { sim }).trim().split('\n').slice(2)
  assert.deepEqual(lines('sim-cost'), [
    '| `load` | 20 | 71 | 71 | 0.46 | 0.46 | 80 ms, 100 ms | 70 ms, 100 ms |',
  ])
  const came = '99.875%: 799 of 800, 1 never'
  assert.deepEqual(lines('sim-targets'), [
    `| \`load\` | 20 | delivered | 99.90% | ${came} | met | ${came} |`,
    '| `load` | 20 | p99 | at most 2s | 99ms | met | 3s |',
  ])
  assert.deepEqual(lines('sim-beside'), [
    '| `blocks`, Selkie | 80 ms, 100 ms | | 4 | 1.23 | 0.46 | | abc |',
    '| gossipsub | 70 ms, 100 ms | | 4 | 1.23 | 0.46 | p99 | abc |',
  ])
  assert.deepEqual(lines('sim-attacks'), [
    '| `dawn` | 99.875% | 70 ms, 100 ms | | 1.23 | 99.875% | 80 ms, 100 ms | | 1.23 | p99 | abc |',
  ])
})
