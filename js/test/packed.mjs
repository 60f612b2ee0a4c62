/**
 * The package as a user gets it: packed, and installed from the tarball. The tools that it is tried with stand in
 * fixtures/package.json, and are found from a folder of work inside fixtures/.
 */

import { execFile } from 'node:child_process'
import { cp, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))
const FIXTURES = fileURLToPath(new URL('fixtures/', import.meta.url))

export const execute = promisify(execFile)

/** A folder of work with the packed package in it, to be closed. */
export async function pack() {
  if (!(await isInstalled(FIXTURES)))
    await execute('npm', ['ci', '--no-audit', '--no-fund'], { cwd: FIXTURES })
  const work = await mkdtemp(join(FIXTURES, '.work-'))
  // Not what is published: the build that the tests use.
  const words = ['pack', '--ignore-scripts', '--json', '--pack-destination', work]
  const { stdout } = await execute('npm', words, { cwd: PACKAGE })
  const tarball = join(work, JSON.parse(stdout)[0].filename)
  return {
    work,
    tarball,

    /** Has the package where all fixtures find it. */
    async install() {
      await writeFile(join(work, 'package.json'), '{ "private": true }')
      await execute('npm', ['install', '--offline', '--no-save', tarball], { cwd: work })
    },

    /** Makes a copy of the fixture of this name. */
    async copy(name) {
      const folder = join(work, name)
      await cp(join(FIXTURES, name), folder, { recursive: true })
      for (const file of ['show.js', 'chain.js']) await cp(join(FIXTURES, file), join(folder, file))
    },

    /** Runs one of the tools, in the fixture of this name. */
    run: (name, tool, args, env = {}) =>
      execute(bin(tool), args, { cwd: join(work, name), env: { ...process.env, ...env } }),

    close: () => rm(work, { recursive: true }),
  }
}

/** The program of a tool's. */
export const bin = (tool) => join(FIXTURES, 'node_modules/.bin', tool)

/** Whether what is there is what the lock file asks for. */
async function isInstalled(folder) {
  const time = (file) => stat(join(folder, file)).then(({ mtimeMs }) => mtimeMs)
  const installed = await time('node_modules/.package-lock.json').catch(() => 0)
  return installed >= (await time('package-lock.json'))
}
