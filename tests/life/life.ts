/** A random life of a server and its clients, as data, which fast-check makes, shrinks and prints. */
import fc from 'fast-check'
import type { Owner, Session } from './oracle.ts'
import { someOwners, spellings, type Spelling } from './owners.ts'

export type Act =
  | { readonly act: 'start'; readonly word: 'start' | 'init'; readonly bootTime: boolean }
  /**
   * A start that is killed in its first barrier, or finds no place to write to. The kernel goes on without a tracker.
   */
  | { readonly act: 'failed start'; readonly how: 'killed' | 'no place'; readonly bootTime: boolean }
  | {
      readonly act: 'create'
      readonly who: number
      readonly session: Session
      readonly spelling: Spelling | 'kernel'
      /** One of two principals, which only the pipe can tell. */
      readonly principal?: 0 | 1
    }
  | { readonly act: 'check'; readonly who: number; readonly session: Session }
  | { readonly act: 'remove'; readonly who: number; readonly spelling: Spelling | 'kernel' }
  | {
      readonly act: 'grace done'
      readonly word: 'grace_done' | 'gracedone'
      readonly of: 'this' | 'the last' | 'another'
    }
  /** A remove or an end of grace that finds no place to write to. The kernel goes on as if it were done. */
  | { readonly act: 'not done'; readonly verb: 'remove' | 'gracedone'; readonly who: number }
  /** An upcall that finds the kernel out of grace before its `gracedone`, and can't record that. */
  | { readonly act: 'end not recorded'; readonly verb: 'create' | 'check'; readonly who: number }
  /** The kernel ends grace, and its `gracedone` never comes or fails. The kernel does not ask again. */
  | { readonly act: 'grace ends unheard' }
  /** Every client at the same moment: the kernel makes upcalls for different clients in parallel. */
  | { readonly act: 'everyone'; readonly verb: 'create' | 'check' | 'remove'; readonly session: Session }
  /** Commands for people, beside the upcalls. `import` is given while no server runs. */
  | { readonly act: 'expire' | 'allow' | 'import'; readonly who: number }
  | { readonly act: 'prune' | 'verify' | 'export' }
  /**
   * An instance of the server that asks at the pipe. Version 0: its list has been refused. `killed`: how many
   * milliseconds after GraceStart `serve` is killed, to be started again.
   */
  | { readonly act: 'start at the pipe'; readonly version: 0 | 1 | 2; readonly killed: number | undefined }
  /**
   * `serve` ends, and another one starts. If `during` is given, messages of that kind for all clients are queued at
   * that moment.
   */
  | {
      readonly act: 'serve ends'
      readonly how: 'SIGKILL' | 'SIGTERM'
      readonly during: 'create' | 'remove' | undefined
      readonly after: number
    }
  /**
   * A start of the server while no `serve` holds the pipe, so that it has no tracker. `noticed`: a `serve` comes while
   * it runs.
   */
  | { readonly act: 'start without serve'; readonly noticed: boolean }
  /** An upcall, in an instance that asks at the pipe. */
  | {
      readonly act: 'beside'
      readonly verb: 'create' | 'check' | 'remove'
      readonly who: number
      readonly session: Session
    }
  /** On this machine: an upcall that is killed before one of its calls. The machine stays up. */
  | { readonly act: 'cut short'; readonly what: Act; readonly at: Point }
  /** In memory only: an upcall or a command that is disturbed. */
  | {
      readonly act: 'disturbed'
      readonly what: Act
      readonly how: Disturbance
      /** The number of the call before which that happens. */
      readonly at: number
    }
  | { readonly act: 'set the clock'; readonly to: number }
  | { readonly act: 'step the clock'; readonly by: number }

/** The number of a call among those of its name. The oldest POSIX name counts every variant. */
export interface Point {
  readonly name: 'symlink' | 'unlink' | 'rename' | 'fsync'
  readonly nth: number
}

