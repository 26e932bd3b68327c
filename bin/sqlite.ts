export { openDatabase } from '../lib/commands/move/sqlite.ts'
