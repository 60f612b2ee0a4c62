// A WebSocket server with manners good and bad, on loopback, for tests/browser_websocket.rs.
//
//   node tests/support/echo-server.mjs cargo test ...
//
// starts it on a free port, runs the command with the server's multiaddress in SELKIE_TEST_ECHO and
// ends with the command's exit code; without a command it prints the address and stays.
//
// The path of a connection chooses what the server does with it:
//
//   /echo          sends every message back
//   /close-after   sends the number of bytes named in ?bytes=, then closes in order
//   /abort         sends "bye", then drops the connection without a closing handshake
//   /reject        closes with code 4001 and the reason "not today"
//   /text          sends one text message
//   /flood         sends the number of bytes named in ?bytes= in messages of 64 KiB
//   /silent        accepts and never answers
//   /slow          reads nothing until told to; then answers with the count of bytes once a
//                  message ends with the byte 255
//
// Paths under /control/ answer one question and let tests wait for events on this side:
//
//   /control/release      lets all /slow connections read
//   /control/abort        drops all /slow connections
//   /control/flood-ended  answers with the close code of the last /flood connection, once it has one
//   /control/all-closed   answers once no connection but those that ask is open
//   /control/unused-port  answers with a port on which nothing listens

import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { createServer } from 'node:net'
import { WebSocketServer } from 'ws'

const CHUNK = 64 * 1024
const END = 255

const slow = new Set()
const open = new Set()
const closed = new EventEmitter()
let floodEnded = Promise.resolve(0)

const number = (url) => Number(url.searchParams.get('bytes'))

async function sendMany(socket, bytes) {
  for (let left = bytes; left > 0; left -= CHUNK) {
    await new Promise((sent) => socket.send(Buffer.alloc(Math.min(left, CHUNK), 7), sent))
  }
}

const manners = {
  '/echo': (socket) => socket.on('message', (data) => socket.send(data)),
  '/close-after': async (socket, url) => {
    await sendMany(socket, number(url))
    socket.close(1000)
  },
  '/abort': (socket) => socket.send('bye', { binary: true }, () => socket.terminate()),
  '/reject': (socket) => socket.close(4001, 'not today'),
  '/text': (socket) => socket.send('hello'),
  '/flood': (socket, url) => {
    floodEnded = new Promise((ended) => socket.on('close', ended))
    void sendMany(socket, number(url))
  },
  '/silent': () => {},
  '/slow': (socket) => {
    socket.pause()
    slow.add(socket)
    let count = 0
    socket.on('message', (data) => {
      count += data.length
      if (data.at(-1) === END) socket.send(Buffer.from(String(count)))
    })
    socket.on('close', () => slow.delete(socket))
  },
}

const controls = {
  '/control/release': () => slow.forEach((socket) => socket.resume()),
  '/control/abort': () => slow.forEach((socket) => socket.terminate()),
  '/control/flood-ended': () => floodEnded,
  '/control/all-closed': async () => {
    while (open.size > 0) await once(closed, 'one')
  },
  '/control/unused-port': () =>
    new Promise((found) => {
      const probe = createServer().listen(0, '127.0.0.1', () => {
        const { port } = probe.address()
        probe.close(() => found(port))
      })
    }),
}

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false })

server.on('connection', async (socket, request) => {
  const url = new URL(request.url, 'ws://localhost')
  // A test that drops its connection is no reason to end.
  socket.on('error', () => {})
  const control = controls[url.pathname]
  if (control) {
    socket.send(Buffer.from(String((await control()) ?? '')))
    socket.close(1000)
    return
  }
  open.add(socket)
  socket.on('close', () => {
    open.delete(socket)
    closed.emit('one')
  })
  const behave = manners[url.pathname]
  if (behave) await behave(socket, url)
  else socket.close(4004, `no such path: ${url.pathname}`)
})

server.on('listening', () => {
  const address = `/ip4/127.0.0.1/tcp/${server.address().port}`
  const [command, ...args] = process.argv.slice(2)
  if (command === undefined) {
    console.log(address)
    return
  }
  const child = spawn(command, args, {
    stdio: 'inherit',
    env: { ...process.env, SELKIE_TEST_ECHO: address },
  })
  child.on('error', (error) => {
    console.error(`cannot run ${command}: ${error.message}`)
    process.exit(127)
  })
  child.on('exit', (code) => process.exit(code ?? 1))
})
