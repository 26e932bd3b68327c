export { makeDatabase, openDatabase } from '../lib/commands/move/sqlite.ts'
