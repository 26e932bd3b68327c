/**
 * What a `serve` that has run for long says unread is what a new one reads: whatever it has changed itself, whatever
 * another process has, and wherever between two of its calls that was.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Start } from '../../../lib/rules/instance.ts'
import { checkField, recordLine, recordName, usualFacts } from '../../../lib/rules/record.ts'
import { KnownRecords } from '../../../lib/serve/known-records.ts'
import { closeAll, directoryOf, lookAgain } from '../../../lib/store/open-directories.ts'
import * as records from '../../../lib/store/records.ts'
import { stateDirectory, type StateDirectory } from '../../../lib/store/state-directory.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import type { ClientOwner } from '../../../lib/upcall/owner.ts'
import { memoryFiles } from '../../support/memory/files.ts'

const [full, partial] = [100 as Start, 200 as Start]
const principal = 'ab'.repeat(32)
const clients = ['ann', 'bob', 'cal', '.hidden', 'x'.repeat(300)]
const owner = (name: string): ClientOwner => Buffer.from(name) as Uint8Array as ClientOwner
const facts = { session: 'unknown', recorded: 1 } as const
const place = (start: Start, name: string): string => `/state/v4clients/${start}/${recordName(owner(name))}`

interface Site {
  /** The `serve` that has run for long. */
  readonly state: StateDirectory
  readonly known: KnownRecords
  /** Another process works, perhaps while the first one has stopped. */
  readonly aside: (work: (calls: Calls) => unknown) => void
  /** Before the first process's next call of a kind. */
  readonly atNext: (name: string, work: (calls: Calls) => unknown) => void
  /** How many links the first process has read since this was asked last. */
  readonly reads: () => number
}

function site(): Site {
  const files = memoryFiles()
  const { calls, hooks } = files
  for (const path of ['/state', '/state/v4clients', `/state/v4clients/${full}`, `/state/v4clients/${partial}`])
    calls.mkdirat(-100, path, 0o700)
  const another = files.another()
  let isAside = false
  const aside: Site['aside'] = (work) => {
    isAside = true
    another(() => work(calls))
    isAside = false
  }
  let reads = 0
  let due: { readonly name: string; readonly work: (calls: Calls) => unknown } | undefined
  hooks.before = ({ name }) => {
    if (isAside) return undefined
    if (name === 'readlinkat') reads++
    if (due?.name !== name) return undefined
    const { work } = due
    due = undefined
    aside(work)
    return undefined
  }
  const known = new KnownRecords(calls)
  return {
    state: stateDirectory(known.calls, '/state', '/run', 'us'),
    known,
    aside,
    atNext: (name, work) => (due = { name, work }),
    reads: () => {
      const before = reads
      reads = 0
      return before
    },
  }
}

/** What a start would say of an instance. */
function listOf(state: StateDirectory, start: Start): string[] {
  const said: string[] = []
  lookAgain(state)
  records.eachRecordIn(
    state,
    start,
    (owners, digits) => {
      said.push(...owners.map((name) => (digits === undefined ? name : `${name} as ${digits}`)))
      return true
    },
    (name) => said.push(`unreadable ${name}`),
  )
  return said.sort()
}

function readBeforehand({ state, known }: Pick<Site, 'state' | 'known'>): void {
  const directory = directoryOf(state, full)
  if (directory !== undefined) known.readBeforehand(directory.descriptor, usualFacts(), checkField)
}

function assertSame({ state, aside }: Site, what: string): void {
  for (const start of [full, partial]) {
    const said = listOf(state, start)
    aside((calls) => {
      const fresh = stateDirectory(calls, '/state', '/run', 'them')
      assert.deepEqual(said, listOf(fresh, start), `${start}: ${what}`)
      closeAll(fresh)
    })
  }
}

const make = (calls: Calls, start: Start, name: string, more: object = {}): number =>
  calls.symlinkat(recordLine(owner(name), { ...facts, ...more }), -100, place(start, name))

