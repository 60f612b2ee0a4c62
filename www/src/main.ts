// The dashboard of a Selkie node that lives in this very tab. The page asks the node that serves
// it for the network and for addresses (`api/node`), starts its own node, and joins by itself;
// with `?manual` in its address it waits for a person to connect.
//
//     session.ts     the node's life: events, streams and readings, as a few hooks
//     views/         one file per part of the page; all of them bounded, drawn once a frame
//     verify.ts      the tab's own check of a block's hash
//     address.ts     what can be said of an address before a dial
//     reach.ts       one node by whichever of its addresses answers
//     kept.ts        what is kept from one visit to the next, where anything can be
//
// To whoever observes the page from outside, the root element tells the state of the node
// (`data-state`) and when the first block came (`data-first-block-ms`, by the page's clock).

import type { Item, Peer } from 'selkie'
import { addressProblem, byPeer, sentence, type Surroundings } from './address'
import { announce, byId, copyButton, idText, onFrame, setText } from './dom'
import { bytes, count, plural, short } from './format'
import { fetchInvitation, NOBODY, type Invitation } from './invitation'
import { keep, kept } from './kept'
import { reach } from './reach'
import { Session, type Hooks } from './session'
import { verifyBlock } from './verify'
import { ConnectBox } from './views/connect'
import { Feed } from './views/feed'
import { Log } from './views/log'
import { PeerTable } from './views/peers'
import { PublishBox } from './views/publish'
import { SyncBar } from './views/sync'
import { Traffic } from './views/traffic'

type State = 'loading' | 'starting' | 'ready' | 'connected' | 'failed'

const root = document.documentElement
const query = new URLSearchParams(location.search)
const manual = query.has('manual')

/** The longest pause between two tries to join, and the longest try, in milliseconds. */
const LONGEST_PAUSE = 30_000
const LONGEST_TRY = 15_000

const log = new Log(byId('log', HTMLElement))
const peerTable = new PeerTable(byId('peers', HTMLElement))
const traffic = new Traffic()
const syncBar = new SyncBar()
const blocks = new Feed(byId('blocks', HTMLElement), 'block')
const transactions = new Feed(byId('transactions', HTMLElement), 'transaction')
const publish = new PublishBox((data) => session.submit(data))
const connect = new ConnectBox({
  dial: (address, signal) => session.dial(address, signal),
  surroundings,
})

const seen = {
  block: { count: 0, bytes: 0 },
  transaction: { count: 0, bytes: 0 },
}

let invitation: Invitation = NOBODY
let session: Session
let joining: Session | undefined
let restarting = false
let peers = 0
let tries = 0

/** Shows the state of the node, to the eye, the ear and the observer. */
function show(state: State, text: string): void {
  root.dataset['state'] = state
  setText(byId('status', HTMLElement), text)
}

function showProgress(loaded: number, total: number): void {
  const bar = byId('download', HTMLProgressElement)
  const amount = byId('download-amount', HTMLElement)
  if (total > 0) {
    bar.max = total
    bar.value = Math.min(loaded, total)
    setText(amount, `${bytes(loaded)} of ${bytes(total)}`)
  } else {
    setText(amount, bytes(loaded))
  }
  if (total > 0 && loaded >= total && root.dataset['state'] === 'loading') {
    show('starting', 'Starting the node')
  }
}

function showCounts(): void {
  for (const [kind, name] of [
    ['block', 'blocks'],
    ['transaction', 'transactions'],
  ] as const) {
    setText(byId(`count-${name}`, HTMLElement), count(seen[kind].count))
    if (seen[kind].count > 0) {
      setText(byId(`sub-${name}`, HTMLElement), `${bytes(seen[kind].bytes)} in all`)
    }
  }
}

function arrived(kind: 'block' | 'transaction', item: Item): void {
  if (kind === 'block') root.dataset['firstBlockMs'] ??= performance.now().toFixed(1)
  seen[kind].count += 1
  seen[kind].bytes += item.data.length
  onFrame(showCounts)
  const entry = {
    id: item.id,
    size: item.data.length,
    source: item.source,
    receivedAt: item.receivedAt,
  }
  if (kind === 'transaction') {
    transactions.push(entry)
    return
  }
  const check = verifyBlock(invitation.network.application ?? 'opaque', item.id, item.data)
  blocks.push({ ...entry, check })
  void check.then((found) => {
    if (found === 'mismatch') log.add('error', `Block ${short(item.id)} does not hash to its id.`)
  })
}

function showPeers(list: readonly Peer[]): void {
  const before = peers
  peers = list.length
  peerTable.show(list)
  setText(byId('count-peers', HTMLElement), count(peers))
  const inbound = list.filter((peer) => peer.direction === 'inbound').length
  setText(
    byId('sub-peers', HTMLElement),
    peers === 0 ? 'none yet' : `${inbound} in, ${peers - inbound} out`,
  )
  if (peers > 0) {
    tries = 0
    show('connected', `Connected to ${plural(peers, 'peer')}`)
  } else if (before > 0) {
    show('ready', 'All peers have gone')
    if (!manual) void join(session)
  }
}

