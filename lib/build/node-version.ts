/** An older Node fails somewhere in the build or the tests, and does not say that it is too old. */
const [needed, within] = [20, 19]

export function isTooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major < needed || (major === needed && minor < within)
}

/** Ends the process with one line if Node can't build and test this program. */
export function refuseOldNode(): void {
  const { node } = process.versions
  if (!isTooOld(node)) return
  console.error(`to build and test, Node ${needed}.${within} or later is needed; this is Node ${node}`)
  process.exit(1)
}
