import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { perform, performTogether } from '../../../lib/events/perform.ts'
import { Failed, report } from '../../../lib/failure.ts'
import { recordName } from '../../../lib/rules/record.ts'
import { lookAgain, openAnew } from '../../../lib/store/open-directories.ts'
import { atFlags } from '../../../lib/syscalls/calls.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import type { MemoryFiles } from '../../support/memory/files.ts'
import { stateDirectory, systemInMemory } from '../../support/memory/machine.ts'
import { check, create, ownerNamed, remove, worldOn, type Played } from './world.ts'

interface Machine extends Played {
  readonly files: MemoryFiles
  /** How often each directory was synced, by its path; and which sync fails. */
  readonly synced: Map<string, number>
  failing: string | undefined
  locks: number
}

const v4clients = `${stateDirectory}/v4clients`

function machine(): Machine {
  const files = systemInMemory()
  const { calls } = files
  const synced = new Map<string, number>()
  const played = worldOn(
    {
      ...calls,
      fsync: (descriptor) => {
        const path = calls.readlinkat(descriptor, `/proc/self/fd/${descriptor}`)
        assert.ok(typeof path === 'string')
        synced.set(path, (synced.get(path) ?? 0) + 1)
        return made.failing !== undefined && path.endsWith(made.failing) ? -errno.EIO : calls.fsync(descriptor)
      },
      symlinkat: (text, directory, name) => {
        if (name === 'lock') made.locks++
        return calls.symlinkat(text, directory, name)
      },
    },
    false,
  )
  const made: Machine = { ...played, files, synced, failing: undefined, locks: 0 }
  return made
}

const start = ({ world }: Played): void => {
  perform(world, { event: 'start', kernelBootTime: undefined })
}
const endGrace = ({ world }: Played): void => {
  perform(world, { event: 'grace-done', kernelBootTime: undefined, legacyTop: undefined })
}
/** The names in a directory of the state directory. */
const namesIn = ({ files }: Machine, directory: string): string[] =>
  [...files.tree(directory).keys()].filter((path) => path !== '' && !path.includes('/')).sort()
const instances = (m: Machine): string[] => namesIn(m, v4clients).filter((name) => /^[0-9]+$/.test(name))
const recordedIn = (m: Machine, instance = instances(m)[0] ?? ''): string[] => namesIn(m, `${v4clients}/${instance}`)
const lineOf = (m: Machine, instance: string, name: string): string => {
  const node = m.files.tree(`${v4clients}/${instance}`).get(recordName(ownerNamed(name)))
  assert.ok(node?.kind === 'link')
  return node.target
}
const failed = (outcome: Error | undefined): string | undefined =>
  outcome instanceof Failed ? outcome.failure.kind : outcome === undefined ? undefined : String(outcome)

