/**
 * The file system, imported once: every module that imports `node:fs` by itself costs an upcall 0.15 ms in the bundle,
 * which copies its hundred names each time. Lint says which rooms may come here.
 */
import fs from 'node:fs'

export { fs }
