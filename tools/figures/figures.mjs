// One source of figures: docs/figures.json. The benches' rows are taken into it, and all tables and figures in the documents are written
// from it, between `<!-- figures:NAME -->` and `<!-- /figures -->`; tables.mjs says what stands there.
//
//     node tools/figures/figures.mjs take GROUP...   target/bench/GROUP.json into docs/figures.json
//     node tools/figures/figures.mjs write           the documents anew
//     node tools/figures/figures.mjs check           fails where a document differs, no document uses a template, or a bench
//                                                    that a document names has no figures
//
// A figure is kept as { value, spread, unit, target, met, baseline, baseline_spread, baseline_name, commit, machine, command }. A spread
// is the least and the most of the rounds whose median stands before it; what was measured once, or before spreads were kept, has none.
// What a bench no longer measures stays until it is taken out by hand. The groups `attacks` and `sim` have rows of their own form.

import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { arch, cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { tables } from './tables.mjs'

const DOCUMENTS = [
  'README.md',
  'docs/attacks.md',
  'docs/performance.md',
  'docs/simulation.md',
  'docs/spec-map.md',
]
const MARKED = /(<!-- figures:([\w-]+) -->)(.*?)(<!-- \/figures -->)/gs

const at = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const readJson = (path) => JSON.parse(readFileSync(at(path), 'utf8'))

/** The figures with a bench's rows in them. */
export function taken(figures, group, rows, source) {
  const kept = { ...figures[group] }
  for (const { name, ratio, ...row } of rows) {
    kept[name] = { ...row, ...source, ...(row.command && { command: row.command }) }
  }
  return { ...figures, [group]: kept }
}

/** A document with everything between its markers written anew. */
export function written(document, figures, templates = tables) {
  const figure = (group, name) => {
    const found = figures[group]?.[name]
    if (!found) throw new Error(`docs/figures.json has no "${name}" of ${group}`)
    return found
  }
  const marks = document.match(/<!-- \/?figures/g)?.length ?? 0
  let used = 0
  const result = document.replace(MARKED, (_, begin, name, between, end) => {
    used += 2
    if (!templates[name]) throw new Error(`tools/figures/tables.mjs has no "${name}"`)
    return begin + templates[name](figure, figures) + end
  })
  if (marks !== used) throw new Error('a marker of figures has no other half')
  return result
}

/** What the documents promise and nobody has: templates that stand in none of them, and benches that they name without a row. */
export function lacking(documents, figures, templates = tables) {
  const names = (pattern) =>
    new Set(documents.flatMap((text) => [...text.matchAll(pattern)].map(([, name]) => name)))
  const [used, benches] = [names(/<!-- figures:([\w-]+) -->/g), names(/build\.sh bench ([a-z]+)/g)]
  const empty = (group) => Object.keys(figures[group] ?? {}).length === 0
  const groups = new Set([...benches, ...Object.keys(figures)])
  return [
    ...Object.keys(templates)
      .filter((name) => !used.has(name))
      .map((name) => `no document uses "${name}" of tools/figures/tables.mjs`),
    ...[...groups].filter(empty).map((group) => `docs/figures.json has no figures of "${group}"`),
  ]
}

function machine() {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : ''
  const system = /^PRETTY_NAME="?([^"(\n]*)/m.exec(release)?.[1].trim() ?? process.platform
  return `${cpus().length} cores, ${arch()}, ${system}`
}

/** What was measured, and a mark where that is not all: where what was built from differs. */
function commit(group) {
  const git = (...words) => execFileSync('git', words, { cwd: at('.'), encoding: 'utf8' }).trim()
  const changed = git('status', '--porcelain', 'src', ...(group === 'sim' ? ['sim'] : []))
  return git('rev-parse', '--short=7', 'HEAD') + (changed ? '+' : '')
}

function main([command, ...groups]) {
  let figures = readJson('docs/figures.json')
  if (command === 'take') {
    for (const group of groups) {
      const source = {
        commit: commit(group),
        machine: machine(),
        command: `./build.sh bench ${group}`,
      }
      figures = taken(figures, group, readJson(`target/bench/${group}.json`), source)
    }
    writeFileSync(at('docs/figures.json'), JSON.stringify(figures, null, 2) + '\n')
    return
  }
  const documents = DOCUMENTS.map((path) => [path, readFileSync(at(path), 'utf8')])
  const texts = documents.map(([, document]) => document)
  const problems = command === 'write' ? [] : lacking(texts, figures)
  for (const [path, document] of documents) {
    const anew = written(document, figures)
    if (command === 'write') writeFileSync(at(path), anew)
    else if (anew !== document) {
      problems.push(`${path} differs from docs/figures.json: run ./build.sh figures`)
    }
  }
  for (const problem of problems) console.error(problem)
  if (problems.length > 0) process.exitCode = 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2))
