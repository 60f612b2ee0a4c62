/**
 * The package's errors, and how those of the WebAssembly become them.
 *
 * An error crosses up to two borders on its way to the user: from Rust, where it is an `Error` with
 * `code` and `fatal`, and from a worker, where structured cloning would lose both. So an error
 * travels as a plain {@link ErrorReport} and gets its class on arrival, by its code.
 */

import type { ErrorCode } from '../index.js'

type Options = { fatal?: boolean; cause?: unknown }

export class SelkieError extends Error {
  // Written out in each class: minifiers rename classes.
  override name = 'SelkieError'
  readonly code: ErrorCode
  readonly fatal: boolean

  constructor(code: ErrorCode, message: string, options: Options = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.fatal = options.fatal ?? false
  }
}

export class ConfigError extends SelkieError {
  override name = 'ConfigError'
}
export class ArgumentError extends SelkieError {
  override name = 'ArgumentError'
}
export class DialError extends SelkieError {
  override name = 'DialError'
}
export class IdentityInUseError extends SelkieError {
  override name = 'IdentityInUseError'
}
export class StorageError extends SelkieError {
  override name = 'StorageError'
}
export class LoadError extends SelkieError {
  override name = 'LoadError'
}
export class StoppedError extends SelkieError {
  override name = 'StoppedError'
}
export class CrashedError extends SelkieError {
  override name = 'CrashedError'
}

type ErrorClass = new (code: ErrorCode, message: string, options?: Options) => SelkieError

const classes = new Map<ErrorCode, ErrorClass>([
  ['config', ConfigError],
  ['invalid-argument', ArgumentError],
  ['invalid-address', ArgumentError],
  ['invalid-peer-id', ArgumentError],
  ['dial', DialError],
  ['identity-in-use', IdentityInUseError],
  ['storage', StorageError],
  ['storage-busy', StorageError],
  ['storage-damaged', StorageError],
  ['storage-foreign', StorageError],
  ['storage-full', StorageError],
  ['storage-locked', StorageError],
  ['storage-version', StorageError],
  ['identity', StorageError],
  ['load', LoadError],
  ['stopped', StoppedError],
  ['not-running', StoppedError],
  ['crashed', CrashedError],
])

/** An error as plain data. */
export interface ErrorReport {
  code: ErrorCode
  message: string
  fatal: boolean
}

export function report(error: unknown): ErrorReport {
  if (isTrap(error)) return { code: 'crashed', message: crashMessage(error.message), fatal: true }
  const { code, fatal, message } = Object(error) as Record<string, unknown>
  return {
    // Those of the WebAssembly are in the contract: a test compares them. Others than in such letters are the platform's.
    code: typeof code === 'string' && /^[a-z-]+$/.test(code) ? (code as ErrorCode) : 'internal',
    message: typeof message === 'string' ? message : String(error),
    fatal: fatal === true,
  }
}

export function revive({ code, message, fatal }: ErrorReport, cause?: unknown): SelkieError {
  return new (classes.get(code) ?? SelkieError)(code, message, { fatal, cause })
}

/** Any thrown value as a {@link SelkieError}. */
export function selkieError(error: unknown): SelkieError {
  return error instanceof SelkieError ? error : revive(report(error), error)
}

/** Whether this is what WebAssembly throws when it hits `unreachable`, as it does after a panic. */
export function isTrap(error: unknown): error is Error {
  return error instanceof WebAssembly.RuntimeError
}

export function crashMessage(words: string): string {
  const line = words.replaceAll(/\s+/g, ' ')
  return `the node crashed (${line}); the console tells where. Start a new one with createNode; with run: 'page', reload the page first, or in Node start a new process`
}

export function argument(message: string): ArgumentError {
  return new ArgumentError('invalid-argument', message)
}

export function stopped(): StoppedError {
  return new StoppedError('stopped', 'the node has stopped; start a new one with createNode', {
    fatal: true,
  })
}

export function crashed(message: string, cause?: unknown): CrashedError {
  return new CrashedError('crashed', message, { fatal: true, cause })
}
