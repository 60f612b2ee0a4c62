/** Written by the build: TypeScript takes away the comments by which bundlers leave an import alone. */

/** A module that the user names. */
export function importModule(address: string): Promise<{ default?: unknown }>
