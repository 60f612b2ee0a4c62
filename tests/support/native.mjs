// Native nodes: the `selkie` command, each with a key and a folder of its own.
//
// The command is target/debug/selkie unless the environment names another as SELKIE.

import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Lines } from './lines.mjs'
import { repository } from './paths.mjs'

const COMMAND = process.env.SELKIE ?? repository('target/debug/selkie')

/** The environment, less what would set flags of the command for who runs the tests. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith('SELKIE_')),
)

/** Whose name stands in an address by which a peer is reached over each transport. */
const LISTEN = {
  tcp: '/ip4/127.0.0.1/tcp/0',
  ws: '/ip4/127.0.0.1/tcp/0/ws',
  webrtc: '/ip4/127.0.0.1/udp/0/webrtc-direct',
  webtransport: '/ip4/127.0.0.1/udp/0/quic-v1/webtransport',
  wss: '/ip4/127.0.0.1/tcp/0/tls/ws',
}

/**
 * `selkie run` on loopback, at free ports unless `listen` has others for a transport. Resolves once it listens over each of the transports, to the
 * child's {@link Lines} with `peerId`, `addresses` by transport, and `stop`. With the `folder` of one before it is the same node; by
 * default that ends with it.
 */
export async function startNative({
  network = 'selkie-test',
  chain = 'bitcoin',
  transports = ['tcp', 'ws'],
  listen: chosen = {},
  folder: kept,
  config = '',
  flags = [],
} = {}) {
  const folder = kept ?? (await mkdtemp(join(tmpdir(), 'selkie-')))
  await writeFile(join(folder, 'node.toml'), config)
  const addresses = { ...LISTEN, ...chosen }
  const listen = transports.flatMap((transport) => ['--listen', addresses[transport]])
  const names = ['--network-id', network, '--chain', chain]
  const files = ['--config', join(folder, 'node.toml'), '--key', join(folder, 'identity.key')]
  const node = new Lines(COMMAND, ['run', '--json', ...listen, ...names, ...files, ...flags], {
    env,
  })
  const end = node.stop.bind(node)
  node.stop = async () => {
    const code = await end()
    if (kept === undefined) await rm(folder, { recursive: true })
    return code
  }
  try {
    node.peerId = (await node.until({ type: 'start' })).peerId
    node.addresses = {}
    for (const transport of transports) {
      const { address } = await node.until(listensOver(addresses[transport]))
      node.addresses[transport] = `${address.replace(/\/p2p\/.*/, '')}/p2p/${node.peerId}`
    }
  } catch (error) {
    await node.stop()
    throw error
  }
  return node
}

function listensOver(listen) {
  const form = new RegExp(`${listen.replace('/0', '/\\d+')}(/certhash/[\\w-]+)*(/p2p/\\w+)?$`)
  return ({ type, address }) => type === 'listening' && form.test(address)
}

/** `selkie replay`: feeds the items of a file of testdata to a node; resolves when all have left. */
export async function replay(file, { addresses }, network = 'selkie-test') {
  const rates = ['--rate', '0', '--transaction-rate', '0']
  const to = ['--to', addresses.tcp, '--network-id', network]
  const words = ['replay', ...rates, ...to, repository(`testdata/${file}`)]
  await promisify(execFile)(COMMAND, words, { env })
}

/** `selkie devnet`: resolves when its dashboard is served, to the child's {@link Lines} with that `url`. */
export async function startDevnet(...flags) {
  const devnet = new Lines(COMMAND, ['devnet', '--port', '0', ...flags], { env })
  const { text } = await devnet.until(({ text }) => text?.startsWith('http://'))
  devnet.url = text.split(' ')[0]
  return devnet
}

/** The server of echo-server.mjs, with its `address`. */
export async function startEcho() {
  const server = new Lines(process.execPath, [repository('tests/support/echo-server.mjs')])
  server.address = (await server.until({ type: 'text' })).text
  return server
}
