/**
 * Stands in for graceful-fs, proper-lockfile's default for an option that we always give (lock.ts): nothing is loaded.
 */
module.exports = {}
