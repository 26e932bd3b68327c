// Which stories are told, under which kernel and with which tracker.
import { basename, join, resolve } from 'node:path'
import { repository, type Kernel } from './image.ts'
import { delegations, killedInAStorm, late, namespace, principal, removeLost } from './scenarios/at-the-pipe.ts'
import { clockAhead, clockBehind } from './scenarios/clock.ts'
import { container } from './scenarios/container.ts'
import { crashInGrace } from './scenarios/crash-in-grace.ts'
import { crashOnExt4, crashOnXfs } from './scenarios/crash.ts'
import { earlyEnd } from './scenarios/early-end.ts'
import { graceMissed, leaseLostBeforeRestart } from './scenarios/edge-conditions.ts'
import { endUnderTraffic } from './scenarios/end-under-traffic.ts'
import { fullDisk, readOnly, startKilled, stateRemoved } from './scenarios/failing-helper.ts'
import {
  createKilled,
  graceEndKilled,
  removeHangs,
  removeKilled,
  removeKilledWithoutRoom,
} from './scenarios/hung-upcalls.ts'
import { list, listCounted, listOnTwo } from './scenarios/list.ts'
import { manyNames } from './scenarios/many-names.ts'
import { moduleLoad } from './scenarios/module-load.ts'
import { restart, restartByPipe, restartOnce } from './scenarios/restart.ts'
import { see } from './scenarios/see.ts'
import { smallStorm, storm } from './scenarios/storm.ts'
import { upgradeKernel } from './scenarios/upgrade-kernel.ts'
import { upgrade } from './scenarios/upgrade.ts'
import type { Story } from './story.ts'
import type { Helper, Tracker } from './tracking.ts'

export interface Part {
  readonly story: Story
  readonly kernel: Kernel
  readonly helper: Helper
  readonly ci: boolean
  /** Told only by name. */
  readonly byName: boolean
  readonly control: boolean
}

/** One kernel, and one way in which it is served. */
export interface Ground {
  readonly kernel: Kernel
  readonly tracker: Tracker
}

/** What is told when nothing is chosen. nfsdcld is here to be compared with. */
const usual: readonly Ground[] = [
  { kernel: '6.1', tracker: 'helper' },
  { kernel: '7.2', tracker: 'serve' },
  { kernel: '6.1', tracker: 'serve' },
  { kernel: '6.12', tracker: 'helper' },
]

/** What of them is chosen; a pair that is not among them is told if it is named. */
export function grounds(kernel: Kernel | undefined, tracker: Tracker | undefined): readonly Ground[] {
  const chosen = usual.filter(
    (one) => (kernel ?? one.kernel) === one.kernel && (tracker ?? one.tracker) === one.tracker,
  )
  if (chosen.length > 0) return chosen
  return [{ kernel: kernel ?? '6.1', tracker: tracker ?? 'helper' }]
}

const named = (program: string, tracker: Tracker): Helper => ({
  name: basename(program),
  program: resolve(program),
  tracker,
})
const dist = (name: string, tracker: Tracker): Helper => named(join(repository, 'dist', name), tracker)

/** In the order of what they say about a helper. @param program another helper than ours. */
export function partsOn({ kernel, tracker }: Ground, program: string | undefined): readonly Part[] {
  const ours = program === undefined
  const helper = !ours
    ? named(program, tracker)
    : tracker === 'nfsdcld'
      ? named('/usr/sbin/nfsdcld', tracker)
      : dist('nfsd-userland-helper', tracker)
  const part = (story: Story, ...marks: readonly ('ci' | 'by name')[]): Part => ({
    story,
    kernel,
    helper,
    ci: marks.includes('ci'),
    byName: marks.includes('by name'),
    control: false,
  })
  if (tracker !== 'helper')
    return [
      part(restartByPipe, 'ci'),
      part(leaseLostBeforeRestart, 'ci'),
      part(graceMissed, 'ci'),
      part(crashInGrace),
      part(clockAhead),
      part(clockBehind),
      part(earlyEnd),
      part(fullDisk),
      part(readOnly),
      part(late),
      part(removeLost),
      part(principal),
      part(namespace),
      part(delegations),
      part(smallStorm, 'by name'),
      part(storm),
      part(killedInAStorm),
      // To be compared with nfsdcld, where the kernel takes a list in no time.
      ...(kernel === '6.1' ? [list, listOnTwo, listCounted].map((story) => part(story, 'by name')) : []),
      // The kernel that looks for each name before it inserts it.
      ...(kernel === '7.2' ? [part(manyNames)] : []),
      part(crashOnExt4),
      part(crashOnXfs),
      ...(ours && tracker === 'serve' ? [part(container)] : []),
      ...(ours && tracker === 'serve' && kernel === '7.2' ? [part(upgradeKernel)] : []),
    ]
  const bundle = dist('nfsd-userland-helper.cjs', tracker)
  const peer = named('/usr/sbin/nfsdcltrack', tracker)
  // The bundle, the control and what is about our own words are not for a run with another helper.
  return [
    part(restart, 'ci'),
    ...(ours ? [part(restart), part(restartOnce, 'ci', 'by name')].map((one) => ({ ...one, helper: bundle })) : []),
    part(leaseLostBeforeRestart, 'ci'),
    part(graceMissed, 'ci'),
    part(crashInGrace, 'ci'),
    part(clockAhead, 'ci'),
    ...(ours ? [{ ...part(clockAhead), helper: peer, control: true }] : []),
    part(clockBehind),
    part(earlyEnd, 'ci'),
    ...(ours ? [part(see)] : []),
    part(fullDisk),
    part(readOnly, 'ci'),
    part(startKilled, 'ci'),
    part(removeHangs),
    part(removeKilled),
    part(removeKilledWithoutRoom),
    part(graceEndKilled),
    part(createKilled),
    part(stateRemoved),
    part(upgrade, 'ci'),
    ...(ours ? [part(endUnderTraffic, 'ci')] : []),
    part(smallStorm, 'by name'),
    part(storm),
    ...(ours ? [part(moduleLoad, 'ci'), { ...part(moduleLoad), helper: bundle }] : []),
    part(crashOnExt4),
    part(crashOnXfs),
  ]
}

/** In CI: most stories on the kernel that calls helpers, and those of a restart on the one that does not. */
export const inCi = ({ kernel, tracker }: Ground): boolean =>
  (kernel === '6.1' && tracker === 'helper') || (kernel === '7.2' && tracker !== 'helper')
