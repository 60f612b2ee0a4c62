/** `Promise.withResolvers`, which Node 20 lacks. */
export function deferred() {
  let resolve, reject
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]))
  return { promise, resolve, reject }
}
