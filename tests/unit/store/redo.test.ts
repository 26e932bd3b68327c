/**
 * What an intent log has is made anew, or the log of a `serve` that lives is ended, while processes are killed, stand
 * still or are cut from power at each of their calls. What was answered holds, by the rule (tests/life/oracle.ts).
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { atFlags, type Calls } from '../../../lib/syscalls/calls.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import * as files from '../../../lib/syscalls/files.ts'
import { blank, judge, storageFailed, type Memory, type Owner } from '../../life/oracle.ts'
import { disagreement, futuresByRule } from '../../proof/futures.ts'
import { diskAt } from '../../proof/power-loss.ts'
import { ann, bob, cal, check, create, dan, remember, remove, start } from '../../proof/scenarios.ts'
import type { Node, Tree } from '../../proof/trees.ts'
import { callShown, type Made } from '../../support/memory/files.ts'
import { machineWith, runDirectory, stateDirectory, Stopped, type Machine } from '../../support/memory/machine.ts'
import { atOnce, upcall, type Act } from '../events/at-once.ts'
import { allowByHand, expireByHand, pruneByHand, repairByHand } from '../events/by-hand.ts'
import { everything, type Begun } from '../events/situations.ts'
import { observer, play } from '../events/states.ts'
import {
  changesDisk,
  creates,
  eventOf,
  isOfLog,
  serving,
  statusesOf,
  type Asked,
  type Serving,
} from '../serve/with-a-log.ts'

const clients: readonly Owner[] = [ann, bob, dan]
const states = observer()
/** How many states of a disk are looked at, at most. */
const most = everything ? 1500 : 8
/** One of so many calls is stopped before; with EVERY_PAIR every call. */
const sample = everything ? 1 : 5

interface Logged {
  readonly s: Serving
  /** By the rule. */
  readonly memory: Memory
}

/** A `serve` that has answered by its log that dan came, that ann went, and that bob went and came back. */
function logged(): Logged {
  const s = serving(8)
  const memory = remember(blank())
  const answered = (...asked: readonly Asked[]): void => {
    for (const status of statusesOf(s.step(asked))) assert.equal(status, 0)
    for (const event of asked.map(eventOf)) if (event !== undefined) judge(memory, event)
  }
  answered(['graceStart'])
  answered(...creates(ann, bob), ['graceDone'])
  s.step('rest')
  answered(...creates(dan))
  answered(['remove', ann])
  answered(['remove', bob])
  s.machine.files.process.now += 10_000
  answered(...creates(bob))
  return { s, memory }
}

const cut = ((): { readonly tree: Tree; readonly memory: Memory; readonly log: string } => {
  const { s, memory } = logged()
  const [tree = new Map<string, Node>()] = s.left()
  return { tree, memory, log: s.logs()[0] ?? '' }
})()

interface Booted {
  readonly machine: Machine
  /** What a power cut may leave now. */
  readonly left: () => Generator<Tree>
}

/** A machine whose disk has this, durably. */
function booted(tree: Tree = cut.tree, fault: (calls: Calls) => Partial<Calls> = () => ({})): Booted {
  const passBy = (): void => {
    machine.files.process.monotonic += 501
  }
  const machine: Machine = machineWith(undefined, (calls) => ({ sleep: passBy, ...fault(calls) }))
  const model = diskAt('/var/lib')
  machine.files.hooks.changed = (made) => {
    if (made.paths.some((path) => `${path}/`.startsWith('/var/lib/'))) model.apply(made)
  }
  putDurably(machine.files.calls, tree)
  machine.files.process.id += 5000
  machine.files.process.now += 100_000
  return {
    machine,
    left: function* () {
      let count = 0
      for (const whole of model.afterCut(() => undefined)) {
        if (count++ === most) return
        yield new Map(
          [...whole].flatMap(([path, node]) =>
            `${path}/`.startsWith('nfs/') ? [[path.slice('nfs/'.length), node] as const] : [],
          ),
        )
      }
    },
  }
}

