/** Written by the build: what `./inline` carries inside itself. */

export const wasm: string
export const worker: string
