export { openDatabase } from '../lib/admin/move/sqlite.ts'
