/**
 * The package as a user gets it: packed, and installed from the tarball. The tools that it is tried with stand in
 * fixtures/package.json, where `npm ci` has to have been before, and are found from the folder of work inside fixtures/.
 */

import { execFile } from 'node:child_process'
import { cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))
const FIXTURES = fileURLToPath(new URL('fixtures/', import.meta.url))

export const execute = promisify(execFile)

/** A folder of work with the packed package in it, to be closed. There is one: of a run that was cut off nothing stays. */
export async function pack() {
  const work = join(FIXTURES, '.work')
  const close = () => rm(work, { recursive: true, force: true })
  await close()
  await mkdir(work)
  // Not what is published: the build that the tests use.
  const words = ['pack', '--ignore-scripts', '--json', '--pack-destination', work]
  const { stdout } = await execute('npm', words, { cwd: PACKAGE })
  const tarball = join(work, JSON.parse(stdout)[0].filename)
  await writeFile(join(work, 'package.json'), '{ "private": true }')
  await execute('npm', ['install', '--offline', '--no-save', tarball], { cwd: work })
  return {
    work,
    tarball,

    /** Makes a copy of the fixture of this name, with more files, by their paths. */
    async copy(name, files = {}) {
      const folder = join(work, name)
      await cp(join(FIXTURES, name), folder, { recursive: true })
      for (const file of ['show.js', 'chain.js']) await cp(join(FIXTURES, file), join(folder, file))
      for (const [path, text] of Object.entries(files)) await writeFile(join(folder, path), text)
    },

    /** Runs one of the tools, in the fixture of this name, for five minutes at most. */
    run: (name, tool, args, env = {}) =>
      execute(bin(tool), args, {
        cwd: join(work, name),
        env: { ...process.env, ...env },
        timeout: 300_000,
      }),

    close,
  }
}

/** The program of a tool's. */
export const bin = (tool) => join(FIXTURES, 'node_modules/.bin', tool)
