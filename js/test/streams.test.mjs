/** Protocols of one's own, between nodes of the real WebAssembly. */

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { createNode, SelkieError } from '../dist/nodejs.js'
import { once, startFake, turn } from './fake.mjs'

const ECHO = '/echo/1'
const utf8 = (text) => new TextEncoder().encode(text)

const nodes = []
let ports = 4300
after(() => Promise.all(nodes.map((node) => node.stop())))

/** Two nodes with a connection, and where the first one listens. */
async function two() {
  const address = `/memory/${(ports += 1)}`
  const listens = await createNode({
    network: 'selkie-dev',
    config: { network: { listen_addresses: [address] } },
  })
  const dials = await createNode({ network: 'selkie-dev' })
  nodes.push(listens, dials)
  const connects = once(listens, 'peer:connect')
  await dials.dial(address)
  await connects
  return [listens, dials, address]
}

const echo = ({ readable, writable }) => readable.pipeTo(writable)
const isReset = (error) => error instanceof SelkieError && error.code === 'reset'

/** All that comes, to the end. */
async function all(readable) {
  const pieces = []
  for await (const piece of readable) pieces.push(piece)
  return Buffer.concat(pieces)
}

async function say(writable, bytes) {
  const writer = writable.getWriter()
  await writer.write(bytes)
  await writer.close()
}

/** What is said to an echo comes again. */
async function echoes(stream, bytes) {
  const [heard] = await Promise.all([all(stream.readable), say(stream.writable, bytes)])
  assert.ok(heard.equals(bytes), `${heard.length} of ${bytes.length} bytes`)
}

