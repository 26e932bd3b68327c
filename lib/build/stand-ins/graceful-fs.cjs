/**
 * Stands in for graceful-fs, which is proper-lockfile's default for an option that we always set (lock.ts). So it is
 * not loaded.
 */
module.exports = {}
