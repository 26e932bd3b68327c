/**
 * A disk that really hangs: its file system is frozen (FIFREEZE), as for a snapshot. An upcall waits there, and is
 * killed. What kills it, and when, does not matter to the kernel: it goes on. So after the disk works again the next
 * start must know what that upcall should have done.
 *
 * HUNG_DISK=1 also waits 45 seconds for the alarm of an upcall, which is what kills it in earnest.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { it } from 'node:test'
import { stoppedBefore } from '../support/strace.ts'
import { until } from '../support/until.ts'
import { onItsOwnDisk } from './own-disk.ts'
import { done, eachArtefact, hex, mayNotReclaim, server, type Server } from './server.ts'

interface Disk {
  readonly freeze: () => void
  readonly thaw: () => void
}

/** Moves a server's state to a disk of its own, which works again at the latest when the test is over. */
function diskOf(s: Server): Disk {
  let isFrozen = false
  const thaw = (): void => {
    if (isFrozen) execFileSync('fsfreeze', ['--unfreeze', s.stateDir])
    isFrozen = false
  }
  s.atEnd(thaw)
  onItsOwnDisk(s, 'ext4')
  return {
    thaw,
    freeze: () => {
      execFileSync('fsfreeze', ['--freeze', s.stateDir])
      isFrozen = true
    },
  }
}

/**
 * Waits until a process of this server waits for the frozen file system. Its `wchan` does not show that: a process that
 * forks or exits waits in the same function while any process is moved to another control group.
 * @returns its number.
 */
const hung = (s: Server): Promise<number> =>
  until('an upcall hangs', () =>
    readdirSync('/proc')
      .filter((name) => /^[0-9]+$/.test(name) && proc(name, 'cmdline').includes(s.machine.dir))
      .filter((name) => /mnt_want_write|sb_start|freeze/.test(proc(name, 'stack')))
      .map(Number)
      .at(0),
  )

/** Processes come and go while they are looked at. */
function proc(id: string, file: string): string {
  try {
    return readFileSync(`/proc/${id}/${file}`, 'latin1')
  } catch {
    return ''
  }
}

/** Runs an upcall on the frozen disk, and kills it. It dies when the disk works again. */
async function killedOn({ freeze, thaw }: Disk, s: Server, upcall: () => Promise<{ status: unknown }>): Promise<void> {
  freeze()
  const ended = upcall()
  try {
    process.kill(await hung(s), 'SIGKILL')
  } finally {
    thaw()
  }
  const { status } = await ended
  assert.ok(status === 'SIGKILL' || status === 128 + 9, `it ended with ${String(status)}`)
}

const mayReclaim = async (s: Server, ...owners: readonly string[]): Promise<string[]> => {
  const may: string[] = []
  for (const owner of owners) {
    const { status } = await s.check(owner, 'v4.1')
    assert.ok(status === done || status === mayNotReclaim, `check ended with ${status}`)
    if (status === done) may.push(owner)
  }
  return may
}

const withSession = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }

eachArtefact('an upcall that hangs with its disk, and is killed', (artefact) => {
  it('a remove: the client may not reclaim after the next start, and nobody else loses anything', async () => {
    const s = server(artefact)
    const disk = diskOf(s)
    await s.fullInstanceWith('ada', 'bob')
    await killedOn(disk, s, () => s.remove('ada'))
    assert.equal((await s.init()).status, done)
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ['bob'])
  })

  it('an end of grace: after the next start only those may reclaim who were active', async () => {
    const s = server(artefact)
    const disk = diskOf(s)
    await s.fullInstanceWith('ada', 'bob')
    await s.init('100')
    await s.create('ada', 'v4.1', '100')
    await killedOn(disk, s, () => s.graceDone('100'))
    assert.equal((await s.init('200')).status, done)
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ['ada'])
  })

  it('a create that has made its record: the client may not reclaim, because the kernel never says when it is gone', async () => {
    const s = server(artefact)
    const disk = diskOf(s)
    await s.fullInstanceWith('bob')
    // In grace a create has the lock, and what hangs is that it is given back.
    await s.init('100')
    const wake = await stoppedBefore(s, ['create', hex('ada')], withSession, { name: 'unlink', nth: 1 })
    assert.match(s.snapshot(), /\/ada -> /, 'its record is there')
    await killedOn(disk, s, wake)
    assert.equal((await s.init('200')).status, done)
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ['bob'])
  })

  it('a create of a client that reclaims: its older record counts again, until that grace period is over', async () => {
    for (const ends of [false, true]) {
      const s = server(artefact)
      const disk = diskOf(s)
      await s.fullInstanceWith('ada', 'bob')
      await s.init('100')
      const wake = await stoppedBefore(s, ['create', hex('ada')], withSession, { name: 'unlink', nth: 1 })
      await killedOn(disk, s, wake)
      if (ends) assert.equal((await s.graceDone('100')).status, done)
      assert.equal((await s.init('200')).status, done)
      assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ends ? [] : ['ada', 'bob'])
    }
  })

  const isWaitedFor = 'HUNG_DISK' in process.env && artefact.name === 'executable'
  it('its alarm is what kills it, after 45 seconds', { skip: !isWaitedFor }, async () => {
    const s = server(artefact)
    const disk = diskOf(s)
    await s.fullInstanceWith('ada', 'bob')
    disk.freeze()
    const ended = s.remove('ada')
    try {
      const id = String(await hung(s))
      const alarm = 1n << 13n
      await until('the alarm has come', () =>
        [...proc(id, 'status').matchAll(/^(?:Sig|Shd)Pnd:\t([0-9a-f]+)$/gm)].some(
          ([, pending]) => (BigInt(`0x${pending ?? '0'}`) & alarm) !== 0n,
        ),
      )
    } finally {
      disk.thaw()
    }
    assert.equal((await ended).status, 'SIGALRM')
    assert.equal((await s.init()).status, done)
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ['bob'])
  })
})
