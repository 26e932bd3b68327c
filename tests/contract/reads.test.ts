/** What an upcall reads. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { bundle } from '../support/artefacts.ts'
import { traced } from '../support/strace.ts'
import { eachArtefact, server } from './server.ts'

eachArtefact('an upcall', (artefact) => {
  /** What a process reads from: files and directories that it opens, except those opened with O_PATH. */
  const opened = ({ calls }: Awaited<ReturnType<typeof traced>>): Set<string> =>
    new Set(
      calls
        .filter(({ text }) => !text.includes('O_PATH'))
        .map(({ text }) => /^open(?:at)?\((?:[^,]*, )?"([^"]+)".*\) = (?:\d+<([^>]+)>)?/.exec(text))
        .flatMap((found) => found?.[2] ?? found?.[1] ?? [])
        .map((path) => path.replace(/^\/proc\/\d+\//, '/proc/self/')),
    )

  it('reads its configuration, who it is, and the state, and nothing else', async () => {
    const s = server(artefact)
    await s.init()
    // What Node reads by itself, for any script.
    const empty = join(s.nfsdDir, 'empty.cjs')
    writeFileSync(empty, '')
    const ofNode =
      artefact.name === 'bundle'
        ? opened(await traced({ ...s, artefact: { ...bundle, command: [process.execPath, empty] } }, []))
        : new Set<string>()
    const read = opened(await traced(s, ['create', '61']))
    const start = s.readState('new_boot_time')?.trim() ?? ''
    assert.deepEqual(
      [...read].filter((path) => !ofNode.has(path)).sort(),
      [
        ...(artefact.name === 'bundle' ? [artefact.command.at(-1) ?? ''] : []),
        '/dev/null',
        '/dev/null.d',
        '/etc/machine-id',
        '/proc/self/stat',
        '/proc/sys/kernel/random/boot_id',
        join(s.nfsdDir, 'v4_end_grace'),
        join(s.runDir, `begun-${encodeURIComponent(s.stateDir)}`),
        join(s.stateDir, 'v4clients'),
        join(s.stateDir, 'v4clients', start),
      ].sort(),
    )
  })
})
