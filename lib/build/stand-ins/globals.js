/* eslint-disable @typescript-eslint/no-unused-vars -- scripts for the engine begin with this (lib/build/bundles.ts) */
/**
 * Stand in for what the executable's engine does not have, or has not been started with, and proper-lockfile asks for.
 * A timer would freshen its lock, which is as fresh as its holder is alive; and an upcall ends before any timer would.
 * Dates cost a check a hundredth to start, and a lock only compares times.
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
