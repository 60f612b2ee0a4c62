/**
 * From the friendly options to the node's configuration, which has the names of the TOML file.
 *
 * Only what JavaScript itself decides is checked here. The rest is checked where it is used, in
 * Rust, by the rules that hold for the file too.
 */

import type { NetworkId, NodeConfig, NodeOptions } from '../index.js'
import { inFull } from './address.js'
import { ConfigError } from './errors.js'
import type { Build, OwnBuilds } from './platform.js'

/** The gravest first. */
const levels = ['error', 'warn', 'info', 'debug', 'trace']

const sections = ['network', 'chain', 'protocol', 'security']

/** The chains that the larger WebAssembly of the package's has, and the smaller has not. */
const ledgers = ['ledger', 'ledger-light']

/** With the network's id, which the identity is kept under. */
type Complete = NodeConfig & { chain: { network_id: string } }

export function nodeConfig(options: NodeOptions): Complete {
  const { config = {}, bootstrap } = record('options', options)
  const { id, genesis, application } = networkOf(options)
  checkSections(config)
  if (bootstrap !== undefined && !isStrings(bootstrap)) {
    throw wrong('bootstrap', bootstrap, 'give an array of multiaddrs, each a string')
  }
  return {
    ...config,
    network: { ...config.network, ...defined({ bootstrap_peers: bootstrap && [...bootstrap] }) },
    chain: { ...config.chain, network_id: id, ...defined({ genesis, application }) },
  }
}

export function checkChoices(options: NodeOptions) {
  const { storage, run, identityInUse, log, signal, onProgress } = options
  const directory = (storage as { directory?: unknown } | undefined)?.directory
  if (
    typeof directory !== 'string' &&
    ![undefined, 'indexeddb', 'memory'].includes(storage as string)
  ) {
    throw wrong('storage', storage, "give 'indexeddb', 'memory' or { directory: 'path' }")
  }
  if (![undefined, 'page', 'worker'].includes(run)) {
    throw wrong('run', run, "give 'page' or 'worker'")
  }
  if (![undefined, 'wait', 'error', 'ephemeral'].includes(identityInUse)) {
    throw wrong('identityInUse', identityInUse, "give 'wait', 'error' or 'ephemeral'")
  }
  if (log !== undefined && !levels.includes(log)) {
    throw wrong('log', log, `give one of ${levels.join(', ')}`)
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw wrong('signal', signal, "give an AbortController's signal")
  }
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw wrong('onProgress', onProgress, 'give a function')
  }
}

/** The WebAssembly that the user gives, or of the package's own the one that has the chain of this name. */
export function buildOf(
  { wasm }: NodeOptions,
  application: string | undefined,
  builds: OwnBuilds,
): Build {
  if (typeof wasm !== 'object' || wasm === null || !('glue' in wasm)) {
    const own = builds[ledgers.includes(application ?? '') ? 'ledger' : 'selkie']()
    return { ...own, module: () => wasm ?? own.module() }
  }
  const { glue, module } = wasm
  if (!(glue instanceof URL)) {
    throw wrong('wasm.glue', glue, 'give the URL of what wasm-bindgen --target web has written')
  }
  const { href } = inFull(glue)
  const beside = new URL(href)
  beside.pathname = beside.pathname.replace(/(\.m?js)?$/, '_bg.wasm')
  return { glue: href, module: () => module ?? beside }
}

/** The user's own rules in JavaScript: an object, or the address of the module that has them. */
export function applicationOf({ application, run }: NodeOptions): object | string | undefined {
  if (application === undefined || typeof application === 'string') return undefined
  if (typeof application !== 'object' || application === null || Array.isArray(application)) {
    throw wrong(
      'application',
      application,
      'give an object of functions, the URL of its module, or a name',
    )
  }
  if (application instanceof URL) return inFull(application).href
  if (run !== 'worker') return application
  throw wrong(
    'application',
    application,
    "give the URL of its module: it runs in the node's worker",
  )
}

/** Which network is meant, by its id or more. */
export function networkNamed(network: string | NetworkId): NetworkId {
  const named = typeof network === 'string' ? { id: network } : record('network', network)
  const { id, genesis } = named as NetworkId
  if (typeof id !== 'string' || id === '') {
    throw wrong('network', id, "give the network's id, such as 'selkie-dev'")
  }
  if (genesis !== undefined && !isHash(genesis)) {
    throw wrong('network.genesis', genesis, "give the genesis hash's hex digits, 64 bytes at most")
  }
  return named
}

function networkOf({ network, application: own, config }: NodeOptions) {
  const { id, genesis, application } = networkNamed(network)
  const named = application ?? config?.chain?.application
  if (named !== undefined && own !== undefined) {
    throw wrong('network.application', named, 'give this or application, and not both')
  }
  return { id, genesis, application: typeof own === 'string' ? own : application }
}

/** Rust reads the sections that it knows from a JavaScript object, and can't see that there are others. */
function checkSections(config: NodeConfig) {
  for (const name of Object.keys(record('config', config))) {
    const known = name === 'identity' || sections.includes(name)
    if (!known) throw wrong('config', name, `give only ${sections.join(', ')} and identity`)
  }
  for (const name of sections) record(`config.${name}`, config[name as keyof NodeConfig] ?? {})
}

function record<T extends object>(field: string, value: T): T {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw wrong(field, value, 'give an object')
}

/** As in the TOML file: of any length that a hash has, and empty where the chain has none. */
function isHash(value: unknown): boolean {
  return typeof value === 'string' && /^([0-9a-f]{2}){0,64}$/i.test(value)
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

/** Without the fields that were not given: those must not hide the ones of `config`. */
function defined<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as Partial<T>
}

function wrong(field: string, value: unknown, advice: string): ConfigError {
  const shown = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return new ConfigError('config', `config: ${field} = ${shown}: ${advice}`, { fatal: true })
}
