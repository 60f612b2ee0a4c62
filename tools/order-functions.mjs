// node tools/order-functions.mjs FILE: renames the functions of a WebAssembly module so that in the order of their names those stand side by
// side that are alike, for `wasm-opt --reorder-functions-by-name`. What is sent is compressed, and what repeats a near thing takes fewer
// bytes than what repeats a far one.
//
// How alike two functions are is estimated by MinHash (Broder, "On the resemblance and containment of documents", 1997): of all their
// runs of five bytes, by each of 48 hashes the least; as many as two functions share of those, so much they share of the runs. After each
// function comes the one that is most like it, and a little like the two before it; where there is none, the next by the compiler's names,
// which has what is made from one source together.
import { readFileSync, writeFileSync } from 'node:fs'

const RUN = 5
const HASHES = 48
/** What the likeness to a function counts, the latest first. */
const WEIGHTS = [1, 0.3, 0.3]
/** Of 48 shared values; less is chance. */
const ALIKE = 2

const [IMPORTS, CODE, CUSTOM] = [2, 10, 0]
const FUNCTION_NAMES = 1

/** Reads a module's numbers and texts one after the other. */
class Reader {
  constructor(bytes, at = 0) {
    this.bytes = bytes
    this.at = at
  }

  number() {
    let number = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes[this.at++]
      number += (byte & 127) * 2 ** shift
      if (byte < 128) return number
    }
  }

  piece() {
    const length = this.number()
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }

  limits() {
    const flags = this.bytes[this.at++]
    this.number()
    if (flags & 1) this.number()
  }
}

/** How many functions are imported. */
function imported(section) {
  const reader = new Reader(section)
  let functions = 0
  for (let left = reader.number(); left > 0; left--) {
    reader.piece()
    reader.piece()
    const kind = section[reader.at++]
    if (kind === 0) {
      reader.number()
      functions++
    } else if (kind === 1) {
      reader.at++
      reader.limits()
    } else if (kind === 2) {
      reader.limits()
    } else {
      reader.at += 2
    }
  }
  return functions
}

function pieces(section) {
  const reader = new Reader(section)
  return Array.from({ length: reader.number() }, () => reader.piece())
}

function functionNames(reader) {
  const names = new Map()
  while (reader.at < reader.bytes.length) {
    const kind = reader.bytes[reader.at++]
    const inner = new Reader(reader.piece())
    if (kind !== FUNCTION_NAMES) continue
    for (let left = inner.number(); left > 0; left--)
      names.set(inner.number(), inner.piece().toString('latin1'))
  }
  return names
}

/** The least value by each hash, of all runs of a function's bytes. */
function least(body) {
  const values = new Uint32Array(HASHES).fill(0xffffffff)
  for (let at = 0; at + RUN <= body.length; at++) {
    let run = 2166136261
    for (let offset = 0; offset < RUN; offset++) run = Math.imul(run ^ body[at + offset], 16777619)
    run ^= run >>> 15
    for (let hash = 0; hash < HASHES; hash++) {
      const mixed = Math.imul(run, Math.imul(0x9e3779b1, 2 * hash + 1) | 1)
      const value = (mixed ^ (mixed >>> 13)) >>> 0
      if (value < values[hash]) values[hash] = value
    }
  }
  return values
}

/** Places of bodies, so that those that are alike follow each other; `byName` has all of them. */
function chain(bodies, byName) {
  const values = bodies.map(least)
  const keys = values.map((own) => Array.from(own, (value, hash) => hash * 2 ** 32 + value))
  const sharing = new Map()
  for (const place of byName) {
    for (const key of keys[place]) {
      if (!sharing.has(key)) sharing.set(key, new Set())
      sharing.get(key).add(place)
    }
  }
  const order = []
  const left = new Set(byName)
  for (let place = byName[0]; place !== undefined;) {
    order.push(place)
    left.delete(place)
    for (const key of keys[place]) sharing.get(key).delete(place)
    const likeness = new Map()
    for (const [age, weight] of WEIGHTS.entries()) {
      for (const key of keys[order.at(-1 - age)] ?? []) {
        for (const other of sharing.get(key))
          likeness.set(other, (likeness.get(other) ?? 0) + weight)
      }
    }
    let most = ALIKE
    ;[place] = left
    for (const [other, likes] of likeness) if (likes > most) [place, most] = [other, likes]
  }
  return order
}

function encoded(number) {
  const bytes = []
  for (; number > 127; number >>>= 7) bytes.push((number & 127) | 128)
  return Buffer.from([...bytes, number])
}

const piece = (...bytes) => {
  const all = Buffer.concat(bytes)
  return Buffer.concat([encoded(all.length), all])
}

const [file] = process.argv.slice(2)
const module = readFileSync(file)
const kept = [module.subarray(0, 8)]
let [first, bodies, names] = [0, [], new Map()]
for (const reader = new Reader(module, 8); reader.at < module.length;) {
  const begin = reader.at
  const kind = module[reader.at++]
  const section = reader.piece()
  if (kind === IMPORTS) first = imported(section)
  if (kind === CODE) bodies = pieces(section)
  const inner = new Reader(section)
  if (kind === CUSTOM && inner.piece().toString() === 'name') names = functionNames(inner)
  else kept.push(module.subarray(begin, reader.at))
}
const name = (place) => names.get(first + place) ?? ''
const byName = [...bodies.keys()].sort((one, other) =>
  name(one) < name(other) ? -1 : Number(name(one) > name(other)),
)
const rank = []
for (const [index, place] of chain(bodies, byName).entries()) rank[place] = index
const digits = String(bodies.length).length
const renamed = rank.map((index, place) => [
  encoded(first + place),
  piece(Buffer.from(String(index).padStart(digits, '0'))),
])
const map = Buffer.concat([encoded(bodies.length), ...renamed.flat()])
const section = piece(piece(Buffer.from('name')), Buffer.from([FUNCTION_NAMES]), piece(map))
writeFileSync(file, Buffer.concat([...kept, Buffer.from([CUSTOM]), section]))
