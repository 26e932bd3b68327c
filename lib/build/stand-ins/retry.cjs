/**
 * Stands in for retry, with which proper-lockfile tries again if it is asked to. It is not asked to, because lock.ts
 * waits itself. Finding out that there is nothing to wait for (by sorting an empty list of times) would add a third to
 * the cost of taking the lock.
 */
module.exports.operation = () => {
  let failure = null
  return {
    attempt: (work) => {
      work(1)
    },
    retry: (error) => {
      failure = error
      return false
    },
    mainError: () => failure,
  }
}
