/**
 * The kernel's log, as far back as its buffer goes: one record a read(2), or lines
 * (Documentation/ABI/testing/dev-kmsg).
 */
import fs from 'node:fs'
import { errorCode } from '../../failure.ts'
import { kernelLog } from '../../kernel/log.ts'

/** What the kernel itself logged, the oldest first, without what processes wrote to its log. */
export function kernelLines(): readonly string[] | 'unreadable' {
  let descriptor: number
  try {
    descriptor = fs.openSync(kernelLog, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
  } catch {
    return 'unreadable'
  }
  let text = ''
  const buffer = Buffer.alloc(16_384)
  try {
    for (;;) {
      try {
        const length = fs.readSync(descriptor, buffer, 0, buffer.length, null)
        if (length === 0) break
        text += buffer.toString('latin1', 0, length)
      } catch (thrown) {
        // EPIPE: records were overwritten meanwhile, and the next read continues with the oldest that is left.
        if (errorCode(thrown) !== 'EPIPE') break
      }
    }
  } finally {
    fs.closeSync(descriptor)
  }
  return text.split('\n').flatMap((line) => {
    const [, priority, said] = /^([0-9]+),[^;]*;(.*)$/.exec(line) ?? []
    return said !== undefined && Number(priority) >> 3 === 0 ? [said] : []
  })
}

/**
 * What the kernel logged about its tracker when its server last started (fs/nfsd/nfs4recover.c,
 * nfsd4_client_tracking_init).
 */
export const saidOfTracker = (lines: readonly string[]): string | undefined =>
  lines.findLast((line) =>
    /^NFSD: (?:Using .* client tracking operations|Unable to initialize client recovery tracking!)/.test(line),
  )
