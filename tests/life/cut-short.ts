/** Upcalls of a built program that are killed before one of their calls, while the machine stays up (halfway.ts). */
import type { Ending } from '../support/memory/machine.ts'
import { goOn } from './disturbed.ts'
import { halfway, outcomeOf, owing } from './halfway.ts'
import type { PlaceHere } from './on-this-machine.ts'
import { askedBy, endGraceReads, kernelEndsGrace, lineOf, type OtherFront } from './play.ts'

export const cutShortOn = (place: PlaceHere): OtherFront => ({
  perform: async (world, act) => {
    if (act.act !== 'cut short') return undefined
    if (world.memory.untracked !== undefined) return 0
    const asked = askedBy(world, act.what)
    if (asked === undefined) throw new Error(`${act.what.act} can't be cut short`)
    const { event } = asked
    kernelEndsGrace(world, asked)
    const before = endGraceReads(world)
    const graceOver = before === 'Y'
    const { status, progress, killedBefore } = await place.killed(asked.words, asked.env, world.wallClock, act.at)
    const told = endGraceReads(world) !== before
    world.told.push(lineOf(world, event, { ...asked, status }))
    if (killedBefore !== undefined) world.told.push(`       ^ killed before ${killedBefore}`)
    if (told) world.told.push('       it told the kernel that grace may end')
    const ending: Ending = typeof status === 'number' ? status : 'stopped'
    goOn(
      world,
      (memory) => {
        const whole = outcomeOf(memory, event, graceOver)
        if (ending !== 'stopped') return [whole]
        const lefts = told ? [whole.memory] : halfway(memory, event, graceOver)
        return owing(lefts, memory, event, progress).map((left) => ({ memory: left, endGrace: 'may' }))
      },
      ending,
      told,
      ending === 'stopped',
    )
    return 1
  },
  last: [],
  end: () => Promise.resolve(),
})
