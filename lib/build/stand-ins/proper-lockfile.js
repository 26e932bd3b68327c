/**
 * proper-lockfile's core, with the exports that it has itself: esbuild's copy of a CommonJS module's exports would cost
 * each upcall 87 000 instructions (callgrind).
 */
// eslint-disable-next-line @typescript-eslint/no-require-imports -- that is the point
export const { lock } = require('../../../node_modules/proper-lockfile/lib/lockfile.js')
