/**
 * Writes down the state directories of a release: `npx tsx tests/contract/formats/write.ts PROGRAM NAME` plays these
 * lives with that release's program (its .cjs, or its executable) and makes tests/contract/formats/NAME.json. Run it
 * for each release, with the program that is released. Never change an existing file.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Event } from '../../life/oracle.ts'
import { ann, bob, cal, check, create, graceDone, long, start, upcallFor } from '../../proof/scenarios.ts'
import { readTree } from '../../proof/trees.ts'
import { call, machineAt, scratch, scrapTree } from '../../proof/verdicts.ts'
import { settings, type Artefact } from '../../support/artefacts.ts'
import { trace, type Call } from '../../support/strace.ts'
import { verdictsOf, type Written } from './released.ts'

const owner = (name: string): string => Buffer.from(name, 'latin1').toString('hex')
/**
 * What names must be able to hold: no text, no path, no UTF-8; and an owner whose name is a digest, but whose record is
 * short.
 */
const odd = [owner('../boot_time'), owner('\xff\0\xc3\n'), '', owner('m'.repeat(300))]
const full = [create(ann, 'Y'), create(bob, 'N'), create(long, 'Y'), ...odd.map((each) => create(each, 'Y'))]
/** A first server instance, whose grace is over. */
const complete = [start('1000'), ...full, graceDone('1000')]

interface Life {
  readonly name: string
  readonly events: readonly Event[]
  readonly killed?: { readonly event: Event; readonly at: Pick<Call, 'name' | 'nth'> }
}

const lives: readonly Life[] = [
  { name: 'full', events: [...complete] },
  {
    name: 'partial',
    events: [...complete, start('2000'), create(ann, 'Y'), check(bob, 'N'), create(cal, 'N')],
  },
  {
    name: 'partial, after two crashes in grace',
    events: [
      ...complete,
      start('2000'),
      create(ann, 'Y'),
      start('3000'),
      check(bob, 'N'),
      start('4000'),
      create(long, 'N'),
    ],
  },
  {
    name: 'full, in which some never came back',
    events: [...complete, start('2000'), create(ann, 'Y'), check(bob, 'N'), graceDone('2000'), create(cal, 'N')],
  },
  { name: 'the first grace period', events: [start('1000'), ...full] },
  {
    name: 'the first grace period, after a crash in it',
    events: [start('1000'), create(ann, 'Y'), start('2000'), create(bob, 'N'), create(long, 'Y')],
  },
  { name: 'nothing but a start', events: [start('1000')] },
  {
    name: 'an end of grace that was killed before its barrier',
    events: [...complete, start('2000'), create(ann, 'Y')],
    killed: { event: graceDone('2000'), at: { name: 'fsync', nth: 2 } },
  },
  {
    name: 'a start that was killed before it was committed',
    events: [...complete],
    killed: { event: start('2000'), at: { name: 'fsync', nth: 1 } },
  },
]

const [program = '', release = ''] = process.argv.slice(2)
if (program === '' || !/^[0-9]+\.[0-9]+\.[0-9]+$/.test(release))
  throw new Error('usage: npx tsx tests/contract/formats/write.ts PROGRAM RELEASE')
const command = program.endsWith('.cjs') ? [process.execPath, program] : [program]
const artefact: Artefact = { name: 'bundle', command, withOtherClock: command }

const written: Written[] = []
for (const { name, events, killed } of lives) {
  const machine = machineAt(scratch())
  let bootTime: string | undefined
  for (const event of events) {
    if (event.event === 'start') bootTime = event.bootTime
    const { status, stderr } = await call(artefact, machine, event, bootTime)
    if (status !== 0) throw new Error(`${name}: ${event.event} ended with ${status}: ${stderr}`)
  }
  if (killed !== undefined) {
    const { words, env } = upcallFor(killed.event, bootTime)
    const fault = {
      call: { ...killed.at, thread: 0, text: '', paths: [], result: 0, injected: false },
      what: 'signal=SIGKILL',
    }
    const { status } = await trace(artefact, [...settings(machine), ...words], env, { fault })
    if (status !== 'SIGKILL') throw new Error(`${name}: it was not killed: ${status}`)
  }
  const tree = readTree(machine.stateDir)
  scrapTree(machine)
  const owners = [...new Set([...events].flatMap((event) => ('owner' in event ? [event.owner] : [])))]
  written.push({ name, owners, tree: [...tree], verdicts: await verdictsOf(artefact, tree, owners) })
}
const lines = written.map((one) => `  ${JSON.stringify(one)}`).join(',\n')
writeFileSync(join(import.meta.dirname, `${release}.json`), `[\n${lines}\n]\n`, { flag: 'wx' })
console.log(`${written.length} state directories of release ${release}`)
