// A chain in JavaScript, for a node in the page or in its worker: it takes what pays, and names it by its text.

const text = (bytes) => new TextDecoder().decode(bytes)
const accept = () => ({ verdict: 'accept' })

async function checkTransaction(bytes) {
  const [word] = text(bytes).split(' ')
  if (word === 'throw') throw new RangeError('out of paper')
  if (word === 'fall') {
    setTimeout(() => {
      throw new Error('a bug of the application')
    })
    await new Promise((resolve) => setTimeout(resolve))
    return { verdict: 'ignore', reason: 'a bug' }
  }
  if (word === 'pay') return { verdict: 'accept', id: bytes.slice(0, 64), fee: 5n }
  return { verdict: 'reject', reason: 'it pays nobody' }
}

export default { checkTransaction, checkBlock: accept, checkVote: accept }
