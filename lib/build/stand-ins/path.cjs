/**
 * Stands in for `path` in an upcall: proper-lockfile resolves the state directory, but its path is resolved already
 * (settings.ts).
 */
module.exports.resolve = (path) => path