describe('several requests together', () => {
  it('take one lock, and one barrier for each directory', () => {
    const m = machine()
    start(m)
    m.synced.clear()
    m.locks = 0
    const outcomes = performTogether(m.world, [
      create('ada'),
      create('bob'),
      remove('ada'),
      create('eve', 'no session'),
    ])
    assert.deepEqual(outcomes, [undefined, undefined, undefined, undefined])
    const [instance = ''] = instances(m)
    assert.deepEqual(
      [m.locks, [...m.synced], recordedIn(m, instance)],
      [1, [[`${v4clients}/${instance}`, 1]], ['bob', 'eve']],
    )
  })

  it('take no lock, if they are creates and the end of grace has been seen to be durable', () => {
    const m = machine()
    start(m)
    const locksOf = (...requests: Parameters<typeof performTogether>[1]): number => {
      m.locks = 0
      assert.ok(performTogether(m.world, requests).every((outcome) => outcome === undefined))
      return m.locks
    }
    assert.equal(locksOf(create('ada')), 1, 'in grace')
    endGrace(m)
    performTogether(m.world, [create('bob')])
    assert.equal(locksOf(create('cal'), create('dan')), 0)
    assert.equal(locksOf(create('eve'), remove('ada')), 1, 'a remove')
    start(m)
    assert.equal(locksOf(create('fay')), 1, 'another grace')
    assert.deepEqual(recordedIn(m, instances(m)[0]), ['bob', 'cal', 'dan', 'eve'])
    assert.deepEqual(recordedIn(m, instances(m)[1]), ['fay'])
  })

  it('wait for a holder of the lock that is soon done, and need not know who it is', () => {
    const m = machine()
    start(m)
    const { calls } = m.world
    calls.symlinkat('another', calls.openat(atFlags.AT_FDCWD, v4clients, calls.flags.O_RDONLY, 0), 'lock')
    const asked: string[] = []
    let waits = 0
    const patient = worldOn(
      {
        ...calls,
        sleep: () => {
          if (++waits === 3) m.files.remove(`${v4clients}/lock`)
        },
        readlinkat: (directory, name) => {
          if (name === 'lock') asked.push(calls.readlinkat(directory, name) as string)
          return calls.readlinkat(directory, name)
        },
      },
      false,
    )
    assert.deepEqual(performTogether(patient.world, [create('ada')]), [undefined])
    assert.deepEqual([waits, asked.includes('another'), namesIn(m, v4clients).includes('lock')], [3, false, false])
  })

  it('are recorded in the current instance, also if another was current at the last look', () => {
    const m = machine()
    start(m)
    endGrace(m)
    performTogether(m.world, [create('ada')])
    const another = worldOn(m.world.calls, false)
    start(another)
    lookAgain(m.world.state)
    assert.deepEqual(performTogether(m.world, [create('bob')]), [undefined])
    assert.deepEqual(recordedIn(m, instances(m)[1]), ['bob'])
  })

  it('are applied in their order: the last word about a client counts', () => {
    const m = machine()
    start(m)
    assert.deepEqual(performTogether(m.world, [remove('ada'), create('ada'), create('bob'), remove('bob')]), [
      undefined,
      undefined,
      undefined,
      undefined,
    ])
    assert.deepEqual(recordedIn(m), ['ada'])
  })

  it('each have their own outcome: a client that may not reclaim is refused, and the others are answered with 0', () => {
    const m = machine()
    start(m)
    perform(m.world, create('ada'))
    endGrace(m)
    start(m)
    const outcomes = performTogether(m.world, [check('eve', 'no session'), check('ada', 'no session'), create('new')])
    assert.deepEqual(outcomes.map(failed), ['may-not-reclaim', undefined, undefined])
  })

  it('fail by a failed barrier only if they need it', () => {
    const m = machine()
    start(m)
    perform(m.world, create('ada'))
    endGrace(m)
    const [older = ''] = instances(m)
    start(m)
    m.failing = older
    m.synced.clear()
    // In grace, a client may have a record in every older instance, so its remove must sync each of them.
    const outcomes = performTogether(m.world, [remove('ada'), create('new'), remove('nobody')])
    assert.deepEqual(outcomes.map(failed), [
      `Error: EIO: fsync '${m.world.state.clientsPath}/${older}'`,
      undefined,
      `Error: EIO: fsync '${m.world.state.clientsPath}/${older}'`,
    ])
    assert.equal(m.synced.get(`${v4clients}/${older}`), 1, 'a second fsync would not tell of what the first has lost')
  })

  it('make a state directory anew that was wiped under a running server, once for all of them', () => {
    const m = machine()
    start(m)
    m.files.remove(v4clients)
    openAnew(m.world.state)
    assert.deepEqual(performTogether(m.world, [remove('ada'), create('ada'), create('bob')]), [
      undefined,
      undefined,
      undefined,
    ])
    assert.equal(m.lines.filter((line) => /a new instance begins/.test(line)).length, 1)
    assert.deepEqual(recordedIn(m), ['ada', 'bob'])
  })
})

it('a request fails if the state directory is removed again and again: it is not made anew for ever', () => {
  const m = machine()
  start(m)
  let removed = 0
  const remove = (): void => {
    if (++removed > 20) throw new Error('for ever')
    m.files.remove(v4clients)
    openAnew(m.world.state)
  }
  remove()
  m.files.hooks.changed = ({ name, paths }) => {
    const isBegun = namesIn(m, v4clients).some((entry) => entry.endsWith('.full'))
    if (name === 'fsync' && paths[0] === v4clients && isBegun) remove()
  }
  assert.throws(
    () => {
      perform(m.world, create('ada'))
    },
    (thrown) => thrown instanceof Failed && / is removed again and again/.test(report(thrown.failure).line),
  )
})

