/** What `serve` could not write: it is kept, done as soon as the disk works again, and believed only if it is ours. */
import assert from 'node:assert/strict'
import { chmodSync, chownSync, lstatSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type Machine } from '../support/artefacts.ts'
import { answerOf } from '../support/pipe/nfsd.ts'
import {
  hex,
  client,
  named,
  started,
  startedWith,
  namedAfterRestart,
  allDone,
  onSmallDisk,
  eventually,
} from './at-a-pipe.ts'

describe('if the disk fails', () => {
  it('a create is answered with an error, kept, and recorded as soon as the disk works again', () =>
    onSmallDisk(async ({ end, serve, machine }, disk) => {
      const daemon = await serve()
      const nfsd = await startedWith(end, 'ann')
      disk.fill()
      assert.notEqual(await nfsd.tell('create', client('bob')), 0)
      const missing = `"not_recorded":["${hex('bob')}"]`
      await eventually(() => statusOfServe(machine).includes(missing))
      disk.empty()
      await eventually(() => statusOfServe(machine).includes('"not_recorded":[]'))
      await daemon.says(/ENOSPC/)
      assert.deepEqual(await namedAfterRestart(end, nfsd), ['ann', 'bob'])
    }))

  it('for a create, and serve then dies, the next serve records it', () =>
    onSmallDisk(async ({ end, serve, machine }, disk) => {
      const daemon = await serve()
      const nfsd = await startedWith(end, 'ann')
      disk.fill()
      for (const name of ['bob', 'cal']) assert.notEqual(await nfsd.tell('create', client(name)), 0)
      assert.equal(await nfsd.tell('remove', client('cal')), 0)
      await daemon.kill()
      const next = await serve()
      await eventually(() => statusOfServe(machine).includes(`"not_recorded":["${hex('bob')}"]`))
      disk.empty()
      await eventually(() => statusOfServe(machine).includes('"not_recorded":[]'))
      await next.says(/create, which had failed, is done/)
      assert.deepEqual(keptIn(machine), [])
      assert.deepEqual(await namedAfterRestart(end, nfsd), ['ann', 'bob'])
    }))

  it('for a create, and serve then dies, nobody records it at the pipe of a later start', () =>
    onSmallDisk(async ({ end, serve }, disk) => {
      const daemon = await serve()
      const nfsd = await startedWith(end, 'ann')
      disk.fill()
      assert.notEqual(await nfsd.tell('create', client('bob')), 0)
      await daemon.kill()
      await nfsd.stop()
      disk.empty()
      await serve()
      const next = await started(end)
      assert.deepEqual(named(next), ['ann'])
      assert.deepEqual(await namedAfterRestart(end, next), ['ann'])
    }))

  it('for a remove, nobody may reclaim after a restart, as long as it is not done', () =>
    onSmallDisk(async ({ end, serve }, disk) => {
      const daemon = await serve()
      const nfsd = await startedWith(end, 'ann', 'bob')
      await disk.readOnly()
      assert.notEqual(await nfsd.tell('remove', client('ann')), 0)
      await daemon.kill()
      await nfsd.stop()
      disk.writable()
      await serve()
      assert.deepEqual(named(await started(end)), [])
    }))

  it('for a remove, and serve then dies, the next serve does it, and then all others may reclaim', () =>
    onSmallDisk(async ({ end, serve }, disk) => {
      const daemon = await serve()
      const nfsd = await startedWith(end, 'ann', 'bob')
      await disk.readOnly()
      assert.notEqual(await nfsd.tell('remove', client('ann')), 0)
      await daemon.kill()
      const next = await serve()
      disk.writable()
      await next.says(/remove, which had failed, is done/)
      assert.deepEqual(await namedAfterRestart(end, nfsd), ['bob'])
    }))

  it('for a remove, and serve then dies and its list is lost, nobody may reclaim after a restart, whatever the next serve can do', () =>
    onSmallDisk(async ({ end, serve, machine }, disk) => {
      const daemon = await serve()
      const nfsd = await startedWith(end, 'ann', 'bob', 'cal')
      await disk.readOnly()
      assert.notEqual(await nfsd.tell('remove', client('ann')), 0)
      await daemon.kill()
      const lists = keptIn(machine)
      assert.equal(lists.length, 1)
      for (const list of lists) rmSync(list)
      const next = await serve()
      assert.notEqual(await nfsd.tell('remove', client('bob')), 0)
      disk.writable()
      await next.says(/remove, which had failed, is done/)
      assert.deepEqual(await namedAfterRestart(end, nfsd), [])
    }))

  it('for a remove, it is done as soon as the disk works again, and then all others may reclaim', () =>
    onSmallDisk(async ({ end, serve }, disk) => {
      const daemon = await serve()
      const nfsd = await startedWith(end, 'ann', 'bob')
      await disk.readOnly()
      assert.notEqual(await nfsd.tell('remove', client('ann')), 0)
      disk.writable()
      await daemon.says(/remove, which had failed, is done/)
      assert.deepEqual(await namedAfterRestart(end, nfsd), ['bob'])
    }))

  it('for a start, the server gets an empty list, and nobody may reclaim after the next start', () =>
    onSmallDisk(async ({ end, serve }, disk) => {
      const daemon = await serve()
      const first = await startedWith(end, 'ann')
      await first.stop()
      await disk.readOnly()
      assert.deepEqual(named(await started(end)), [])
      await daemon.says(/critical/)
      end.remove()
      disk.writable()
      assert.deepEqual(named(await started(end)), [])
    }))

  it('for every call, no thread hangs: each message is answered', () =>
    onSmallDisk(async ({ end, serve }, disk) => {
      await serve()
      const nfsd = await startedWith(end, 'ann')
      await disk.readOnly()
      const threads = nfsd.sendAll([
        ...Array.from({ length: 15 }, (_, at) => ['create', client(`client ${at}`)] as const),
        ['remove', client('ann')],
        ['graceDone', {}],
      ])
      for (const thread of threads) await answerOf(thread)
      disk.writable()
    }))
})