export type Disturbance =
  | { readonly kind: 'killed' }
  /** `left`: which of the states that the disk may then be in. */
  | { readonly kind: 'power cut'; readonly left: number }
  /** A call on the state directory fails, and if it `lasts`, all later ones that change something there. */
  | { readonly kind: 'storage fails'; readonly error: 'EIO' | 'ENOSPC' | 'EROFS'; readonly lasts: boolean }
  /** The kernel asks something else meanwhile, and gets its answer. The lock is taken over. */
  | { readonly kind: 'beside'; readonly other: Act }

export interface Life {
  /** All clients of this life. `who` is an index into it, modulo its length. */
  readonly owners: readonly Owner[]
  /** Which of the kernel's two files exist. Kernels have one, the other, or neither. */
  readonly files: { readonly endGrace: boolean; readonly allowClient: boolean }
  /** The clients that the kernel's own tracker has recorded, before the helper is used. */
  readonly legacy: readonly number[]
  readonly acts: readonly Act[]
}

const who = fc.nat({ max: 3 })
const session = fc.constantFrom<Session>('Y', 'Y', 'N', undefined)
const spelling = fc.constantFrom<Spelling | 'kernel'>('kernel', 'kernel', 'kernel', ...spellings)

const start: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('start' as const),
  word: fc.constantFrom('init' as const, 'start' as const),
  bootTime: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
})
const create: fc.Arbitrary<Act> = fc.record({ act: fc.constant('create' as const), who, session, spelling })
const check: fc.Arbitrary<Act> = fc.record({ act: fc.constant('check' as const), who, session })
const remove: fc.Arbitrary<Act> = fc.record({ act: fc.constant('remove' as const), who, spelling })
const everyone: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('everyone' as const),
  session: fc.constantFrom<Session>('Y', 'Y', 'Y', 'N'),
  verb: fc.constantFrom(
    'check' as const,
    'check' as const,
    'check' as const,
    'create' as const,
    'create' as const,
    'remove' as const,
  ),
})
const word = fc.constantFrom('gracedone' as const, 'grace_done' as const)
const done: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('grace done' as const),
  word,
  of: fc.constant('this' as const),
})
const doneElsewhere: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('grace done' as const),
  word: fc.constant('gracedone' as const),
  of: fc.constantFrom('the last' as const, 'another' as const),
})
const unheard = fc.constant<Act>({ act: 'grace ends unheard' })

const failed: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('failed start' as const),
  how: fc.constantFrom('killed' as const, 'no place' as const),
  bootTime: fc.boolean(),
})
const notDone: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('not done' as const),
  verb: fc.constantFrom('remove' as const, 'gracedone' as const),
  who,
})
const endNotRecorded: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('end not recorded' as const),
  verb: fc.constantFrom('create' as const, 'check' as const),
  who,
})
const byHand: fc.Arbitrary<Act> = fc.oneof(
  fc.record({ act: fc.constantFrom('expire' as const, 'allow' as const), who }),
  fc.record({ act: fc.constantFrom('prune' as const, 'verify' as const, 'export' as const) }),
)
const imported: fc.Arbitrary<Act> = fc.record({ act: fc.constant('import' as const), who })

const latest = 2 ** 32 - 1 // 2106: the last second of an unsigned 32-bit clock
const clock: fc.Arbitrary<Act> = fc.oneof(
  fc.record({
    act: fc.constant('set the clock' as const),
    to: fc.oneof(fc.constantFrom(0, 1, latest), fc.nat({ max: latest })),
  }),
  fc.record({ act: fc.constant('step the clock' as const), by: fc.constantFrom(-1, 1, -3600, 3600, -86400 * 365, 60) }),
)

const mixed = (...weighed: readonly (readonly [number, fc.Arbitrary<Act>])[]): fc.Arbitrary<Act> =>
  fc.oneof(...weighed.map(([weight, arbitrary]) => ({ weight, arbitrary })))

type Weighed = readonly (readonly [number, fc.Arbitrary<Act>])[]

