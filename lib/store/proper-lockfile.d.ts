/**
 * The core of proper-lockfile, which its two other interfaces wrap. It calls back as soon as its file system does, and
 * ours does at once. Its own adapter for synchronous calls would add half the cost of the lock to an upcall.
 */
declare module 'proper-lockfile/lib/lockfile.js' {
  export function lock(file: string, options: object, done: (error: unknown, unlock?: Unlock) => void): void
  export type Unlock = (done: Done<void>) => void
  export type Done<T> = (error: unknown, result?: T) => void
}