describe('a directory of which all is known', () => {
  it('is read once, and then only its names', () => {
    const { state, reads, aside } = site()
    aside((calls) => ['ann', 'bob', 'cal'].map((name) => make(calls, full, name)))
    assert.deepEqual(listOf(state, full), ['ann', 'bob', 'cal'])
    assert.equal(reads(), 3)
    for (const how of [lookAgain, closeAll]) {
      how(state)
      assert.deepEqual(listOf(state, full), ['ann', 'bob', 'cal'])
      assert.equal(reads(), 0)
    }
  })

  it('is not read again for a list if it was read beforehand, and nothing has changed but by this process', () => {
    const { state, known, reads, aside } = site()
    aside((calls) => ['ann', 'bob', clients[4] ?? ''].map((name) => make(calls, full, name)))
    readBeforehand({ state, known })
    closeAll(state)
    records.put(state, { owner: owner('cal'), facts }, full, [])
    // The name of the longest owner is a digest: only its link tells it, to the host and then to its caller.
    reads()
    assert.equal(listOf(state, full).length, 4)
    assert.equal(reads(), 2)
  })

  it('is read for a list if what was read beforehand was not all plain, or has changed since', () => {
    const unsuited: readonly ((calls: Calls) => unknown)[] = [
      (calls) => make(calls, full, 'bob', { principal }),
      (calls) => calls.symlinkat('damaged', -100, place(full, 'bob')),
      (calls) => calls.symlinkat('v9,newer', -100, place(full, 'bob')),
    ]
    for (const add of unsuited)
      for (const isEarly of [true, false]) {
        const here = site()
        here.aside((calls) => make(calls, full, 'ann'))
        if (isEarly) here.aside(add)
        readBeforehand(here)
        if (!isEarly) here.aside(add)
        here.reads()
        assert.equal(listOf(here.state, full).length, 2)
        assert.ok(here.reads() >= 2)
        assertSame(here, 'beforehand')
      }
  })

  it('stays known by what this process changes', () => {
    const { state, known, reads } = site()
    for (const start of [full, partial]) listOf(state, start)
    for (const name of ['ann', 'bob', 'cal']) records.put(state, { owner: owner(name), facts }, full, [])
    records.drop(state, owner('bob'), full)
    records.put(state, { owner: owner('ann'), facts }, partial, [full])
    records.put(state, { owner: owner('ann'), facts: { ...facts, session: 'has session' } }, partial, [])
    known.settle()
    reads()
    assert.deepEqual(listOf(state, full), ['cal'])
    assert.deepEqual(listOf(state, partial), ['ann'])
    assert.equal(reads(), 0)
  })

  it('is read again after more changes than a sweep is asked about, and after an overflow', () => {
    for (const work of [
      (calls: Calls) => {
        for (let nth = 0; nth < 17_000; nth++) make(calls, full, `client ${nth % 10}`)
        for (let nth = 0; nth < 17_000; nth++) {
          calls.symlinkat('x', -100, place(full, 'new'))
          calls.unlinkat(-100, place(full, 'new'), 0)
        }
      },
    ]) {
      const { state, reads, aside } = site()
      listOf(state, full)
      aside(work)
      reads()
      assert.equal(listOf(state, full).length, 10)
      assert.equal(reads(), 10)
    }
    const { state, reads } = site()
    listOf(state, full)
    for (let nth = 0; nth < 5000; nth++) records.put(state, { owner: owner(`client ${nth}`), facts }, full, [])
    reads()
    assert.equal(listOf(state, full).length, 5000)
    assert.equal(reads(), 5000)
  })

  it('is not believed where nothing can be watched', () => {
    const { calls } = memoryFiles()
    for (const path of ['/state', '/state/v4clients', `/state/v4clients/${full}`]) calls.mkdirat(-100, path, 0o700)
    let reads = 0
    const links: Calls['links'] = (descriptor, patterns, mark, unchanged) => {
      if (unchanged === undefined) reads++
      return calls.links(descriptor, patterns, mark, unchanged)
    }
    const known = new KnownRecords({ ...calls, links, watchNames: () => -24 })
    const state = stateDirectory(known.calls, '/state', '/run', 'us')
    make(calls, full, 'ann')
    for (let nth = 0; nth < 3; nth++) assert.deepEqual(listOf(state, full), ['ann'])
    assert.equal(reads, 6)
  })

  it('that is made anew under its name is read', () => {
    const all = site()
    const { state, aside, known } = all
    aside((calls) => make(calls, full, 'ann'))
    listOf(state, full)
    for (const settles of [true, false]) {
      aside((calls) => {
        for (const name of ['ann', 'bob']) calls.unlinkat(-100, place(full, name), 0)
        calls.unlinkat(-100, `/state/v4clients/${full}`, 0x200)
        calls.mkdirat(-100, `/state/v4clients/${full}`, 0o700)
        calls.symlinkat('damaged', -100, place(full, 'bob'))
      })
      if (settles) known.settle()
      assertSame(all, 'made anew')
    }
  })
})

describe('a change by another process is seen', () => {
  const damage = (start: Start, name: string) => (calls: Calls) => {
    calls.symlinkat('damaged', -100, '/state/v4clients/aside')
    calls.renameat(-100, '/state/v4clients/aside', -100, place(start, name))
  }
  const knowing = (): Site => {
    const here = site()
    here.aside((calls) => ['ann', 'bob'].map((name) => make(calls, full, name)))
    for (const start of [full, partial]) listOf(here.state, start)
    return here
  }
  const reclaim = ({ state }: Site, name: string): void => {
    records.put(state, { owner: owner(name), facts }, partial, [full])
  }

  it('if it moves something over what this process has just moved there, of which the kernel reports nothing more', () => {
    const here = knowing()
    reclaim(here, 'ann')
    here.aside(damage(partial, 'ann'))
    assert.deepEqual(listOf(here.state, partial), ['unreadable ann'])
    assertSame(here, 'moved over')
  })

  it('if it replaces what this process has read and is about to move', () => {
    const here = knowing()
    here.atNext('renameat', damage(full, 'ann'))
    reclaim(here, 'ann')
    assert.deepEqual(listOf(here.state, partial), ['unreadable ann'])
    assertSame(here, 'moved')
  })

  it('if it links what this process is about to move to where it goes, of which the kernel reports nothing', () => {
    const here = knowing()
    here.atNext('renameat', (calls) => {
      calls.linkat(-100, place(full, 'ann'), -100, place(partial, 'ann'))
      damage(full, 'bob')(calls)
    })
    reclaim(here, 'ann')
    assert.deepEqual(listOf(here.state, full), ['ann', 'unreadable bob'])
    assertSame(here, 'linked')
  })

  it('if it comes when the list has begun', () => {
    for (const call of ['read', 'getdents64']) {
      const here = knowing()
      here.atNext(call, damage(full, 'ann'))
      assert.deepEqual(listOf(here.state, full), ['bob', 'unreadable ann'], call)
      assertSame(here, call)
    }
  })
})