const inGrace: Weighed = [
  [5, create],
  [5, check],
  [2, remove],
  [2, everyone],
  [1, doneElsewhere],
  [1, start],
  [1, notDone],
  [2, byHand],
  [1, clock],
]
const afterGrace: Weighed = [
  [5, create],
  [2, check],
  [3, remove],
  [1, everyone],
  [1, done],
  [1, doneElsewhere],
  [1, notDone],
  [2, byHand],
  [1, clock],
]

const several = (act: fc.Arbitrary<Act>, maxLength: number): fc.Arbitrary<readonly Act[]> =>
  fc.array(act, { maxLength, size: 'max' })

/**
 * One server instance: it starts, clients come and go, grace ends in one of the ways it can, and the instance goes on
 * or stops.
 * @param last what may be the last that happens in it, so that a start follows at once
 */
const instanceWith = (more: Weighed, last?: fc.Arbitrary<Act>): fc.Arbitrary<readonly Act[]> => {
  const [before, after] = [mixed(...inGrace, ...more), mixed(...afterGrace, ...more)]
  return fc
    .tuple(
      several(clock, 1),
      fc.oneof(
        { weight: 6, arbitrary: fc.constant([]) },
        { weight: 1, arbitrary: several(imported, 2) },
        { weight: 1, arbitrary: several(failed, 2) },
      ),
      start.map((it) => [it]),
      several(before, 6),
      fc.oneof(
        {
          weight: 8,
          arbitrary: fc
            .tuple(
              done.map((it) => [it]),
              several(after, 5),
            )
            .map((it) => it.flat()),
        },
        { weight: 5, arbitrary: fc.constant([]) }, // a crash in grace
        { weight: 3, arbitrary: fc.tuple(fc.tuple(unheard), several(after, 4)).map((it) => it.flat()) },
        // The first client to come ends that grace, and several come first.
        { weight: 4, arbitrary: fc.tuple(fc.tuple(unheard, everyone), several(after, 3)).map((it) => it.flat()) },
        { weight: 1, arbitrary: fc.tuple(fc.tuple(notDone), several(after, 4)).map((it) => it.flat()) },
        {
          weight: 1,
          arbitrary: fc.tuple(fc.tuple(unheard, endNotRecorded), several(after, 2)).map((it) => it.flat()),
        },
      ),
      last === undefined ? fc.constant([]) : several(last, 1),
    )
    .map((it) => it.flat())
}

const livesOf = (instance: fc.Arbitrary<readonly Act[]>): fc.Arbitrary<Life> =>
  fc.record({
    owners: someOwners(4),
    files: fc.oneof(
      { weight: 3, arbitrary: fc.constant({ endGrace: true, allowClient: true }) },
      { weight: 1, arbitrary: fc.record({ endGrace: fc.boolean(), allowClient: fc.boolean() }) },
    ),
    legacy: fc.oneof(
      { weight: 2, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: fc.uniqueArray(who, { minLength: 1, maxLength: 4 }) },
    ),
    acts: fc.array(instance, { minLength: 1, maxLength: 4, size: 'max' }).map((it) => it.flat()),
  })

const changing = mixed([2, create], [2, check], [2, remove], [2, done])
const cutShort: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('cut short' as const),
  what: changing,
  at: fc.record({
    name: fc.constantFrom('symlink' as const, 'unlink' as const, 'rename' as const, 'fsync' as const),
    nth: fc.nat({ max: 3 }).map((nth) => nth + 1),
  }),
})

export const lives = livesOf(instanceWith([[1, cutShort]], cutShort))
const instance = instanceWith([])

const disturbance: fc.Arbitrary<Disturbance> = fc.oneof(
  fc.constant({ kind: 'killed' as const }),
  fc.record({ kind: fc.constant('power cut' as const), left: fc.nat({ max: 63 }) }),
  fc.record({
    kind: fc.constant('storage fails' as const),
    error: fc.constantFrom('EIO' as const, 'ENOSPC' as const, 'EROFS' as const),
    lasts: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('beside' as const), other: mixed([3, create], [3, check], [3, remove], [1, done]) }),
)
const changes: fc.Arbitrary<Act> = fc.oneof(
  fc.record({ act: fc.constantFrom('expire' as const, 'allow' as const, 'import' as const), who }),
  fc.record({ act: fc.constant('prune' as const) }),
)
const disturbed: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('disturbed' as const),
  what: mixed([4, create], [3, check], [3, remove], [2, done], [1, start], [3, changes]),
  how: disturbance,
  at: fc.oneof({ weight: 2, arbitrary: fc.nat({ max: 6 }) }, { weight: 1, arbitrary: fc.nat({ max: 60 }) }),
})

