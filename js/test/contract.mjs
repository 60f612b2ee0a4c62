/** The hand-written contract, as tests look at it. */

import { readFile } from 'node:fs/promises'

export const contract = await readFile(new URL('../index.d.ts', import.meta.url), 'utf8')

/** The codes of errors. */
export function errorCodes() {
  const [, union] = contract.match(/export type ErrorCode =((?:\n  \| '.*')+)/)
  return [...union.matchAll(/'(.*)'/g)].map(([, code]) => code)
}

/** The names of an interface's fields, in order, inner ones as `outer.inner`. */
export function fields(name) {
  const [, body] = contract.match(new RegExp(`export interface ${name} \\{\n(.*?)\n\\}`, 's'))
  const names = []
  let outer = ''
  for (const line of body.split('\n')) {
    const [, indent, field, opens] = line.match(/^( +)'?([\w:]+)'?: (\{)?/) ?? []
    if (field === undefined) continue
    if (indent.length === 2 && opens && !line.endsWith('}')) outer = `${field}.`
    else names.push(indent.length === 2 ? field : outer + field)
  }
  return names
}
