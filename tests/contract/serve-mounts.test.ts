/** `serve`, which has given up its rights, beside mounts of rpc_pipefs and of the disk of the state directory. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { newMachine, scrap } from '../support/artefacts.ts'
import { serveWords } from '../support/pipe/daemons.ts'
import { until } from '../support/until.ts'
import { at, named, started, startedWith, succeeds } from './at-a-pipe.ts'

describe('serve beside mounts', () => {
  it('keeps its rights until rpc_pipefs is mounted, then drops them and opens the pipe; ends if another one is mounted over it, because it may not open the pipe there', () => {
    const { output, said } = besideMounts(
      ({ pipes, serve }) => `
      ${serve}
      says waiting
      [ "$(rights)" != 0000000000000000 ] && echo waits
      mounted
      waits '[ "$(rights)" = 0000000000000000 ]'
      touch '${pipes}/nfsd/cld'
      says holds
      mounted
      wait $id; echo $?`,
    )
    assert.equal(output, 'waits\n135\n', said)
    assert.match(said, /was mounted anew/)
  })

  it('ends when rpc_pipefs has been mounted again, also with the same device number, because it may not open the pipe there; the next serve does', () => {
    // The kernel gives the lowest free number. A mount of another test may take it meanwhile.
    for (let attempt = 1, haveSameNumbers = false; !haveSameNumbers && attempt <= 5; attempt++) {
      const { output, said } = besideMounts(
        ({ pipes, serve }) => `
      mounted
      numbers=$(stat -c '%d %i' '${pipes}/nfsd')
      touch '${pipes}/nfsd/cld'
      ${serve}
      says holds
      rm '${pipes}/nfsd/cld'
      says 'is gone'
      # Where it is stopped, it may just be looking at the pipe's directory.
      waits "kill -STOP $id; umount '${pipes}' 2> /dev/null || { kill -CONT $id; false; }"
      mounted
      [ "$(stat -c '%d %i' '${pipes}/nfsd')" = "$numbers" ] && echo same numbers
      touch '${pipes}/nfsd/cld'
      kill -CONT $id
      wait $id; echo $?
      ${serve}
      says holds
      kill $id
      wait $id; echo $?`,
      )
      haveSameNumbers = output.startsWith('same numbers\n')
      assert.equal(output.replace(/^same numbers\n/, ''), '135\n0\n', said)
    }
  })

  it('ends when the disk of the state directory has been mounted again, because it may not write there; the next serve has all records', () =>
    at(async ({ end, serve, machine: { dir, stateDir } }) => {
      const image = join(dir, 'image')
      execFileSync('truncate', ['--size=8M', image])
      execFileSync('mkfs.ext4', ['-q', image])
      mkdirSync(stateDir)
      const mount = (): void => {
        execFileSync('mount', ['-o', 'loop', image, stateDir])
      }
      mount()
      try {
        const daemon = await serve()
        const nfsd = await startedWith(end, 'ann')
        await nfsd.stop()
        // The state directory is free as soon as the loss of the pipe is noticed.
        await daemon.says(/the pipe is gone/)
        await until('the disk can be unmounted', () => {
          daemon.signal('SIGSTOP')
          if (succeeds('umount', stateDir)) return true
          daemon.signal('SIGCONT')
          return false
        })
        // Another test's mount namespace may still have a copy of the mount: then this would be no other one.
        await until('the disk is free', () => execFileSync('losetup', ['--associated', image]).length === 0)
        mount()
        daemon.signal('SIGCONT')
        assert.equal(await daemon.ended, 135)
        await daemon.says(/was mounted anew/)
        await serve()
        const next = await started(end)
        assert.deepEqual(named(next), ['ann'])
        await next.stop()
      } finally {
        execFileSync('umount', ['--lazy', stateDir])
      }
    }))
})

/** A file in memory in place of the pipe, without messages. @param does what happens, in a shell. */
function besideMounts(does: (words: { readonly pipes: string; readonly serve: string }) => string): {
  readonly output: string
  readonly said: string
} {
  const machine = newMachine()
  const pipes = join(machine.dir, 'pipes')
  const said = join(machine.dir, 'said')
  for (const directory of [pipes, machine.stateDir]) mkdirSync(directory)
  // The shell empties the file, not what it forks: nobody may find there what the serve before this one said.
  const serve = `: > '${said}'; ${serveWords(machine, pipes).join(' ')} 2>> '${said}' & id=$!`
  const script = `
    waits() { for i in $(seq 600); do eval "$1" && return; sleep 0.05; done; echo "in vain: $1"; }
    rights() { sed -n 's/^CapEff:\t//p' /proc/$id/status; }
    says() { waits "grep -q '$1' '${said}'"; }
    mounted() { mount -t tmpfs none '${pipes}'; mkdir '${pipes}/nfsd'; }
    ${does({ pipes, serve })}`
  try {
    const { stdout, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', script], {
      encoding: 'utf8',
      timeout: 600_000,
    })
    return { output: stdout, said: `${stderr}${existsSync(said) ? readFileSync(said, 'utf8') : ''}` }
  } finally {
    scrap(machine)
  }
}
