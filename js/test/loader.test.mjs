import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { deferred } from '../../tests/support/deferred.mjs'
import { LoadError } from '../dist/errors.js'
import { loadModule } from '../dist/loader.js'

/** The smallest module, followed by a custom section of zeros that makes it large. */
const EMPTY = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)
const LARGE = Buffer.concat([EMPTY, Uint8Array.of(0, 0x81, 0x80, 0x10, 0), Buffer.alloc(0x40000)])

const replies = {
  '/large': [200, { 'content-length': LARGE.length }, LARGE],
  '/encoded': [200, { 'content-length': 8, 'content-encoding': 'identity' }, EMPTY],
  '/page': [200, { 'content-type': 'text/html; charset=utf-8' }, '<!doctype html>'],
  '/wasm': [200, { 'content-type': 'application/wasm', 'content-length': LARGE.length }, LARGE],
  '/garbage': [200, {}, 'not wasm'],
  '/cut': [200, {}, LARGE.subarray(0, 5000)],
}

const server = createServer(({ url }, response) => {
  if (url === '/hang') return response.write(EMPTY)
  const [status, headers, body] = replies[url] ?? [404, {}, '']
  response.writeHead(status, headers).end(body)
})
let base
before(async () => {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  base = `http://127.0.0.1:${server.address().port}`
})
after(() => {
  server.closeAllConnections()
  server.close()
})

test('fetches, compiles and tells how far it is', async () => {
  const steps = []
  const options = { onProgress: (progress) => steps.push(progress) }
  const module = await loadModule(new URL('/large', base), options)
  assert.ok(module instanceof WebAssembly.Module)
  assert.ok(steps.every(({ total }) => total === LARGE.length))
  assert.ok(steps.every(({ loaded }, i) => i === 0 || loaded > steps[i - 1].loaded))
  assert.equal(steps.at(-1).loaded, LARGE.length)
})

// With any other the browser keeps no compiled code.
for (const onProgress of [undefined, () => {}]) {
  test(`the compiler gets the response that was fetched${onProgress ? ', counted' : ''}`, async (t) => {
    const fetched = t.mock.method(globalThis, 'fetch')
    const compile = t.mock.method(WebAssembly, 'compileStreaming')
    await loadModule(`${base}/wasm`, { onProgress })
    const [{ result }] = fetched.mock.calls
    assert.equal(compile.mock.calls[0].arguments[0], await result)
  })
}

for (const [when, gives] of [
  ['given up', async (error) => Promise.reject(error)],
  [
    'thrown at once',
    (error) => {
      throw error
    },
  ],
]) {
  test(`counts nothing more once the compiler has ${when}`, async (t) => {
    const compile = t.mock.method(WebAssembly, 'compileStreaming', () =>
      gives(new WebAssembly.CompileError('no')),
    )
    let cancelled
    const ended = new Promise((resolve) => (cancelled = resolve))
    const body = new ReadableStream({ pull: (to) => to.enqueue(EMPTY), cancel: cancelled })
    const response = new Response(body, { headers: { 'content-type': 'application/wasm' } })
    await assert.rejects(loadModule(response, { onProgress: () => {} }), { code: 'load' })
    assert.equal(compile.mock.callCount(), 1)
    // The compiler lets go of its half, as it does when it is the real one.
    await response.body.cancel()
    await ended
  })
}

test('a response that was read already is an error that says what to do', async () => {
  for (const onProgress of [undefined, () => {}]) {
    const response = new Response(EMPTY, { headers: { 'content-type': 'application/wasm' } })
    await response.arrayBuffer()
    await assert.rejects(loadModule(response, { onProgress }), { code: 'load' })
  }
})

test('does not take the encoded length for the length', async () => {
  const steps = []
  await loadModule(`${base}/encoded`, { onProgress: (progress) => steps.push(progress) })
  assert.deepEqual(steps, [{ loaded: 8 }])
})

test('takes bytes, a response and a module', async () => {
  for (const source of [EMPTY, EMPTY.buffer, new Response(EMPTY), new WebAssembly.Module(EMPTY)]) {
    assert.ok((await loadModule(source, {})) instanceof WebAssembly.Module)
  }
})

for (const [path, sentence] of Object.entries({
  '/page': /is a web page, not WebAssembly; serve/,
  '/absent': /answered with status 404; serve/,
  '/garbage': /can't compile .*\/garbage/,
  '/cut': /can't compile .*\/cut/,
})) {
  test(`${path} is an error that says what to do`, async () => {
    await assert.rejects(loadModule(base + path, {}), (error) => {
      assert.ok(error instanceof LoadError)
      assert.equal(error.code, 'load')
      assert.match(error.message, sentence)
      return /selkie\/inline/.test(error.message)
    })
  })
}

test('the body of an answer that is refused is not left hanging', async () => {
  for (const options of [{ status: 404 }, { headers: { 'content-type': 'text/html' } }]) {
    let cancelled = 0
    const response = new Response(new ReadableStream({ cancel: () => void cancelled++ }), options)
    await assert.rejects(loadModule(response, {}), LoadError)
    assert.equal(cancelled, 1)
  }
})

test('a server that is not there is an error that says what to do', async () => {
  await assert.rejects(loadModule('http://127.0.0.1:1/', {}), {
    code: 'load',
    message: /can't fetch/,
  })
})

test('an abort in the middle of the body rejects with its reason', async () => {
  const abort = new AbortController()
  const arrived = deferred()
  const load = loadModule(`${base}/hang`, { signal: abort.signal, onProgress: arrived.resolve })
  await arrived.promise
  abort.abort('enough')
  await assert.rejects(load, (reason) => reason === 'enough')
})
