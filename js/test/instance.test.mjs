/** Which WebAssembly runs, and with which glue. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LoadError } from '../dist/errors.js'
import { instantiate } from '../dist/instance.js'
import { pageEngine } from '../dist/page.js'
import { version } from '../dist/version.js'
import { fakeBuilds, fakePlatform, turn } from './fake.mjs'

const EMPTY = new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0))
const NODE = `export class WasmNode {
  static start() {}
  static version() { return '${version}' }
  static onPanic(told) { WasmNode.panic = told }
}`
const nobody = () => {}
const source = (text) => `data:text/javascript,${encodeURIComponent(text)}`

/** What a platform is asked for, and the node is told: which glue, and which WebAssembly. */
async function asked(options) {
  const builds = []
  const { createNode, fake } = fakePlatform()
  const parts = fakePlatform({
    engine: async (_, build) => {
      builds.push(build)
      throw new LoadError('load', 'enough seen')
    },
  })
  await assert.rejects(parts.createNode({ network: 'selkie-dev', ...options }), { code: 'load' })
  const node = await createNode({ network: 'selkie-dev', ...options })
  await node.stop()
  const [{ glue, module }] = builds
  return { glue, module: module(), chain: fake.config.chain, application: fake.application }
}

test('a chain of the WebAssembly is asked for by its name, and the glue of another build by its address', async () => {
  const glue = new URL('file:///app/chain.js')
  const { chain, application, ...build } = await asked({ wasm: { glue }, application: 'payments' })
  assert.deepEqual([chain.application, application], ['payments', undefined])
  assert.deepEqual([build.glue, build.module.href], [glue.href, 'file:///app/chain_bg.wasm'])
  for (const [glue, module] of [
    ['https://a.example/chain.mjs?v=3#x', 'https://a.example/chain_bg.wasm?v=3#x'],
    ['https://a.example/chain?of=b.js', 'https://a.example/chain_bg.wasm?of=b.js'],
  ]) {
    assert.equal((await asked({ wasm: { glue: new URL(glue) } })).module.href, module)
  }
  assert.equal((await asked({ wasm: { glue, module: EMPTY } })).module, EMPTY)
  const { createNode } = fakePlatform()
  for (const options of [
    { wasm: { glue: './chain.js' } },
    { network: { id: 'selkie-dev', application: 'opaque' }, application: 'payments' },
    { config: { chain: { application: 'opaque' } }, application: 'payments' },
  ]) {
    await assert.rejects(createNode({ network: 'selkie-dev', ...options }), { code: 'config' })
  }
})

test('the WebAssembly with the ledgers is asked for by who names one, and by nobody else', async () => {
  const chosen = async (options) => {
    const { glue, module } = await asked(options)
    return [Object.keys(fakeBuilds).find((name) => fakeBuilds[name]().glue === glue), module]
  }
  const network = (application) => ({ network: { id: 'selkie-dev', application } })
  for (const options of [
    { application: 'ledger' },
    network('ledger'),
    network('ledger-light'),
    { config: { chain: { application: 'ledger-light' } } },
  ]) {
    assert.deepEqual(await chosen(options), ['ledger', 'ledger_bg.wasm'])
  }
  const accept = () => ({ verdict: 'accept' })
  const own = { checkTransaction: accept, checkBlock: accept, checkVote: accept }
  for (const options of [{}, network('bitcoin'), { application: own }, { wasm: null }]) {
    assert.deepEqual(await chosen(options), ['selkie', 'selkie_bg.wasm'])
  }
  // The chain says which glue a WebAssembly has that is found elsewhere.
  const wasm = 'https://a.example/b.wasm'
  assert.deepEqual(await chosen({ wasm }), ['selkie', wasm])
  assert.deepEqual(await chosen({ wasm, ...network('ledger') }), ['ledger', wasm])
  const glue = new URL('https://a.example/ledger.js')
  assert.deepEqual((await asked({ wasm: { glue }, ...network('ledger') })).glue, glue.href)
})

test('a glue is loaded with its WebAssembly, and what is none is told', async () => {
  const glue = source(
    `export default ({ module_or_path }) => { WasmNode.module = module_or_path }; ${NODE}`,
  )
  const WasmNode = await instantiate(EMPTY, glue, nobody)
  assert.equal(WasmNode.module, EMPTY)
  for (const [text, told] of [
    ['export default () => {}', /it has no node/],
    ['throw new Error("no paper")', /no paper/],
    [`export default () => { throw new Error("unfit") }; ${NODE}`, /unfit/],
    [`export default () => {}; ${NODE.replace(version, '0.0.7')}`, /0\.0\.7.*package is \d/],
    [
      'export default () => {}; export class WasmNode { static start() {} }',
      /older.*package is \d/,
    ],
  ]) {
    const loading = instantiate(EMPTY, source(text), nobody)
    await assert.rejects(loading, (error) => error instanceof LoadError && told.test(error.message))
  }
})

test('a build whose start has failed says why each time, and what was not the build’s fault may pass', async () => {
  // As wasm-bindgen's glue does it: there is an instance before it starts, and one only.
  const glue = source(`
    let instance
    export default (options) => {
      if (instance) return
      const { module_or_path } = options
      if (!(module_or_path instanceof WebAssembly.Module)) throw new TypeError('no module')
      instance = module_or_path
      throw new WebAssembly.RuntimeError('no application')
    }
    ${NODE}`)
  await assert.rejects(instantiate('nothing', glue, nobody), /no module/)
  for (let time = 0; time < 3; time += 1) {
    await assert.rejects(instantiate(EMPTY, glue, nobody), /no application/)
  }
})

test('a build tells of its end when nothing of it runs any more, by a panic with its words first', async () => {
  const heard = []
  const of = async (more) => {
    const glue = source(`export default () => {}; ${NODE}; ${more}`)
    return [await instantiate(EMPTY, glue, (words) => heard.push(words)), await import(glue)]
  }
  // A user's own has no watch.
  const [plain] = await of('')
  plain.panic('panicked at a line')
  assert.deepEqual(heard, [])
  await turn()
  assert.deepEqual(heard.splice(0), ['panicked at a line'])
  const [both, { leave }] = await of(
    `let told; export const onException = (to) => { told = to }; export const leave = (error) => told(error)`,
  )
  both.panic('panicked at a line')
  leave(new WebAssembly.RuntimeError('unreachable'))
  await turn()
  assert.deepEqual(heard.splice(0), ['panicked at a line', 'RuntimeError: unreachable'])
})

test('a build that broke on a page is broken, and others are not', async () => {
  const glue = (name) => source(`export default () => {}; ${NODE}; export const name = '${name}'`)
  const load = async () => EMPTY
  const one = await pageEngine(load, glue('one'))
  const [same, other] = [await pageEngine(load, glue('one')), await pageEngine(load, glue('other'))]
  const heard = []
  for (const [name, engine] of Object.entries({ one, same, other })) {
    engine.crash.listen(() => heard.push(name))
  }
  one.crash.ring('it trapped')
  await assert.rejects(pageEngine(load, glue('one')), { code: 'crashed' })
  assert.ok(await pageEngine(load, glue('other')))
  assert.deepEqual(heard, ['one'])
})
