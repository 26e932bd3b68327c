/**
 * proper-lockfile's core, which its other two ways of calling wrap: it calls back as soon as its file system does, and ours
 * does at once. Its own adapter for synchronous calls would cost an upcall half as much again as the lock.
 */
declare module 'proper-lockfile/lib/lockfile.js' {
  export function lock(file: string, options: object, done: (error: unknown, unlock?: Unlock) => void): void
  export type Unlock = (done: Done<void>) => void
  export type Done<T> = (error: unknown, result?: T) => void
}
