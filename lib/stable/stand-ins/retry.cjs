/**
 * Stands in for retry, by which proper-lockfile tries again: its synchronous calls never do (adapter.js refuses it), and to
 * find out that there is nothing to wait for costs an upcall as much as taking the lock.
 */
module.exports.operation = () => {
  let failure = null
  return {
    attempt: (work) => { work(1) },
    retry: (error) => {
      failure = error
      return false
    },
    mainError: () => failure,
  }
}
