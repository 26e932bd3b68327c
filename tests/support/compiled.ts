/** Programs in C that tests and benchmarks run beside the helper. */
import { spawnSync } from 'node:child_process'

/**
 * @param libraries as pkg-config calls them.
 * @returns the program's path.
 * @throws with what gcc said, also of a warning.
 */
export function compiled(source: string, program: string, libraries: readonly string[] = []): string {
  const flags = libraries.length === 0 ? '' : finished('pkg-config', ['--cflags', '--libs', ...libraries]).trim()
  const words = flags.split(/\s+/).filter((word) => word !== '')
  finished('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program, source, ...words])
  return program
}

function finished(command: string, words: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, [...words], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command}: ${error?.message ?? stderr}`)
  return stdout
}
