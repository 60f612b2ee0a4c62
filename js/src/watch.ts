/**
 * Which exceptions leave a WebAssembly: a part of the package's glue, to which `build.mjs` adds what this compiles to.
 *
 * Whoever calls it, a timer or a socket too, calls one of its exports, so none is missed and none is another's. Where an exception goes
 * through it, its code is cut off, and nothing cleans up: it is at its end.
 */

type Export = WebAssembly.ExportValue

let told: (error: unknown) => void = () => {}

/** `listener` hears of them from now on, while they are on their way. */
export function onException(listener: (error: unknown) => void) {
  told = listener
}

/** The same exports, watched. */
export function watch(exports: WebAssembly.Exports): Record<string, Export> {
  const watched = ([name, value]: [string, Export]): [string, Export] => {
    if (typeof value !== 'function') return [name, value]
    return [
      name,
      (...args: unknown[]) => {
        try {
          return value(...args)
        } catch (error) {
          told(error)
          throw error
        }
      },
    ]
  }
  return Object.fromEntries(Object.entries(exports).map(watched))
}