/** Tries to join through the addresses of the invitation until there is a peer. */
async function join(mine: Session): Promise<void> {
  if (joining === mine) return
  joining = mine
  while (!mine.signal.aborted && peers === 0) {
    await call(mine)
    // Who answered may have gone before it was seen, so that only a reading ends this.
    const pause = Math.min(LONGEST_PAUSE, 1000 * 2 ** tries)
    tries += 1
    await new Promise((resolve) => setTimeout(resolve, pause))
    if (!mine.signal.aborted && peers === 0) await inviteAgain(mine.signal)
  }
  if (joining === mine) joining = undefined
}

/** Calls every node of the invitation until one of them answers. */
async function call(mine: Session): Promise<void> {
  if (invitation.bootstrap.length === 0) return
  // The first time only: who hears the page would hear of each try.
  if (tries === 0) show('ready', 'Joining the network')
  const signal = AbortSignal.any([mine.signal, AbortSignal.timeout(LONGEST_TRY)])
  try {
    const dial = (address: string, until: AbortSignal) => dialled(mine, address, until)
    await Promise.any(byPeer(invitation.bootstrap).map((ways) => reach(ways, dial, signal)))
  } catch (error) {
    if (mine.signal.aborted || peers > 0) return
    show('ready', 'Not connected, trying again')
    connect.fail(sentence(error instanceof AggregateError ? error.errors[0] : error))
  }
}

/** Dials an address that is worth it from here. */
async function dialled(mine: Session, address: string, signal: AbortSignal): Promise<void> {
  const problem = addressProblem(address, surroundings())
  if (problem !== undefined) throw new Error(problem)
  await mine.dial(address, signal)
}

/** Takes over what the node that serves the page says, where there is one. */
async function invite(signal: AbortSignal): Promise<void> {
  const answer = await fetchInvitation(signal)
  if (answer === undefined) return
  invitation = answer
  const [first] = answer.bootstrap
  if (first !== undefined) connect.prefill(first)
}

/** A node that was started anew may have other addresses, and be of another network, which takes another node here too. */
async function inviteAgain(signal: AbortSignal): Promise<void> {
  const before = JSON.stringify(invitation.network)
  await invite(signal)
  if (!signal.aborted && JSON.stringify(invitation.network) !== before) void restart()
}

function showNetwork(): void {
  const { id, application = 'opaque', genesis } = invitation.network
  setText(byId('self-network', HTMLElement), id)
  const from = genesis === undefined ? '' : `, genesis ${short(genesis, 4, 8)}`
  setText(byId('self-chain', HTMLElement), `${application}${from}`)
  publish.application = application
}

function showFailure(error: unknown): void {
  const reason = sentence(error)
  show('failed', 'The node stopped')
  byId('failure', HTMLElement).hidden = false
  setText(byId('failure-reason', HTMLElement), reason)
  log.add('error', reason)
}

/** Starts a node and, unless told otherwise, joins the network. */
async function start(): Promise<void> {
  byId('failure', HTMLElement).hidden = true
  show('loading', 'Fetching the node')
  const hooks: Hooks = {
    progress: showProgress,
    block: (item) => arrived('block', item),
    transaction: (item) => arrived('transaction', item),
    peers: showPeers,
    traffic: (bytesIn, bytesOut) => traffic.read(bytesIn, bytesOut, performance.now()),
    sync: (progress) => syncBar.show(progress),
    log: (level, message) => log.add(level, message),
    failed: showFailure,
  }
  const mine = new Session(hooks)
  session = mine
  try {
    await invite(mine.signal)
    showNetwork()
    const peerId = await mine.start(invitation, chosenRun())
    byId('self-id', HTMLElement).replaceChildren(
      idText(peerId),
      copyButton(peerId, 'the peer id of this tab'),
    )
    log.add('info', `This tab is ${short(peerId)} on ${invitation.network.id}.`)
    show('ready', 'Ready, not connected')
    if (!manual) void join(mine)
  } catch (error) {
    if (!mine.signal.aborted) showFailure(error)
  }
}

/** Ends the node and starts another, by whatever is chosen then. */
async function restart(): Promise<void> {
  if (restarting) return
  restarting = true
  const old = session
  peers = 0
  tries = 0
  showPeers([])
  syncBar.show(undefined)
  try {
    await old.stop()
  } catch (error) {
    log.add('warn', sentence(error))
  }
  restarting = false
  await start()
}

function surroundings(): Surroundings {
  return { secure: location.protocol === 'https:', run: chosenRun() }
}

function chosenRun(): Surroundings['run'] {
  return byId('run', HTMLFieldSetElement).querySelector<HTMLInputElement>('input:checked')
    ?.value === 'worker'
    ? 'worker'
    : 'page'
}

/** Where the node runs: what the address of the page says, else what was chosen the last time. */
function setUpRun(): void {
  const choice = byId('run', HTMLFieldSetElement)
  const said = query.get('run') ?? kept('selkie.run')
  for (const radio of choice.querySelectorAll('input')) {
    radio.checked = radio.value === (said === 'worker' ? 'worker' : 'page')
  }
  choice.addEventListener('change', () => {
    keep('selkie.run', chosenRun())
    announce('The node restarts.')
    void restart()
  })
}

setUpRun()
byId('restart', HTMLButtonElement).addEventListener('click', () => {
  // WebAssembly that died takes the page along; a worker of its own can be replaced.
  if (chosenRun() === 'page') location.reload()
  else void restart()
})
void start()