it("an end of grace clears the kernel's own tracker, also if a full disk prevents a note of where that is", () => {
  for (const code of [errno.ENOSPC, errno.EDQUOT, errno.EROFS]) {
    const m = machine()
    start(m)
    const [top, client] = ['/srv/tracker', '0'.repeat(32)]
    m.files.plant(new Map([['', { kind: 'directory' }]]), top)
    m.files.plant(new Map([['', { kind: 'directory' }]]), `${top}/${client}`)
    m.files.hooks.before = ({ name, paths }) =>
      name === 'symlinkat' && paths.some((path) => path.endsWith('.legacy')) ? -code : undefined
    perform(m.world, { event: 'grace-done', kernelBootTime: undefined, legacyTop: top })
    assert.deepEqual([...m.files.tree(top).keys()], [''])
  }
})

const [ofAda, ofOther] = ['ab'.repeat(32), 'cd'.repeat(32)]

describe('a record', () => {
  it('keeps a principal and a session that a later create does not mention, and is not written again', () => {
    const m = machine()
    start(m)
    perform(m.world, create('ada', 'has session', ofAda))
    const [instance = ''] = instances(m)
    const line = lineOf(m, instance, 'ada')
    assert.match(line, new RegExp(`^v2,session=Y,recorded=[0-9]+,principal=${ofAda},`))
    for (const [session, principal] of [
      ['has session', undefined],
      ['unknown', undefined],
      ['unknown', ofAda.slice(0, 62)],
    ] as const) {
      perform(m.world, create('ada', session, principal))
      assert.equal(lineOf(m, instance, 'ada'), line)
    }
    assert.ok(
      m.lines.includes(`debug: "ada" recorded in instance ${instance}, with the principal that is known`),
      m.lines.join('\n'),
    )
  })

  it('gets a new principal, if one is told', () => {
    const m = machine()
    start(m)
    for (const principal of [ofOther, ofAda.slice(0, 62), ofAda]) {
      perform(m.world, create('ada', 'unknown', principal))
      assert.match(
        lineOf(m, instances(m)[0] ?? '', 'ada'),
        new RegExp(`^v2,session=\\?,recorded=[0-9]+,principal=${principal},`),
      )
    }
  })

  it('of an older instance keeps what is known when its client comes back by the pipe', () => {
    const m = machine()
    start(m)
    perform(m.world, create('ada', 'no session', ofAda))
    endGrace(m)
    const [older = ''] = instances(m)
    const line = lineOf(m, older, 'ada')
    start(m)
    const newer = instances(m).find((name) => name !== older) ?? ''
    perform(m.world, create('ada', 'unknown'))
    assert.equal(lineOf(m, newer, 'ada'), line)
  })
})

describe('a client of which it is not known whether it has a session', () => {
  it('keeps grace from ending early: it may never say that it is done', () => {
    for (const [session, asked] of [
      ['unknown', 0],
      ['has session', 2],
    ] as const) {
      const m = machine()
      start(m)
      perform(m.world, create('ada', 'has session'))
      endGrace(m)
      start(m)
      m.kernel.asked = 0
      perform(m.world, create('ada', session))
      perform(m.world, create('bob', 'has session'))
      assert.equal(m.kernel.asked, asked, session)
    }
  })
})

describe('a start', () => {
  it('tells the kernel who may reclaim, each with the principal that it was recorded with', () => {
    const m = machine()
    start(m)
    perform(m.world, create('ada', 'has session', ofAda))
    perform(m.world, create('bob', 'no session'))
    endGrace(m)
    m.kernel.allowed = []
    start(m)
    assert.deepEqual(m.kernel.allowed.map(({ owner, principal }) => [owner, principal]).sort(), [
      ['ada', ofAda],
      ['bob', undefined],
    ])
  })
})
