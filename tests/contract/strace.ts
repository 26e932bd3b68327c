/** One upcall under strace(1), and what it did to the file system. */
import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { callsIn } from '../proof/trace.ts'
import { inForeground, settings, type Environment, type Said } from '../support/artefacts.ts'
import { stopped, type Point, type Woken } from '../support/stopped.ts'
import type { Server } from './server.ts'

export interface Call {
  readonly thread: number
  /** The call as strace prints it, descriptors with their paths. */
  readonly text: string
}

/**
 * Runs one upcall and gives its system calls, thread by thread in order.
 * @param options more options of strace, such as an injection.
 */
export async function traced(
  s: Server,
  words: readonly string[],
  env: Environment = {},
  options: readonly string[] = [],
): Promise<Said & { readonly calls: readonly Call[] }> {
  const directory = mkdtempSync(join(tmpdir(), 'strace-'))
  try {
    // A file a thread (-ff): otherwise a call may be torn in two by another thread's.
    const strace = ['/usr/bin/strace', '-ff', '-y', '-s', '5000', '-o', join(directory, 't'), ...options]
    const said = await inForeground(
      { ...s.artefact, command: [...strace, ...s.artefact.command] },
      [...settings(s.machine), ...words],
      env,
    )
    const calls = readdirSync(directory).flatMap((name) =>
      readFileSync(join(directory, name), 'latin1')
        .split('\n')
        .map((text) => ({ thread: Number(name.slice(2)), text })),
    )
    return { ...said, calls }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** Calls that either program makes on its one thread of work, as often in one run as in the next. */
const regular = 'openat,readlink,readlinkat,symlink,symlinkat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,fsync'

/**
 * Starts an upcall that is stopped right before one of its calls, and waits until it is. Which call comes before that
 * one is seen in a twin: the same upcall on a copy of the server.
 * @param at by the name that POSIX gave the call first, counted with the one that takes a directory.
 * @returns wakes it; how it ended.
 */
export async function stoppedBefore(
  s: Server,
  words: readonly string[],
  env: Environment,
  { name, nth }: Point,
): Promise<() => Promise<Woken>> {
  const directory = mkdtempSync(join(tmpdir(), 'stopped-'))
  s.atEnd(() => {
    rmSync(directory, { recursive: true })
  })
  const twin = { dir: directory, stateDir: join(directory, 'state'), nfsdDir: join(directory, 'nfsd') }
  for (const part of ['state', 'nfsd', 'run'])
    if (existsSync(join(s.machine.dir, part)))
      cpSync(join(s.machine.dir, part), join(directory, part), { recursive: true, verbatimSymlinks: true })
  const log = join(directory, 'log')
  const strace = ['/usr/bin/strace', '-f', '-o', log, '-e', `trace=${regular}`]
  await inForeground({ ...s.artefact, command: [...strace, ...s.artefact.command] }, [...settings(twin), ...words], env)
  const calls = callsIn(readFileSync(log, 'utf8'))
  const wanted = calls.filter((call) => [name, `${name}at`].includes(call.name))[nth - 1]
  const before = calls
    .filter(({ thread }) => thread === wanted?.thread)
    .findLast((_, at, all) => all[at + 1] === wanted)
  assert.ok(before, `no call before ${name}`)
  const command = [...s.artefact.command, '-f', ...settings(s.machine), ...words]
  const { fired, wake } = await stopped(command, env, join(directory, 'stopped'), before)
  assert.ok(fired, `not stopped before ${name}`)
  return wake
}

/** System calls by the name that POSIX gave them first: the executable says the ones that take a directory. */
export const named = (...calls: readonly string[]): string => calls.flatMap((call) => [call, `${call}at`]).join()

/** Whether a line is such a call on a name, in whichever directory, that went well. */
export const isCall = (text: string, call: string, name: string): boolean =>
  new RegExp(`^${call}(?:at)?\\(`).test(text) && new RegExp(`[/"]${name}"(?:, 0)?\\) += 0`).test(text)

/**
 * The barriers of an upcall: what was synced, as paths below the state directory. Less the kernel's own tracker's
 * directory: a machine may have one (nfs-kernel-server makes it), and it is synced where something may have gone from
 * it.
 */
export const barriers = (s: Server, calls: readonly Call[]): string[] =>
  calls
    .map(({ text }) => /^f(?:data)?sync\(\d+<([^>]*)>/.exec(text)?.[1])
    .filter((path) => path !== undefined)
    .filter((path) => !path.endsWith('/v4recovery'))
    .map((path) => path.replace(s.stateDir, '').replace(/^$/, '/'))

/** The calls that name something in the state directory. */
export const touching = (s: Server, calls: readonly Call[]): Call[] =>
  calls.filter(({ text }) => text.includes(s.stateDir))
