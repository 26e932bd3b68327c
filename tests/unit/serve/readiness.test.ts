/**
 * How `serve` reports that it is ready, and which descriptors `--ready-fd` may name, by what the kernel says of them.
 */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { Failed } from '../../../lib/failure.ts'
import { readinessTo, refuseUnlessPassed } from '../../../lib/serve/readiness.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import { memoryFiles } from '../../support/memory/files.ts'

const isRefused = (fdinfo: string | undefined, isOpen = true): boolean => {
  const { calls } = memoryFiles()
  const asked = {
    ...calls,
    openat: () => (fdinfo === undefined ? -errno.ENOENT : 9),
    readText: () => fdinfo ?? '',
    close: () => 0,
    fstat: () => (isOpen ? calls.fstatat(-100, '/', 0) : -errno.EBADF),
  }
  try {
    refuseUnlessPassed(asked, 7)
    return false
  } catch (thrown) {
    assert.ok(thrown instanceof Failed)
    assert.equal(thrown.failure.kind, 'bad-argument')
    return true
  }
}
const withFlags = (octal: string): string => `pos:\t0\nflags:\t${octal}\nmnt_id:\t14\n`

it('a pipe, a socket or a file that was passed open for writing may be named', () => {
  for (const octal of ['01', '02', '04002', '0100001', '02001']) assert.equal(isRefused(withFlags(octal)), false, octal)
})

it('a descriptor that this process has opened, such as that of the log, is refused: it is closed on exec', () => {
  for (const octal of ['02000001', '02004001', '02000002']) assert.equal(isRefused(withFlags(octal)), true, octal)
})

it('a descriptor that can not be written is refused', () => {
  for (const octal of ['00', '0100000', '010000000']) assert.equal(isRefused(withFlags(octal)), true, octal)
})

it('without /proc, what is open may be named, and what is not is refused', () => {
  assert.equal(isRefused(undefined, true), false)
  assert.equal(isRefused(undefined, false), true)
})

it('a supervisor that has no room for the report gets it later, and the descriptor is written only then', () => {
  const { calls } = memoryFiles()
  let hasRoom = false
  const written: string[] = []
  const report = readinessTo(
    {
      ...calls,
      connect: () => 5,
      write: (descriptor, bytes) => {
        if (descriptor === 5 && !hasRoom) return -errno.EAGAIN
        written.push(`${descriptor} ${Buffer.from(bytes).toString()}`)
        return bytes.length
      },
      close: () => 0,
    },
    { NOTIFY_SOCKET: '/run/notify' },
    7,
  )
  assert.equal(report.ready(), false)
  hasRoom = true
  assert.equal(report.ready(), true)
  assert.equal(report.ready(), true)
  assert.deepEqual(written, ['5 READY=1', '7 \n'])
})
