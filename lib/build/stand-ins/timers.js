/**
 * Stands in for timers, which the executable's engine does not have: proper-lockfile sets one to freshen its lock, which
 * is as fresh as its holder is alive, and an upcall ends before any timer would.
 */
export const setTimeout = () => ({ unref: () => undefined })
export const clearTimeout = () => undefined