const cutShortInMemory: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('disturbed' as const),
  what: changing,
  how: fc.constant({ kind: 'killed' as const }),
  at: fc.nat({ max: 8 }),
})

/** Lives in memory (disturbed.ts): what is rare elsewhere is frequent here. */
export const livesInMemory = livesOf(
  instanceWith(
    [
      [5, disturbed],
      [1, byHand],
    ],
    cutShortInMemory,
  ),
)

const principal = fc.constantFrom<0 | 1 | undefined>(undefined, undefined, 0, 1)
const createAtPipe: fc.Arbitrary<Act> = fc.record({ who, principal }).map(({ who, principal }) => ({
  act: 'create' as const,
  who,
  session: undefined,
  spelling: 'kernel' as const,
  ...(principal === undefined ? {} : { principal }),
}))
const milliseconds = fc.nat({ max: 12 })
const serveEnds: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('serve ends' as const),
  how: fc.constantFrom('SIGKILL' as const, 'SIGKILL' as const, 'SIGTERM' as const),
  during: fc.constantFrom('create' as const, 'create' as const, 'remove' as const, undefined),
  after: milliseconds,
})
const beside: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('beside' as const),
  verb: fc.constantFrom('create' as const, 'check' as const, 'remove' as const),
  who,
  session,
})
const startAtPipe: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('start at the pipe' as const),
  version: fc.constantFrom(2 as const, 2 as const, 1 as const, 0 as const),
  killed: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: milliseconds }),
})
const atPipe = (more: readonly (readonly [number, fc.Arbitrary<Act>])[]): fc.Arbitrary<Act> =>
  mixed([6, createAtPipe], [2, check], [2, remove], [2, everyone], [2, serveEnds], [1, beside], [1, byHand], ...more)

/** The same at the pipe: the start says who may reclaim, and `serve` comes and goes. */
const instanceAtPipe: fc.Arbitrary<readonly Act[]> = fc
  .tuple(
    fc.oneof(
      { weight: 8, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: several(imported, 2) },
      {
        weight: 1,
        arbitrary: fc.boolean().map((noticed) => [{ act: 'start without serve' as const, noticed }]),
      },
      { weight: 1, arbitrary: several(failed, 1) },
    ),
    startAtPipe.map((it) => [it]),
    several(atPipe([]), 5),
    fc.oneof(
      {
        weight: 3,
        arbitrary: fc
          .tuple(
            done.map((it) => [it]),
            several(atPipe([[1, done]]), 4),
          )
          .map((it) => it.flat()),
      },
      { weight: 2, arbitrary: fc.constant([]) }, // a crash in grace
      { weight: 1, arbitrary: fc.tuple(fc.tuple(unheard), several(atPipe([]), 3)).map((it) => it.flat()) },
    ),
  )
  .map((it) => it.flat())

/** Lives in which one instance asks by upcalls and the next one at the pipe, on one state directory. */
export const mixedLives: fc.Arbitrary<Life> = fc.record({
  owners: someOwners(4),
  files: fc.record({
    endGrace: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
    allowClient: fc.constant(false),
  }),
  legacy: fc.oneof(
    { weight: 4, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.uniqueArray(who, { maxLength: 3 }) },
  ),
  acts: fc
    .array(fc.oneof({ weight: 3, arbitrary: instanceAtPipe }, { weight: 2, arbitrary: instance }), {
      minLength: 2,
      maxLength: 4,
      size: 'max',
    })
    .map((it) => it.flat()),
})