function putDurably(calls: Calls, tree: Tree): void {
  const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL } = calls.flags
  const done = (answer: number): number => {
    assert.ok(answer >= 0)
    return answer
  }
  const synced = ['/var/lib']
  for (const [name, node] of tree) {
    const path = name === '' ? stateDirectory : `${stateDirectory}/${name}`
    if (node.kind === 'link') done(calls.symlinkat(node.target, atFlags.AT_FDCWD, path))
    else if (node.kind === 'directory') {
      done(calls.mkdirat(atFlags.AT_FDCWD, path, 0o700))
      synced.push(path)
    } else {
      const descriptor = done(calls.openat(atFlags.AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL, 0o600))
      files.writeWhole(calls, descriptor, Buffer.from(node.bytes, 'latin1'), path)
      synced.push(path)
      calls.close(descriptor)
    }
  }
  for (const path of synced) {
    const descriptor = done(calls.openat(atFlags.AT_FDCWD, path, O_RDONLY, 0))
    done(calls.fsync(descriptor))
    calls.close(descriptor)
  }
}

/** Before call number `at` that changes the disk, something happens. @returns before which call; undefined: none */
function before(
  hooks: { before: (made: Made) => number | undefined },
  at: number,
  happens: (made: Made) => void,
  work: () => unknown,
): string | undefined {
  let calls = 0
  let where: string | undefined
  hooks.before = (made) => {
    if (!changesDisk(made) || calls++ !== at) return undefined
    where = callShown(made)
    happens(made)
    return undefined
  }
  work()
  hooks.before = () => undefined
  return where
}

const stop = (): never => {
  throw new Stopped()
}

const after = (memory: Memory, ...acts: readonly (Act | undefined)[]): Memory => {
  const then = remember(memory)
  for (const act of acts) {
    const event = act?.meanings[0]?.event
    if (event !== undefined) judge(then, event)
  }
  return then
}

/** What one of these memories does not allow, of all that a power cut may leave. */
function* lostIn(trees: Iterable<Tree>, ...allowed: readonly Memory[]): Generator<string> {
  const rules = allowed.map((memory) => futuresByRule(memory, clients))
  for (const tree of trees) {
    const wrong = disagreement(states.futures(states.standing(tree), clients, 'power cut'), rules, 'power cut')
    if (wrong !== undefined) yield `cut: ${wrong}`
  }
}

/** The same as it is now. */
function* wrongNow({ files: there }: Machine, ...allowed: readonly Memory[]): Generator<string> {
  const rules = allowed.map((memory) => futuresByRule(memory, clients))
  const standing = states.standing(there.tree(stateDirectory), there.tree(runDirectory))
  const wrong = disagreement(states.futures(standing, clients, 'power cut'), rules, 'power cut')
  if (wrong !== undefined) yield wrong
}

const logsOn = ({ files: there }: Machine): readonly string[] =>
  [...there.tree(stateDirectory).keys()].filter((path) => path.includes('intent'))

const acts: readonly Act[] = [
  upcall(remove(dan)),
  upcall(create(ann, 'Y')),
  upcall(create(dan, 'N')),
  upcall(check(dan, 'Y')),
  upcall(check(ann, 'N')),
  upcall(remove(bob)),
  upcall(remove(ann)),
  upcall(start('9000')),
  upcall({ event: 'grace done', bootTime: undefined }),
  expireByHand(bob),
  expireByHand(dan),
  allowByHand(dan),
  pruneByHand,
  repairByHand,
]
const [removesDan, createsAnn] = [upcall(remove(dan)), upcall(create(ann, 'Y'))]