describe('if another user could write to', () => {
  const another = 12345

  for (const [mode, and, due] of [
    [0o755, '', ['ann', 'cal']],
    // Perhaps there is a mark, so nobody may reclaim.
    [0o700, ' so that it can not be read', []],
  ] as const)
    it(`the run directory${and}, what a serve has left there is not believed: it says why, and answers all the same`, () =>
      onSmallDisk(async ({ end, serve, machine }, disk) => {
        const daemon = await serve()
        const nfsd = await startedWith(end, 'ann')
        disk.fill()
        assert.notEqual(await nfsd.tell('create', client('bob')), 0)
        await daemon.kill()
        disk.empty()
        chmodSync(machine.runDir, mode)
        chownSync(machine.runDir, another, another)
        const before = filesIn(machine.runDir)
        const next = await serve()
        await next.says(/no note can be made in the run directory .*belongs to another user \(12345\)/)
        await allDone(nfsd.send('create', client('cal')))
        await next.stop()
        assert.deepEqual(filesIn(machine.runDir), before)
        await serve()
        assert.deepEqual(await namedAfterRestart(end, nfsd), due)
      }))

  it('a list of what was left to do, it is not done: a client could get a record that way', () =>
    onSmallDisk(async ({ end, serve, machine }, disk) => {
      const daemon = await serve()
      const nfsd = await startedWith(end, 'ann')
      disk.fill()
      assert.notEqual(await nfsd.tell('create', client('bob')), 0)
      await daemon.kill()
      disk.empty()
      for (const list of keptIn(machine)) chownSync(list, another, another)
      await serve()
      assert.deepEqual(await namedAfterRestart(end, nfsd), ['ann'])
    }))
})

/** Its status, for people. */
function statusOfServe({ runDir }: Machine): string {
  const [name] = readdirSync(runDir).filter((entry) => /^serve-.*\.json$/.test(entry))
  return name === undefined ? '' : readFileSync(join(runDir, name), 'latin1')
}

/** What is left to do for the next `serve`. */
const keptIn = ({ runDir }: Machine): string[] =>
  readdirSync(runDir)
    .filter((name) => name.endsWith('.unfinished'))
    .map((name) => join(runDir, name))

const filesIn = (directory: string): string[] =>
  readdirSync(directory).map((name) => {
    const { size, mtimeMs } = lstatSync(join(directory, name))
    return `${name} ${size} ${mtimeMs}`
  })
