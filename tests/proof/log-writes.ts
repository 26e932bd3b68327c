/**
 * A disk's writes, in the order in which they became durable: the log of the kernel's dm-log-writes, in the format of
 * drivers/md/dm-log-writes.c. A write is logged when it is durable, not when it was made:
 *
 *   a write        before the flush that made it durable, among others that completed before this flush was asked for
 *   a write (FUA)  when it completed
 *   a flush        when it completed
 *   a mark         when it was made
 */
import { closeSync, openSync, readSync } from 'node:fs'

export type Entry =
  | { readonly kind: 'mark'; readonly text: string }
  | { readonly kind: 'flush' }
  /** `durable`: it bypassed the disk's cache. */
  | { readonly kind: 'write'; readonly at: number; readonly bytes: Buffer; readonly durable: boolean }

export type Write = Extract<Entry, { kind: 'write' }>

const magic = 0x6a736677736872n
const isFlush = 1n,
  isDurable = 2n,
  isDiscard = 4n,
  isMark = 8n

export function readLog(image: string): Entry[] {
  const fd = openSync(image, 'r')
  const read = (at: number, length: number): Buffer => {
    const bytes = Buffer.alloc(length)
    if (readSync(fd, bytes, 0, length, at) !== length) throw new Error(`the log of ${image} is too short`)
    return bytes
  }
  try {
    const top = read(0, 28)
    if (top.readBigUInt64LE(0) !== magic || top.readBigUInt64LE(8) !== 1n)
      throw new Error(`${image} is no log of dm-log-writes`)
    const entries: Entry[] = []
    const sector = top.readUInt32LE(24)
    let at = sector
    for (let left = top.readBigUInt64LE(16); left > 0n; left--) {
      const head = read(at, sector)
      const flags = head.readBigUInt64LE(16)
      const length = Number(head.readBigUInt64LE(8)) * sector
      at += sector
      if ((flags & isDiscard) !== 0n)
        throw new Error('a discard: nobody knows what it leaves, so nothing here may make one')
      if ((flags & isMark) !== 0n) {
        entries.push({ kind: 'mark', text: head.toString('latin1', 32, 32 + Number(head.readBigUInt64LE(24))) })
        continue
      }
      // One request may ask for a flush first and then for a write.
      if ((flags & isFlush) !== 0n) entries.push({ kind: 'flush' })
      if (length > 0)
        entries.push({
          kind: 'write',
          at: Number(head.readBigUInt64LE(0)) * sector,
          bytes: read(at, length),
          durable: (flags & isDurable) !== 0n,
        })
      at += length
    }
    return entries
  } finally {
    closeSync(fd)
  }
}