describe('after a power cut, where an intent log has more than its directory', () => {
  it('the directory lacks what came last, and the rule holds all the same', () => {
    const names = [...cut.tree.keys()].map((path) => path.replace(/^.*\//, ''))
    assert.deepEqual([names.includes('ann'), names.includes('dan'), cut.log !== ''], [true, false, true])
    assert.deepEqual([...lostIn([cut.tree], cut.memory)], [])
    const without = new Map([...cut.tree].filter(([path]) => path !== cut.log))
    assert.notDeepEqual([...lostIn([without], cut.memory)], [])
  })

  for (const [number, act] of acts.entries()) {
    it(`${act.name}: what it answers is as if all had been in the directory, and is durable`, () => {
      const { machine, left } = booted()
      const status = act.play(machine, undefined)
      const [due] =
        act.meanings[0]?.statuses ?? judge(remember(cut.memory), act.meanings[0]?.event ?? check(ann, 'Y')).statuses
      assert.equal(status, due)
      assert.deepEqual([...wrongNow(machine, after(cut.memory, act))], [])
      assert.deepEqual([...lostIn(left(), after(cut.memory, act))], [])
      if (act.name !== 'check dan Y') assert.deepEqual(logsOn(machine), [])
    })

    it(`${act.name} is killed: all holds after another power cut, and so does what another is answered`, () => {
      const found = new Set<string>()
      for (let at = 0; ; at++) {
        const { machine, left } = booted()
        const where = before(machine.files.hooks, at, stop, () => act.play(machine, undefined))
        if (where === undefined) break
        const allowed = [cut.memory, after(cut.memory, act)]
        for (const lost of lostIn(left(), ...allowed)) found.add(`killed before ${where}: ${lost}`)
        for (const [which, next] of [removesDan, createsAnn].entries()) {
          if ((at + number + which) % sample !== 0 || act.name.startsWith('start')) continue
          const again = booted()
          before(again.machine.files.hooks, at, stop, () => act.play(again.machine, undefined))
          assert.equal(next.play(again.machine, undefined), 0)
          const then = [after(cut.memory, next), after(cut.memory, act, next)]
          for (const wrong of [...wrongNow(again.machine, ...then), ...lostIn(again.left(), ...then)])
            found.add(`killed before ${where}, then ${next.name}: ${wrong}`)
        }
      }
      assert.deepEqual([...found], [])
    })
  }

  it('two at once: the outcome is that of some order, and no log is left', () => {
    const { files: there } = machineWith()
    const begun: Begun = {
      memory: cut.memory,
      bootTime: undefined,
      grace: undefined,
      judge: undefined,
      asks: 'power cut',
      cutShort: undefined,
      putOn: (machine) => {
        machine.files.replace(stateDirectory, cut.tree)
        machine.files.replace(runDirectory, there.tree(runDirectory))
        Object.assign(machine.files.process, { id: 60_000, now: 1_800_000_200_000, monotonic: 0 })
        machine.log.length = 0
      },
    }
    const found: string[] = []
    let stops = 0
    for (const [number, first] of acts.entries())
      for (const [which, other] of acts.entries()) {
        const isChosen = other === acts[0] ? number % 3 === 0 : (number + which) % (4 * sample) === 0
        if ((!everything && !isChosen) || first.name.startsWith('start') !== other.name.startsWith('start')) continue
        const met = atOnce({ before: begun, first, others: [other], clients })
        stops += met.stops
        found.push(...met.violations.slice(0, 1).map(({ what }) => what))
      }
    console.log(`# ${stops} stops`)
    assert.deepEqual(found, [])
  })

  it('one stands still, another is answered, and the power is cut, or it goes on: what was answered holds', () => {
    const found = new Set<string>()
    for (const [number, first] of [...acts.slice(0, 6), expireByHand(bob), repairByHand].entries())
      for (const [which, other] of [removesDan, createsAnn].entries())
        for (let at = everything ? 0 : (number + which) % sample; ; at += sample) {
          const { machine, left } = booted()
          let status: unknown
          const trees: Tree[] = []
          const where = before(
            machine.files.hooks,
            at,
            () => {
              status = other.play(machine.meanwhile, undefined)
              trees.push(...left())
            },
            () => first.play(machine, undefined),
          )
          if (where === undefined) break
          assert.equal(status, 0)
          const both = [after(cut.memory, first, other), after(cut.memory, other, first)]
          for (const wrong of [
            ...lostIn(trees, after(cut.memory, other), ...both),
            ...wrongNow(machine, ...both),
            ...lostIn(left(), ...both),
          ])
            found.add(`${first.name} stands before ${where}, ${other.name} is answered: ${wrong}`)
          if (logsOn(machine).length > 0 && first.name !== 'check dan Y')
            found.add(`${first.name} stands before ${where}: left ${logsOn(machine).join()}`)
        }
    assert.deepEqual([...found], [])
  })

  it('the directory through which changes are made anew may go at any moment: they are made all the same', () => {
    const redo = `${stateDirectory}/v4clients/intent-log.redo`
    for (let at = 0; ; at++) {
      const { machine, left } = booted()
      // Somebody has found a log that has nothing.
      const takeAway = (): void => {
        machine.meanwhile.program((calls) => calls.unlinkat(atFlags.AT_FDCWD, redo, atFlags.AT_REMOVEDIR))
      }
      const where = before(machine.files.hooks, at, takeAway, () => {
        assert.equal(removesDan.play(machine, undefined), 0)
      })
      if (where === undefined) break
      assert.deepEqual([...lostIn(left(), after(cut.memory, removesDan))], [], where)
    }
  })

  it('three at once: one stands still, a second is killed, a third is answered; then the first goes on', () => {
    const found = new Set<string>()
    for (const other of [removesDan, createsAnn])
      for (let at = 0; ; at += everything ? 1 : 3) {
        let where: string | undefined
        for (let then = everything ? 0 : at % 4; ; then += everything ? 1 : 4) {
          const { machine, left } = booted()
          let killed: string | undefined
          where = before(
            machine.files.hooks,
            at,
            () => {
              killed = before(machine.aside, then, stop, () => upcall(remove(bob)).play(machine.meanwhile, undefined))
              assert.equal(other.play(machine.meanwhile, undefined), 0)
            },
            () => upcall(check(dan, 'N')).play(machine, undefined),
          )
          if (where === undefined || killed === undefined) break
          const allowed = [after(cut.memory, other), after(cut.memory, upcall(remove(bob)), other)]
          for (const wrong of [...wrongNow(machine, ...allowed), ...lostIn(left(), ...allowed)])
            found.add(`one stands before ${where}, one is killed before ${killed}, ${other.name}: ${wrong}`)
        }
        if (where === undefined) break
      }
    assert.deepEqual([...found], [])
  })

  it('where v4clients has more names than one call gives, the log is seen', () => {
    for (const act of [upcall(check(dan, 'Y')), upcall(remove(bob)), upcall(start('9000'))]) {
      const { machine, left } = booted(cut.tree, () => ({ names: () => -errno.E2BIG }))
      assert.equal(act.play(machine, undefined), 0)
      assert.deepEqual([...lostIn(left(), after(cut.memory, act))], [])
    }
  })

  it('on a full disk, nothing is answered that does not hold, and all is as it should be once there is room', () => {
    for (const refusing of [['mkdirat'], ['symlinkat'], ['mkdirat', 'symlinkat', 'write', 'pwrite64']])
      for (const act of acts) {
        const { machine, left } = booted()
        machine.files.hooks.before = (made) =>
          changesDisk(made) && refusing.includes(made.name) && !made.paths.some((path) => path.endsWith('/lock'))
            ? -errno.ENOSPC
            : undefined
        const status = act.play(machine, undefined)
        machine.files.hooks.before = () => undefined
        const allowed = status === 0 ? [after(cut.memory, act)] : [cut.memory, after(cut.memory, act)]
        assert.deepEqual([...lostIn(left(), ...allowed)], [], `${act.name} said ${String(status)}`)
      }
  })

  it('on a disk that is mounted read-only, a reader of what the directory lacks fails; otherwise it reads', () => {
    const { machine: mended } = booted()
    assert.equal(play(mended, remove(ann)), 0)
    const log = cut.tree.get(cut.log)
    assert.ok(log !== undefined)
    const whole = new Map([...mended.files.tree(stateDirectory), [cut.log, log] as const])
    for (const [tree, status] of [
      [cut.tree, storageFailed],
      [whole, 0],
    ] as const) {
      const { machine } = booted(tree)
      machine.files.hooks.before = (made) => (changesDisk(made) ? -errno.EROFS : undefined)
      assert.equal(play(machine, check(dan, 'Y')), status, machine.log.join(''))
      machine.files.hooks.before = () => undefined
      assert.equal(machine.files.tree(stateDirectory).get(cut.log)?.kind, 'file')
      assert.equal(play(machine, check(dan, 'Y')), 0)
    }
  })

  it('a file or a link with the name of that directory: nothing is answered until somebody moves it away', () => {
    for (const node of [
      { kind: 'file', bytes: '' },
      { kind: 'link', target: '-' },
    ] as const) {
      const { machine } = booted(new Map([...cut.tree, ['v4clients/intent-log.redo', node]]))
      assert.notEqual(play(machine, remove(dan)), 0)
      assert.match(machine.log.join(''), /move it away/)
      machine.files.remove(`${stateDirectory}/v4clients/intent-log.redo`)
      assert.equal(play(machine, remove(dan)), 0)
    }
  })
})

/** One bit of a block is another one. */
function damaged(tree: Tree, block: number): Tree {
  const node = tree.get(cut.log)
  assert.ok(node?.kind === 'file')
  const at = 4096 * block + 2
  const bytes = node.bytes.slice(0, at) + String.fromCharCode(node.bytes.charCodeAt(at) ^ 1) + node.bytes.slice(at + 1)
  return new Map([...tree, [cut.log, { kind: 'file', bytes }]])
}

/** A disk that can't read one block of an intent log. What comes before it is read. */
const unreadable =
  (block: number) =>
  (calls: Calls): Partial<Calls> => {
    const readable = new Map<number, number>()
    return {
      openat: (within, name, ...words) => {
        const descriptor = calls.openat(within, name, ...words)
        readable.delete(descriptor)
        if (/intent-log\.[0-9]/.test(name)) readable.set(descriptor, 4096 * block)
        return descriptor
      },
      readText: (descriptor, length) => {
        const rest = readable.get(descriptor)
        if (rest === undefined) return calls.readText(descriptor, length)
        if (rest === 0) return -errno.EIO
        const text = calls.readText(descriptor, Math.min(length, rest))
        if (typeof text === 'string') readable.set(descriptor, rest - text.length)
        return text
      },
    }
  }

describe('a damaged intent log', () => {
  const nobody = (trees: Iterable<Tree>): readonly string[] =>
    [...trees].flatMap((tree) => {
      const { restart } = states.futures(states.standing(tree), clients, 'power cut')
      return restart === '' ? [] : [restart]
    })
  for (const [title, block] of [
    ['its header', 0],
    ['the first entry', 1],
    ['one in the middle', 2],
  ] as const) {
    const tree = damaged(cut.tree, block)
    it(`${title}: the first that looks fails and says why, and nobody may reclaim`, () => {
      const { machine, left } = booted(tree)
      assert.notEqual(play(machine, check(dan, 'N')), 0)
      assert.match(machine.log.join(''), /can't be understood/)
      assert.deepEqual(nobody(left()), [])
      assert.deepEqual(nobody([machine.files.tree(stateDirectory)]), [])
      assert.equal(
        [...machine.files.tree(stateDirectory).keys()].filter((path) => /damaged\/intent-log/.test(path)).length,
        1,
      )
      assert.equal(play(machine, start('9000')), 0)
      assert.equal(play(machine, create(cal, 'Y')), 0)
    })
    it(`${title}: whoever looks is killed, and the power is cut: nobody may reclaim`, () => {
      const found = new Set<string>()
      for (let at = 0; ; at++) {
        const { machine, left } = booted(tree)
        const where = before(machine.files.hooks, at, stop, () => play(machine, check(ann, 'N')))
        if (where === undefined) break
        for (const who of nobody(left())) found.add(`killed before ${where}: ${who}`)
      }
      assert.deepEqual([...found], [])
    })
  }
  it('the last entry: it is none, because it was never answered', () => {
    const allowed = remember(cut.memory)
    judge(allowed, remove(bob))
    assert.deepEqual([...lostIn([damaged(cut.tree, 4)], allowed)], [])
  })
  for (const block of [0, 1, 2, 3])
    it(`a disk that can not read block ${block}: nobody may reclaim at the next start, and the server serves`, () => {
      const { machine } = booted(cut.tree, unreadable(block))
      assert.notEqual(play(machine, check(dan, 'N')), 0)
      const { files: there } = machine
      const standing = states.standing(there.tree(stateDirectory), there.tree(runDirectory))
      assert.equal(states.futures(standing, clients, 'power cut').restart, '')
      // Whose log it was is in block 0. Then only the run directory says that nobody may.
      if (block > 0) assert.deepEqual(nobody([there.tree(stateDirectory)]), [])
      assert.equal(play(machine, start('9000')), 0)
      assert.equal(play(machine, create(cal, 'Y')), 0)
    })
})

const isDirectorySync = ({ name, paths: [path = ''] }: Made): boolean =>
  name === 'fsync' && /\/v4clients\/[0-9]+$/.test(path)

describe('the intent log of a serve that lives, and another process', () => {
  const others: readonly Act[] = [removesDan, upcall(create(cal, 'Y')), expireByHand(dan), repairByHand]

  it('ends it, and is answered: what both have answered holds after a power cut', () => {
    for (const act of acts) {
      const { s, memory } = logged()
      act.play(s.machine, undefined)
      const trees = [...s.left()].slice(0, most)
      assert.deepEqual([...lostIn(trees, after(memory, act))], [], act.name)
    }
  })

  it('a client that only asks does not end it', () => {
    const { s } = logged()
    assert.equal(play(s.machine, check(dan, 'Y')), 0)
    assert.equal(s.logs().length, 1)
  })

  it('is killed while it ends it; what serve, or a third, answers then holds after a power cut', () => {
    const found = new Set<string>()
    for (const [number, act] of others.entries())
      for (const next of ['serve', removesDan, createsAnn] as const)
        for (let at = everything ? 0 : number % 2; ; at += everything ? 1 : 2) {
          const { s, memory } = logged()
          const where = before(s.machine.files.hooks, at, stop, () => act.play(s.machine, undefined))
          if (where === undefined) break
          const status = next === 'serve' ? statusesOf(s.step([['create', ann]]))[0] : next.play(s.machine, undefined)
          assert.equal(status, 0)
          const by = next === 'serve' ? upcall(create(ann, 'N')) : next
          const allowed = [after(memory, by), after(memory, act, by)]
          const trees = [...s.left()].slice(0, most)
          s.die()
          for (const wrong of [...lostIn(trees, ...allowed), ...wrongNow(s.machine, ...allowed)])
            found.add(`${act.name} is killed before ${where}, then ${by.name}: ${wrong}`)
        }
    assert.deepEqual([...found], [])
  })

  /**
   * A process that has marked the log and synced the directory stands still, when `serve` is before one of its calls;
   * `serve` answers; then that process goes on.
   */
  for (const [title, isMaking] of [
    ['serve makes it', true],
    ['serve uses it', false],
  ] as const)
    it(`${title}, one is about to empty it, serve answers, and that one goes on: what serve has answered holds`, () => {
      const found = new Set<string>()
      for (let at = 0; ; at++) {
        const { s, memory } = logged()
        const { machine } = s
        if (isMaking) {
          assert.equal(play(machine, remove(cal)), 0)
          s.step('rest')
          assert.deepEqual(s.logs(), [])
        }
        const other = { hasSynced: false, stands: false }
        const firstHalf = (): void => {
          machine.aside.before = (made) => {
            if (other.hasSynced && changesDisk(made)) {
              other.stands = true
              throw new Stopped()
            }
            other.hasSynced ||= isDirectorySync(made)
            return undefined
          }
          play({ ...machine, ...machine.meanwhile }, remove(cal))
        }
        let calls = 0
        let where: string | undefined
        machine.files.hooks.before = (made) => {
          if (!(changesDisk(made) || isOfLog(made)) || calls++ !== at) return undefined
          where = callShown(made)
          firstHalf()
          return undefined
        }
        if (isMaking) s.step('rest')
        const [status] = statusesOf(s.step([['create', ann]]))
        machine.files.hooks.before = () => undefined
        if (where === undefined) break
        assert.equal(status, 0)
        if (!other.stands) continue
        // It has synced the directory, and does not do that again.
        machine.aside.before = (made) => (isDirectorySync(made) ? 0 : undefined)
        play({ ...machine, ...machine.meanwhile }, remove(cal))
        machine.aside.before = () => undefined
        for (const lost of lostIn([...s.left()].slice(0, most), after(memory, createsAnn)))
          found.add(`serve is before ${where}: ${lost}`)
      }
      assert.deepEqual([...found], [])
    })

  it('is ended while serve writes an entry to it, and serve is killed: the entry undoes nothing that is answered later', () => {
    const found = new Set<string>()
    for (let at = 0, isOver = false; !isOver; at++)
      for (let then = at; ; then++) {
        const s = serving()
        s.step([['graceStart']])
        s.step([...creates(ann, bob), ['graceDone']])
        s.step('rest')
        let calls = -1
        let where: string | undefined
        let killed: string | undefined
        s.machine.files.hooks.before = (made) => {
          if (killed !== undefined) throw new Stopped()
          if (!changesDisk(made) && !isOfLog(made)) return undefined
          calls++
          if (calls === at) {
            where = callShown(made)
            assert.equal(play({ ...s.machine, ...s.machine.meanwhile }, remove(cal)), 0)
          }
          if (calls !== then) return undefined
          killed = callShown(made)
          throw new Stopped()
        }
        try {
          s.step(creates(dan))
        } catch (thrown) {
          if (!(thrown instanceof Stopped)) throw thrown
        }
        s.machine.files.hooks.before = () => undefined
        isOver = where === undefined
        if (killed === undefined) break
        s.die()
        assert.equal(play(s.machine, remove(dan)), 0)
        for (const tree of s.left()) {
          const { restart } = states.futures(states.standing(tree), clients, 'power cut')
          if (restart !== 'ann bob') found.add(`ended before ${String(where)}, killed before ${killed}: ${restart}`)
        }
      }
    assert.deepEqual([...found], [])
  })

  it('is made after an upcall was killed: a record that it had made, or removed, is durable once serve has answered', () => {
    for (const [event, asked, due] of [
      [create(ann, 'N'), ['create', ann], 'ann bob dan'],
      [remove(dan), ['remove', dan], 'bob'],
    ] as const) {
      const s = serving()
      s.step([['graceStart']])
      s.step([...creates(bob, dan), ['graceDone']])
      s.machine.files.hooks.before = (made) => (isDirectorySync(made) ? stop() : undefined)
      assert.equal(play(s.machine, event), 'stopped')
      s.machine.files.hooks.before = () => undefined
      s.step('rest')
      assert.equal(s.logs().length, 1)
      assert.deepEqual(statusesOf(s.step([asked])), [0])
      for (const tree of s.left())
        assert.equal(states.futures(states.standing(tree), clients, 'power cut').restart, due)
    }
  })

  it('a start does what a killed upcall had begun, and no log undoes that when serve is killed', () => {
    const { s } = logged()
    // It is killed before it has looked.
    before(s.machine.files.hooks, 0, stop, () => play(s.machine, remove(dan)))
    assert.equal(s.logs().length, 1)
    assert.deepEqual(statusesOf(s.step([['graceStart']])), [0])
    s.die()
    const { restart } = states.futures(
      states.standing(s.machine.files.tree(stateDirectory), s.machine.files.tree(runDirectory)),
      [dan],
      'power cut',
    )
    assert.equal(restart, '')
  })
})