describe('a protocol of one’s own', () => {
  test('carries much both ways, several streams at once, and ends in order', async () => {
    const [one, other] = await two()
    const peers = []
    await one.handle(ECHO, (stream) => {
      peers.push(stream.peer)
      return echo(stream)
    })
    await other.handle(ECHO, echo)
    const long = Buffer.alloc(1 << 20, 'selkie')
    for (const [from, to] of [
      [one, other],
      [other, one],
    ]) {
      const streams = await Promise.all([1, 2, 3].map(() => from.open(to.peerId, ECHO)))
      assert.deepEqual([streams[0].peer, streams[0].protocol], [to.peerId, ECHO])
      await Promise.all(streams.map((stream) => echoes(stream, long)))
    }
    await echoes(await one.open(other.peerId, ECHO), Buffer.of())
    assert.deepEqual(peers, [other.peerId, other.peerId, other.peerId])
  })

  test('ends in order with a handler that leaves its stream open', async () => {
    const [one, other] = await two()
    await one.handle(ECHO, async ({ writable }) => {
      await writable.getWriter().write(utf8('all of it'))
    })
    const { readable } = await other.open(one.peerId, ECHO)
    assert.equal(String(await all(readable)), 'all of it')
  })

  test('is reset where its handler throws, which is told', async () => {
    const [one, other] = await two()
    await one.handle(ECHO, async () => {
      throw new RangeError('out of paper')
    })
    const told = once(one, 'protocol:error')
    const { readable, writable } = await other.open(one.peerId, ECHO)
    await assert.rejects(all(readable), isReset)
    await assert.rejects(say(writable, utf8('too late')), isReset)
    assert.deepEqual((await told).detail, {
      protocol: ECHO,
      peerId: other.peerId,
      reason: 'RangeError: out of paper',
    })
  })

  test('is reset by an abort in both directions, at both ends, and no handler has failed by that', async () => {
    const [one, other] = await two()
    const [reads, told] = [[], []]
    one.addEventListener('protocol:error', ({ detail }) => told.push(detail.reason))
    await one.handle('/reads/1', ({ readable }) => {
      const read = all(readable)
      reads.push(read.catch((error) => error))
      return read
    })
    for (const abort of [
      (stream, why) => stream.writable.abort(why),
      (stream, why) => stream.abort(why),
    ]) {
      const stream = await other.open(one.peerId, '/reads/1')
      const why = new Error('changed its mind')
      await abort(stream, why)
      await assert.rejects(all(stream.readable), why)
      while (reads.length === 0) await turn()
      assert.ok(isReset(await reads.pop()))
    }
    // An error of its own is one.
    await one.handle(ECHO, async () => {
      throw new SelkieError('busy', 'come later')
    })
    const failed = once(one, 'protocol:error')
    await assert.rejects(all((await other.open(one.peerId, ECHO)).readable), isReset)
    await failed
    assert.deepEqual(told, ['SelkieError: come later'])
  })

  test('is given up at once while a write waits for who reads nothing', async () => {
    const [one, other] = await two()
    const deaf = []
    await one.handle('/deaf/1', (stream) => {
      deaf.push(stream)
      return new Promise(() => {})
    })
    // More than any window.
    const long = new Uint8Array(8 << 20)
    for (const abort of [
      async ({ writable }, why) => {
        const writer = writable.getWriter()
        const write = assert.rejects(writer.write(long))
        await turn()
        await writer.abort(why)
        await write
      },
      // A pipe's own signal waits for the write that is under way.
      async (stream, why) => {
        const piping = assert.rejects(new Blob([long]).stream().pipeTo(stream.writable), why)
        await turn()
        stream.abort(why)
        await piping
      },
    ]) {
      const stream = await other.open(one.peerId, '/deaf/1')
      const why = new Error('it takes too long')
      await abort(stream, why)
      await assert.rejects(all(stream.readable), why)
      while (deaf.length === 0) await turn()
      await assert.rejects(all(deaf.pop().readable), isReset)
    }
  })

  test('gives no end to a message of which its handler has not awaited the writes', async () => {
    const [one, other] = await two()
    const long = new Uint8Array(4 << 20)
    const unwanted = (promise) => promise.catch(() => {})
    for (const write of [
      (writer) => unwanted(writer.write(long)),
      (writer) => {
        unwanted(writer.write(long))
        unwanted(writer.close())
      },
      (writer) => {
        for (let at = 0; at < long.length; at += 1 << 16) {
          unwanted(writer.write(long.subarray(at, at + (1 << 16))))
        }
        writer.releaseLock()
      },
    ]) {
      const handling = new AbortController()
      const handler = ({ writable }) => void write(writable.getWriter())
      await one.handle(ECHO, handler, handling)
      const failed = once(one, 'protocol:error')
      await assert.rejects(all((await other.open(one.peerId, ECHO)).readable), isReset)
      assert.match((await failed).detail.reason, /await each write/)
      handling.abort()
    }
    // What is written, and closing, ends in order.
    await one.handle(ECHO, async ({ writable }) => {
      const writer = writable.getWriter()
      await writer.write(utf8('all of it'))
      writer.close()
      // What comes after the end is refused, and was never to be sent.
      await assert.rejects(writer.write(utf8('and more')), TypeError)
    })
    assert.equal(String(await all((await other.open(one.peerId, ECHO)).readable)), 'all of it')
  })

  test('makes who writes wait for who does not read, and holds up no other stream', async () => {
    const [one, other] = await two()
    let go
    const gone = new Promise((resolve) => (go = resolve))
    let heard
    await one.handle('/slow/1', async ({ readable }) => {
      await gone
      heard = await all(readable)
    })
    await one.handle(ECHO, echo)
    const { readable, writable } = await other.open(one.peerId, '/slow/1')
    const writer = writable.getWriter()
    const piece = Buffer.alloc(1 << 16, 7)
    let sent = 0
    let isOver = false
    const writes = (async () => {
      while (sent < 4 << 20) {
        await writer.write(piece)
        sent += piece.length
      }
      isOver = true
      await writer.close()
    })()
    // Each of these takes a round trip, and what has room goes in less.
    for (let trip = 0; trip < 100; trip += 1) {
      await echoes(await other.open(one.peerId, ECHO), Buffer.from('beside'))
    }
    assert.ok(!isOver && sent >= 1 << 17 && sent < 3 << 20, `${sent} bytes are on their way`)
    go()
    await writes
    await all(readable)
    assert.equal(heard.length, sent)
  })

  test('has a limit of streams, and a place that is free is taken again', async () => {
    const [one, other] = await two()
    await one.handle(ECHO, echo)
    const streams = []
    for (let count = 0; count < 16; count += 1) streams.push(await other.open(one.peerId, ECHO))
    await assert.rejects(other.open(one.peerId, ECHO), { code: 'busy' })
    // To read no more and to write no more is the end, whatever comes.
    await streams[0].readable.cancel()
    await streams[0].writable.close()
    // The other side has it when its handler has ended too.
    const room = async () => echoes(await other.open(one.peerId, ECHO), Buffer.from('room'))
    while ((await room().catch((error) => error))?.code === 'reset') await turn()
    await room()
  })

  test('needs nobody who reads to end, so that its place is free', async () => {
    const [one, other] = await two()
    const heard = []
    await one.handle('/tell/1', async ({ readable }) => heard.push(String(await all(readable))))
    for (let count = 0; count < 40; count += 1) {
      let stream
      // The ends of those before may be on their way.
      while (stream === undefined) {
        stream = await other.open(one.peerId, '/tell/1').catch(({ code }) => {
          assert.equal(code, 'busy')
          return turn()
        })
      }
      await say(stream.writable, utf8(`${count}`))
    }
    while (heard.length < 40) await turn()
  })

  test('hears of a reset and of the end of its connection though nobody reads or writes', async () => {
    const [one, other, address] = await two()
    const [handled, ends] = [[], []]
    await one.handle('/idle/1', (stream) => {
      handled.push(stream)
      const end = stream.writable.getWriter().closed
      ends.push(assert.rejects(end, isReset))
      return end
    })
    const idle = async () => {
      const count = handled.length
      const stream = await other.open(one.peerId, '/idle/1')
      while (handled.length === count) await turn()
      return stream
    }
    const breaks = ({ readable, writable }) => {
      const ends = [readable.getReader().closed, writable.getWriter().closed]
      return Promise.all(ends.map((end) => assert.rejects(end, isReset)))
    }
    const stream = await idle()
    handled.pop().abort(new SelkieError('reset', 'enough'))
    await Promise.all([breaks(stream), ...ends.splice(0)])
    // A handler whose peer has said all waits for nothing that the stream would tell; and its place is free again.
    for (let round = 0; round < 3; round += 1) {
      const idler = await idle()
      for (let count = 1; count < 16; count += 1) await (await idle()).writable.close()
      await other.disconnect(one.peerId)
      await Promise.all([breaks(idler), ...ends.splice(0)])
      assert.equal(await other.dial(address), one.peerId)
    }
    const last = await idle()
    const [reads, writes] = [last.readable.getReader().closed, last.writable.getWriter().closed]
    const over = [reads, writes].map((end) =>
      assert.rejects(end, ({ code }) => ['reset', 'stopped'].includes(code)),
    )
    await other.stop()
    await Promise.all(over)
  })

  test('hears of a crash while nobody reads or writes', async () => {
    const { node, fake, crash } = await startFake()
    fake.answers.open = () => 1
    fake.answers.read = () => new Promise(() => {})
    const { readable, writable } = await node.open('12D3KooFake', ECHO)
    const ends = [readable.getReader().closed, writable.getWriter().closed]
    crash()
    for (const end of ends) await assert.rejects(end, { code: 'crashed' })
  })

  test('that comes when its protocol is handled no more is reset, and no empty answer', async () => {
    const { node, fake } = await startFake()
    const handling = new AbortController()
    await node.handle(ECHO, echo, handling)
    handling.abort()
    fake.streams.push({ protocol: ECHO, peer: '12D3KooOther', stream: 7 })
    while (fake.called('reset').length === 0) await turn()
    assert.deepEqual([fake.called('reset'), fake.called('closeWrite')], [[[7]], []])
  })

  test('has mistakes that are told', async () => {
    const [one, other] = await two()
    for (const name of ['', 'echo', '/two words', `/${'x'.repeat(64)}`, '/selkie/hello/1', 5]) {
      await assert.rejects(one.handle(name, echo), { code: 'invalid-argument' })
      await assert.rejects(one.open(other.peerId, name), { code: 'invalid-argument' })
    }
    await assert.rejects(one.handle(ECHO, 'echo'), {
      code: 'invalid-argument',
      message: /function/,
    })
    await one.handle(ECHO, echo)
    await assert.rejects(one.handle(ECHO, echo), { code: 'invalid-argument', message: /already/ })
    await echoes(await other.open(one.peerId, ECHO), Buffer.from('the first one handles it'))
    await assert.rejects(other.open(one.peerId, '/nobody/1'), { code: 'unsupported' })
    await assert.rejects(other.open('12D3', ECHO), { code: 'invalid-peer-id' })
    await assert.rejects(other.open(other.peerId, ECHO), { code: 'not-connected' })
    const { writable, readable } = await other.open(one.peerId, ECHO)
    await assert.rejects(say(writable, 'a text'), { code: 'invalid-argument' })
    await assert.rejects(all(readable), { code: 'invalid-argument' })
  })

  test('ends by its signal, and an opening does', async () => {
    const [one, other] = await two()
    const handling = new AbortController()
    await one.handle(ECHO, echo, { signal: handling.signal })
    const stream = await other.open(one.peerId, ECHO)
    handling.abort()
    await one.peers()
    await assert.rejects(other.open(one.peerId, ECHO), { code: 'unsupported' })
    await echoes(stream, Buffer.from('what is open goes on'))
    await one.handle(ECHO, echo)
    for (let count = 0; count < 40; count += 1) {
      const signal = AbortSignal.abort()
      await assert.rejects(other.open(one.peerId, ECHO, { signal }), { name: 'AbortError' })
      const late = new AbortController()
      const opening = other.open(one.peerId, ECHO, { signal: late.signal })
      late.abort()
      await assert.rejects(opening, { name: 'AbortError' })
    }
    await echoes(await other.open(one.peerId, ECHO), Buffer.from('none of them has a place'))
  })

  test('breaks off where a node stops', async () => {
    const [one, other] = await two()
    await one.handle(ECHO, echo)
    const { readable } = await other.open(one.peerId, ECHO)
    const mine = await other.open(one.peerId, ECHO)
    const reads = assert.rejects(all(readable), { code: 'reset' })
    await one.stop()
    await reads
    await other.stop()
    await assert.rejects(all(mine.readable), ({ code }) => ['reset', 'stopped'].includes(code))
    await assert.rejects(other.open(one.peerId, ECHO), { code: 'stopped' })
    await assert.rejects(other.handle('/late/1', echo), { code: 'stopped' })
  })
})
