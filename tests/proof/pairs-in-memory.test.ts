/**
 * Every two upcalls at once, every upcall with every command for people, and `serve` with each, on a machine in memory:
 * all pairs. The unit tests try a sample of them.
 */
import { inPart } from './figures.ts'

if (!inPart) {
  process.env['EVERY_PAIR'] = 'yes'
  await import('../unit/events/every-pair.test.ts')
  await import('../unit/events/every-pair-by-hand.test.ts')
  await import('../unit/serve/beside-an-upcall.test.ts')
}
