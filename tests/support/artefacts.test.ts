/** All tests rely on this: they start the programs as the kernel does. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { asKernel, newMachine, scrap, type Artefact } from './artefacts.ts'

it("an upcall in these tests has no standard descriptors, no variables except the kernel's, and / as working directory", async () => {
  const machine = newMachine()
  const seen = (name: string): string => readFileSync(join(machine.dir, name), 'utf8')
  // Nothing is redirected here: the shell that lists descriptors would hold one for that.
  const look =
    'find "/proc/$$/fd" -mindepth 1 -fprintf "$0/fds" "%f\\n"; find "/proc/$$/cwd" -fprintf "$0/cwd" "%l"; ' +
    'cp "/proc/$$/environ" "$0/environment"; exit 42'
  const spy: Artefact = { name: 'executable', command: ['/bin/sh', '-c', look, machine.dir], withOtherClock: [] }
  try {
    const { status } = await asKernel(spy, ['gracedone', '7'], { NFSDCLTRACK_LEGACY_TOPDIR: '/a b' })
    assert.equal(status, 42)
    assert.equal(seen('environment'), 'NFSDCLTRACK_LEGACY_TOPDIR=/a b\0')
    assert.equal(seen('cwd'), '/')
    // A test runner may leak other descriptors into all its children. Closing those is not up to the tests.
    assert.deepEqual(
      seen('fds')
        .split('\n')
        .filter((fd) => /^[012]$/.test(fd)),
      [],
    )
  } finally {
    scrap(machine)
  }
})
