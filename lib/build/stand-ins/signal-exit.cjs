/**
 * Stands in for signal-exit, by which proper-lockfile removes its locks when the process ends: ours is worth nothing
 * once its holder is dead. And it would catch SIGTERM and SIGALRM for a handler that can't run during a system call: an
 * upcall that hangs could then not be ended.
 */
module.exports = () => undefined
