/** A bar on a terminal for what takes a while; nothing anywhere else. */
import { remark } from './print.ts'

/** @returns a function that is told how much of `total` is done, and ends the bar when it is all. */
export function progress(what: string, total: number): (done: number) => void {
  if (!process.stderr.isTTY) return () => undefined
  const width = 30
  let shown = -1
  return (done) => {
    const filled = Math.floor((done / total) * width)
    if (filled === shown) return
    shown = filled
    remark(`\r${what.padEnd(28)} [${'#'.repeat(filled)}${' '.repeat(width - filled)}]`)
    if (done >= total) remark('\r\x1b[K')
  }
}
