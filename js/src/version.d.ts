/** What `build.mjs` writes: the version of this package, which the WebAssembly must have too. */

export const version: string
