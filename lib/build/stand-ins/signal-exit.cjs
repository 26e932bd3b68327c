/**
 * Stands in for signal-exit, with which proper-lockfile removes its locks when the process ends. Our lock is void once
 * its holder is dead, so that is not needed. And signal-exit would catch SIGTERM and SIGALRM with a handler that can't
 * run during a system call: an upcall that hangs could not be ended.
 */
module.exports = () => undefined
