/** Durable before status 0: the barriers of each upcall, on one thread. Nothing is acknowledged after a failed one. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { barriers, isCall, onState, traced } from '../support/strace.ts'
import { done, eachArtefact, hex, server, storageFailed, unusableAtStart, type Server } from './server.ts'

const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }

const current = (s: Server): string =>
  `/v4clients/${(s.readState('new_boot_time') ?? s.readState('boot_time') ?? '').trim()}`

eachArtefact('barriers', (artefact) => {
  it('a create has one: the directory of the current instance', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    for (const where of ['out of grace', 'in grace']) {
      if (where === 'in grace') await s.init()
      for (const owner of ['ada', 'new', 'new'])
        assert.deepEqual(
          barriers(s, (await traced(s, ['create', hex(owner)], session)).calls),
          [current(s)],
          `${owner} ${where}`,
        )
    }
  })

  it('a check that promotes has one, also when it is repeated; a check of a client with a session has none', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    assert.deepEqual(barriers(s, (await traced(s, ['check', hex('ada')], session)).calls), [])
    for (let twice = 0; twice < 2; twice++)
      assert.deepEqual(barriers(s, (await traced(s, ['check', hex('ada')])).calls), [current(s)])
  })

  it('a remove has one out of grace; in grace, one for each instance that could bring the client back', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    const first = current(s)
    for (let twice = 0; twice < 2; twice++)
      assert.deepEqual(barriers(s, (await traced(s, ['remove', hex('ada')])).calls), [first])
    await s.init()
    await s.create('bob', 'v4.1')
    assert.deepEqual(barriers(s, (await traced(s, ['remove', hex('bob')])).calls), [first, current(s)])
  })

  it('a start has one, the first grace end two, a later one none', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const start = await traced(s, ['init'])
    assert.deepEqual(barriers(s, start.calls), ['/v4clients'])
    const instance = current(s)
    assert.deepEqual(barriers(s, (await traced(s, ['grace_done'])).calls), [instance, '/v4clients'])
    assert.deepEqual(barriers(s, (await traced(s, ['grace_done'])).calls), [])
  })

  it('come after the lock is released, and after everything that they make durable', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    for (const words of [['create', hex('ada')], ['remove', hex('ada')], ['grace_done']]) {
      const calls = (await traced(s, words)).calls.map(({ text }) => text)
      const unlocked = calls.findIndex((text) => isCall(text, 'unlink', 'lock'))
      const lastBarrier = calls.findLastIndex((text) => text.startsWith('fsync('))
      assert.ok(unlocked > 0 && lastBarrier > unlocked, words[0])
      const changes = calls.map((text) => /^(?:rename|symlink)(?:at)?\(/.test(text) && text.endsWith(' = 0'))
      assert.ok(changes.lastIndexOf(true, lastBarrier) < unlocked, 'what is made durable was made under the lock')
    }
  })

  it('only one thread touches the state directory', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    for (const words of [
      ['init'],
      ['check', hex('ada')],
      ['create', hex('bob')],
      ['remove', hex('bob')],
      ['grace_done'],
    ]) {
      const threads = new Set(
        onState(
          s,
          (await traced(s, words)).calls.filter(({ text }) => !text.startsWith('execve(')),
        ).map(({ thread }) => thread),
      )
      assert.equal(threads.size, 1, words[0])
    }
  })
})

eachArtefact('a failed barrier', (artefact) => {
  it('is never answered with 0, and never tried twice: only the barrier of taking the record back follows it', async () => {
    const sameStart = { NFSDCLTRACK_GRACE_START: '77' }
    for (const error of ['EIO', 'ENOSPC', 'EROFS']) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      const cases: readonly (readonly [words: readonly string[], status: number, count: number, back: number])[] = [
        [['init'], unusableAtStart, 1, 0],
        [['create', hex('new')], storageFailed, 1, 1],
        [['check', hex('ada')], storageFailed, 1, 2],
        [['remove', hex('new')], storageFailed, 2, 0],
        [['grace_done'], storageFailed, 2, 0],
      ]
      for (const [words, status, count, back] of cases)
        for (let which = 1; which <= count; which++) {
          const failing = await traced(s, words, sameStart, ['-e', `inject=fsync:error=${error}:when=${which}`])
          assert.equal(failing.status, status, `${words[0] ?? ''} ${which}`)
          assert.match(failing.stderr, new RegExp(`error: .*fsync '.*' failed: ${error}`))
          assert.equal(
            failing.calls.filter(({ text }) => text.startsWith('fsync(')).length,
            which + back,
            'no barrier after a failed one, but of what was taken back',
          )
          if (which < count) continue
          assert.equal((await s.call(words, sameStart)).status, done, `${words[0] ?? ''} again`)
        }
    }
  })

  it('of an instance that a start would sweep leaves it in place, and a remove then syncs it too', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    await s.create('ada', 'v4.1')
    const emptied = current(s)
    await s.init()
    await s.create('ada', 'v4.1')
    const failing = await traced(s, ['init'], {}, ['-e', 'inject=fsync:error=EIO:when=2'])
    assert.equal(failing.status, done)
    assert.match(failing.stderr, /warning: old instances could not be removed/)
    assert.ok(barriers(s, (await traced(s, ['remove', hex('ada')])).calls).includes(emptied))
  })

  it('of an end of grace is made up for by the next upcall that changes a record', async () => {
    for (const words of [['create', hex('new')], ['remove', hex('ada')], ['check', hex('ada')], ['grace_done']]) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      await s.init()
      await s.create('ada', 'v4.1')
      const failing = await traced(s, ['grace_done'], {}, ['-e', 'inject=fsync:error=EIO:when=2'])
      assert.equal(failing.status, storageFailed)
      assert.ok(barriers(s, (await traced(s, words)).calls).includes('/v4clients'), words[0])
      assert.ok(
        !barriers(s, (await traced(s, ['create', hex('newer')])).calls).includes('/v4clients'),
        'once is enough',
      )
    }
  })
})
