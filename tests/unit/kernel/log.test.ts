import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { openLog } from '../../../lib/kernel/log.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import { machineWith, nfsd, type Machine } from '../../support/memory/machine.ts'

/** Facility "daemon", and syslog(3)'s priorities. */
const [error, warning, notice] = [3, 4, 5].map((priority) => `<${(3 << 3) | priority}>`)

describe('the kernel log', () => {
  it('is told what matters, one line a write with its priority', () => {
    const machine = machineWith()
    machine.upcall(['init'], { NFSDCLTRACK_GRACE_START: '7' })
    machine.upcall(['check', '616461'], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })
    machine.upcall(['create', 'zz'])
    machine.upcall(['gracedone', '7'])
    assert.deepEqual(machine.log, [
      `${notice}nfsd-userland-helper: server instance 1800000000 started, in grace\n`,
      `${notice}nfsd-userland-helper: told the kernel that 0 clients may reclaim\n`,
      `${warning}nfsd-userland-helper: check: "ada" may not reclaim: it is not recorded\n`,
      `${error}nfsd-userland-helper: create: client id is not hexadecimal: 'zz'\n`,
      `${notice}nfsd-userland-helper: grace of server instance 1800000000 is over\n`,
    ])
  })

  it('gets no line about a client that comes, or about anything else that goes as it should', () => {
    const machine = machineWith()
    machine.upcall(['init'])
    const before = machine.log.length
    assert.equal(machine.upcall(['create', '616461'], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }), 0)
    assert.equal(machine.log.length, before)
  })

  it('gets bytes from outside as printable ASCII, and no line longer than it holds', () => {
    const machine = machineWith()
    machine.upcall(['init'])
    const owner = Buffer.from('\n<0>evil \x1b[2J'.padEnd(1024, '\xff'), 'latin1').toString('hex')
    assert.equal(machine.upcall(['check', owner]), 255)
    const line = machine.log.at(-1) ?? ''
    assert.match(line, /^<28>nfsd-userland-helper: check: [ -~]+\n$/)
    assert.ok(line.length < 1000)
    openLog(machine.files.calls, { foreground: false, debug: false }).error('x'.repeat(5000))
    assert.match(machine.log.at(-1) ?? '', /x{800}/)
    assert.ok((machine.log.at(-1) ?? '').length < 1000)
  })

  it('is all that an upcall uses, beside two files of nfsd', () => {
    const machine = machineWith()
    const asked = new Set<string>()
    machine.kernel.grace = 'running'
    machine.files.hooks.before = ({ paths }) => {
      for (const path of paths) if (path.startsWith(`${nfsd}/`)) asked.add(path.slice(nfsd.length + 1))
      return undefined
    }
    for (const words of [['init'], ['create', '61'], ['check', '61'], ['remove', '61'], ['gracedone', '1']])
      machine.upcall(words, { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })
    assert.deepEqual([...asked].sort(), ['allow_client', 'v4_end_grace'])
  })
})

/** @returns what a person at a terminal sees of an upcall that logs two lines. */
function seen(machineFails?: (machine: Machine) => void): string[] {
  const said: string[] = []
  const machine = machineWith(undefined, (calls) => ({
    isTerminal: () => true,
    write: (descriptor, bytes) =>
      descriptor === 2 ? said.push(Buffer.from(bytes).toString('latin1')) : calls.write(descriptor, bytes),
  }))
  machine.upcall(['init'])
  machineFails?.(machine)
  machine.upcall(['check', '616461'], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })
  machine.upcall(['create', 'zz'])
  return said
}

describe('a person who types words that are no upcall', () => {
  it('sees why they failed, also without a terminal, as through ssh(1); the kernel log has it too', () => {
    const said: string[] = []
    const machine = machineWith(undefined, (calls) => ({
      write: (descriptor, bytes) =>
        descriptor === 2 ? said.push(Buffer.from(bytes).toString('latin1')) : calls.write(descriptor, bytes),
    }))
    machine.program((calls) => {
      openLog(calls, { foreground: false, debug: false, typed: true }).error('why')
      return 0
    })
    assert.deepEqual([said, machine.log], [['nfsd-userland-helper: why\n'], [`${error}nfsd-userland-helper: why\n`]])
  })
})

describe('a person at a terminal', () => {
  it('sees the errors that the kernel log gets, and no lines of a lower priority', () => {
    assert.deepEqual(seen(), ["nfsd-userland-helper: create: client id is not hexadecimal: 'zz'\n"])
  })

  it('sees all lines, if the kernel log takes none', () => {
    const lines = seen(({ files }) => {
      files.hooks.before = ({ name, paths }) =>
        name === 'write' && paths.includes('/dev/kmsg') ? -errno.EIO : undefined
    })
    assert.deepEqual(lines, [
      'nfsd-userland-helper: warning: check: "ada" may not reclaim: it is not recorded\n',
      "nfsd-userland-helper: error: create: client id is not hexadecimal: 'zz'\n",
    ])
  })
})
