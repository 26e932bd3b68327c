/* eslint-disable @typescript-eslint/no-unused-vars -- scripts for the engine begin with this (lib/build/bundles.ts) */
/**
 * Stand-ins for what proper-lockfile uses, and the executable's engine does not have or has not started. A timer would
 * refresh the lock, but our lock is valid as long as its holder lives, and an upcall ends before any timer would fire.
 * To start the engine's Date costs 1 % of a check, and the lock only compares times.
 */
const setTimeout = () => ({ unref: () => undefined })
const clearTimeout = () => undefined
class Date {
  static now() {
    return globalThis.host.calls.now()
  }
  constructor(time = Date.now()) {
    this.time = time
  }
  getTime() {
    return this.time
  }
}