/** What another process may do. */
const foreign: readonly (readonly [string, (calls: Calls, name: string) => unknown])[] = [
  ['adds a record', (calls, name) => make(calls, partial, name)],
  ['adds a record with a principal', (calls, name) => make(calls, partial, name, { principal })],
  ['adds a damaged one', (calls, name) => calls.symlinkat('damaged', -100, place(partial, name))],
  ['removes one', (calls, name) => calls.unlinkat(-100, place(partial, name), 0)],
  [
    'replaces one by a damaged one, in one step',
    (calls, name) => {
      calls.symlinkat('damaged', -100, '/state/v4clients/aside')
      calls.renameat(-100, '/state/v4clients/aside', -100, place(partial, name))
    },
  ],
  [
    'replaces one by that of a newer version',
    (calls, name) => {
      calls.unlinkat(-100, place(partial, name), 0)
      calls.symlinkat('v9,more', -100, place(partial, name))
    },
  ],
  [
    'damages the older one',
    (calls, name) => {
      calls.symlinkat('damaged', -100, '/state/v4clients/aside')
      calls.renameat(-100, '/state/v4clients/aside', -100, place(full, name))
    },
  ],
  ['moves the older one over it', (calls, name) => calls.renameat(-100, place(full, name), -100, place(partial, name))],
  [
    'moves one to the older instance',
    (calls, name) => calls.renameat(-100, place(partial, name), -100, place(full, name)),
  ],
  ['gives one a second name', (calls, name) => calls.linkat(-100, place(full, name), -100, place(partial, name))],
]

/** What the process itself does. */
const own: readonly (readonly [string, (site: Site, name: string) => unknown])[] = [
  ['records', ({ state }, name) => records.put(state, { owner: owner(name), facts }, partial, [full])],
  ['records in the older', ({ state }, name) => records.put(state, { owner: owner(name), facts }, full, [])],
  [
    'learns of a session',
    ({ state }, name) =>
      records.put(state, { owner: owner(name), facts: { ...facts, session: 'has session' } }, partial, [full]),
  ],
  [
    'learns of a principal',
    ({ state }, name) => records.put(state, { owner: owner(name), facts: { ...facts, principal } }, partial, [full]),
  ],
  ['forgets', ({ state }, name) => [partial, full].map((start) => records.drop(state, owner(name), start))],
  [
    'asks for reports',
    ({ known }) => {
      known.settle()
    },
  ],
  ['lists', ({ state }) => [full, partial].map((start) => listOf(state, start))],
  ['reads beforehand', readBeforehand],
  [
    'closes',
    ({ state }) => {
      closeAll(state)
    },
  ],
]

/** The calls between which another process may come. */
const between = ['readlinkat', 'symlinkat', 'renameat', 'unlinkat', 'read', 'getdents64', 'inotify_add_watch', 'openat']

const acts = fc.array(
  fc.record({
    own: fc.constantFrom(...own),
    name: fc.constantFrom(...clients),
    foreign: fc.option(fc.constantFrom(...foreign), { freq: 3, nil: undefined }),
    about: fc.constantFrom(...clients),
    before: fc.constantFrom(...between, 'nothing'),
  }),
  { maxLength: 25 },
)

it('lists the same as a process that has just begun, whatever both and others have done in whatever order', () => {
  fc.assert(
    fc.property(acts, (all) => {
      const here = site()
      here.aside((calls) => ['ann', 'bob'].map((name) => make(calls, full, name)))
      for (const { own, name, foreign, about, before } of all) {
        if (foreign !== undefined) {
          const [, work] = foreign
          if (before === 'nothing') here.aside((calls) => work(calls, about))
          else here.atNext(before, (calls) => work(calls, about))
        }
        try {
          own[1](here, name)
        } catch {
          // As the storage's failures are: the directories are closed.
          closeAll(here.state)
        }
        lookAgain(here.state)
        here.atNext('none', () => undefined)
      }
      assertSame(here, 'at the end')
      assertSame(here, 'once more')
    }),
    { numRuns: 3000 },
  )
})
