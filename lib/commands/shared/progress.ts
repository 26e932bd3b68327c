/** A progress bar for what takes a while, on a terminal only. */
import { remark } from './print.ts'

/** @returns a function that takes how much of `total` is done, and that ends the bar when all is */
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
