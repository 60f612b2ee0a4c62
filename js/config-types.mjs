/**
 * Writes config.d.ts, the types of `NodeConfig`: `node config-types.mjs`.
 *
 * What a configuration may hold is said once, in Rust: by the structs that serde reads, with their documentation. This reads those
 * sources, from what `createNode` hands over (`Options` in src/web/options.rs) to the last leaf. A form that it does not know is an
 * error, so nothing is left out in silence; that config.d.ts is as this writes it is a test, and that each section has the fields that
 * the WebAssembly names is another.
 */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const SOURCES = new URL('../src/', import.meta.url)
const ROOT = 'Options'
const WIDTH = 100

const PLAIN = {
  String: 'string',
  bool: 'boolean',
  Duration: 'Time',
  Multiaddr: 'string',
  PathBuf: 'string',
  PeerInfo: 'string',
  f64: 'number',
}

/** The whole file's text. */
export function configTypes() {
  const body = [...sections(ROOT, '')].map(({ text }) => text).join('\n\n')
  return `/**
 * The configuration's fields, with the names of the TOML file. Written from the Rust sources by
 * config-types.mjs: change those.
 */

/** A length of time: \`'10s'\`, \`'1m 30s'\`, \`'500ms'\`. */
export type Time = string

${body}
`
}

/** Each section: its path, as \`network\`, its fields' names, and how it is written. */
export function* sections(name, path, seen = new Set()) {
  if (seen.has(name)) return
  seen.add(name)
  const { docs, fields, defaults } = struct(name)
  const lines = [...comment(docs, ''), `export interface ${exported(name)} {`]
  const inner = []
  for (const { name: field, type, docs, hex } of fields) {
    const { text, struct } = typed(type, hex)
    lines.push(...comment(docs, '  '), `  ${field}${defaults ? '?' : ''}: ${text}`)
    if (struct) inner.push([struct, path ? `${path}.${field}` : field])
  }
  const names = fields.map(({ name }) => name)
  yield { path, names, text: [...lines, '}'].join('\n') }
  for (const [name, path] of inner) yield* sections(name, path, seen)
}

/** The section of all; a user knows it by \`NodeConfig\`. */
const exported = (name) => (name === ROOT ? 'Config' : name)

/** A Rust type in TypeScript, and the struct that it is of. */
function typed(type, hex) {
  if (type === 'Vec<u8>' && hex) return { text: 'string' }
  const [, outer, within] = type.match(/^(Vec|Option)<(.*)>$/) ?? []
  if (outer) {
    const { text, struct } = typed(within)
    return { text: outer === 'Vec' ? `readonly ${text}[]` : `${text} | null`, struct }
  }
  if (type in PLAIN) return { text: PLAIN[type] }
  if (/^(u16|u32|u64|usize|NonZeroU64)$/.test(type)) return { text: 'number' }
  return { text: exported(type), struct: type }
}

let sources

/** A struct that serde reads. */
function struct(name) {
  sources ??= readdirSync(SOURCES, { recursive: true })
    .filter((file) => file.endsWith('.rs') && !file.startsWith('bin'))
    .map((file) => readFileSync(new URL(file, SOURCES), 'utf8'))
  const head = new RegExp(
    `((?:^///.*\n)*)((?:^#\\[.*\\]\n)+)^(?:pub(?:\\(.*\\))? )?struct ${name} \\{\n([^]*?)^\\}`,
    'gm',
  )
  const found = sources.flatMap((text) => [...text.matchAll(head)])
  const read = found.filter(([, , attributes]) => attributes.includes('Deserialize'))
  if (read.length !== 1) throw new Error(`${read.length} structs ${name} that serde reads, not one`)
  const [[, docs, attributes, body]] = read
  if (!attributes.includes('deny_unknown_fields')) throw new Error(`${name} takes unknown fields`)
  const fields = []
  let pending = { docs: '', hex: false }
  for (const line of body.split('\n').map((line) => line.trim())) {
    const [, field, type] = line.match(/^(?:pub(?:\(.*\))? )?([a-z_]+): (.*),$/) ?? []
    if (field) {
      fields.push({ ...pending, name: field, type })
      pending = { docs: '', hex: false }
    } else if (line.startsWith('///')) {
      pending.docs += `${line}\n`
    } else if (line === '#[serde(with = "hex::serde")]') {
      pending.hex = true
    } else if (
      line !== '' &&
      !/^#\[serde\((with = "humantime_serde"|serialize_with = .*)\)\]$/.test(line)
    ) {
      throw new Error(`${name} has a line that config-types.mjs does not know: ${line}; teach it`)
    }
  }
  // Examples are Rust's own.
  const [first] = docs.split('///\n')
  return { docs: first, fields, defaults: /serde\(default\b/.test(attributes) }
}

/** Rust's documentation as a comment of TypeScript, without its links. */
function comment(docs, indent) {
  const words = docs
    .replace(/^\s*\/\/\/ ?/gm, ' ')
    .replace(/`(crate|super)::([\w:]*::)?/g, '`')
    .replace(/\[(`[^`]+`)\](\([^)]*\))?/g, '$1')
    .replaceAll('`None`', '`null`')
    .split(/\s+/)
    .filter((word) => word !== '')
  if (words.length === 0) return []
  const short = `${indent}/** ${words.join(' ')} */`
  if (short.length <= WIDTH) return [short]
  const lines = [`${indent}/**`, `${indent} *`]
  for (const word of words) {
    if (lines.at(-1).length + 1 + word.length > WIDTH) lines.push(`${indent} *`)
    lines[lines.length - 1] += ` ${word}`
  }
  return [...lines, `${indent} */`]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(new URL('config.d.ts', import.meta.url), configTypes())
}
