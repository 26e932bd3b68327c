/**
 * Stands in for `path` in an upcall: proper-lockfile resolves the state directory, which is resolved already
 * (settings.ts).
 */
module.exports.resolve = (path) => path
