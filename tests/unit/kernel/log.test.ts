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

  it("is not told of what goes as it should: a client that comes is nobody's news", () => {
    const machine = machineWith()
    machine.upcall(['init'])
    const before = machine.log.length
    assert.equal(machine.upcall(['create', '616461'], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }), 0)
    assert.equal(machine.log.length, before)
  })

  it('gets a line of the bytes of a stranger as printable ASCII, and none longer than it holds', () => {
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

  it('is asked nothing more of nfsd than its two files of this program', () => {
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

/** @returns what a person sees of an upcall of which the kernel's log has two lines, at a terminal. */
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

describe('a person who typed what is no upcall', () => {
  it('sees why it failed without a terminal too, as through ssh(1), and the log has it as well', () => {
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
  it("sees an error that is in the kernel's log as well, and nothing less", () => {
    assert.deepEqual(seen(), ["nfsd-userland-helper: create: client id is not hexadecimal: 'zz'\n"])
  })

  it("sees everything where the kernel's log takes nothing", () => {
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
