/**
 * Checks that the kernel calls this program, that it runs as the kernel runs it, and that this remains so after a
 * reboot.
 */
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import packageJson from '../../../package.json' with { type: 'json' }
import { errorCode } from '../../failure.ts'
import { helperParameter } from '../../kernel/nfsd-module.ts'
import { options } from '../../settings/options.ts'
import { forgetUntracked } from '../../store/untracked.ts'
import type { Calls } from '../../syscalls/calls.ts'
import { anywhere, tolerating } from '../../syscalls/files.ts'
import { oneLine, quote } from '../../text.ts'
import { runProgram } from '../shared/in-time.ts'
import { namesIn } from '../shared/listing.ts'
import { doubtful, good, unknown, wrong, type Said } from './finding.ts'
import { shellWord, type Site } from './site.ts'

const tellKernel = (program: string): string =>
  `printf %s ${shellWord(program)} > ${helperParameter} && systemctl restart nfs-server.service`

/** The name that the kernel would execute. The kernel prints its parameter with one more newline. */
const namedIn = (text: string): string => text.replace(/\n$/, '')

/** `cltrack_prog` must be an absolute path, and nothing else. */
export function parameterNames({ parameter, program, moduleLoaded, tracker }: Site): Said {
  if (parameter === 'absent' && tracker.serving !== undefined)
    return good('the kernel has no helper set: serve answers at its pipe')
  // In a container the parameter names a file of the host.
  if (tracker.serving !== undefined && tracker.kind === 'pipe')
    return good('the server took the pipe at which serve answers, so the kernel calls no helper')
  if (parameter === 'absent')
    return unknown(
      moduleLoaded
        ? `there is no ${helperParameter}`
        : 'nfsd is not loaded, so the kernel has not been told about any helper yet',
      'The module parameter cltrack_prog names the helper.',
    )
  if (parameter === 'unreadable')
    return unknown(`${helperParameter} can't be read`, 'It names the program that the kernel calls.')
  const named = namedIn(parameter.text)
  const spoiled = /^\s|\s$/.exec(named)
  if (spoiled !== null)
    return wrong(
      spoiled[0] === '\n'
        ? 'cltrack_prog ends with a newline'
        : `cltrack_prog begins or ends with white space: ${quote(named)}`,
      oneLine`
        The kernel treats it as part of the name, finds no such program, and silently uses its own tracker. The command
        'echo' appends a newline; 'printf %s' does not.
      `,
      tellKernel(fs.existsSync(named.trim()) ? named.trim() : program),
    )
  if (named === '')
    return wrong('cltrack_prog is empty', 'An empty name switches usermode client tracking off.', tellKernel(program))
  if (!named.startsWith('/'))
    return wrong(
      `cltrack_prog is no absolute path: ${quote(named)}`,
      'The kernel looks for it in the root directory.',
      tellKernel(program),
    )
  const stats = tolerating(['ENOENT', 'ENOTDIR', 'ELOOP'], () => fs.statSync(named), undefined)
  if (stats === undefined)
    return wrong(
      `cltrack_prog names ${quote(named)}, which does not exist`,
      'The kernel then falls back to its own tracker, or to none, and reports it only in its log.',
      tellKernel(program),
    )
  return good(`the kernel calls ${quote(named)}`)
}

/** A busy machine is no fault of the program's. */
const longestRunMs = 20_000

/**
 * Runs the program as the kernel does: without environment and descriptors, with `/` as working directory; on a scratch
 * directory.
 */
export async function programRuns({ parameter, program, tracker, settings: { calls } }: Site): Promise<Said> {
  const named = typeof parameter === 'object' ? namedIn(parameter.text).trim() : ''
  // If the kernel does not name a program yet, or calls no helper because `serve` answers, this checks the one that it
  // should name.
  const path = tracker.serving === undefined && fs.existsSync(named) ? named : program
  const unfit = faultOfFile(path)
  if (unfit !== undefined) return unfit
  const version = await versionOf(path, tellKernel(program))
  if (typeof version === 'object') return version

  const failed = await playStart(calls, path)
  if (failed !== undefined)
    return wrong(
      `${quote(path)} fails when it is run as the kernel runs it: ${failed}`,
      "If 'init' fails, the server runs without this tracker.",
      `env -i ${shellWord(path)} -f -s /tmp/trial init`,
    )
  if (version !== packageJson.version)
    return doubtful(
      `${quote(path)} runs, but is version ${quote(version)}; this program is ${packageJson.version}`,
      'The kernel calls the other version.',
      'nfsd-userland-helper install',
    )
  return good(`${quote(path)} runs with an empty environment and no open descriptor`)
}

/** Checks who may run and who may change the program. */
function faultOfFile(path: string): Said | undefined {
  const stats = tolerating(['ENOENT', 'ENOTDIR', 'EACCES'], () => fs.statSync(path), undefined)
  if (stats === undefined) return unknown(`${quote(path)} can't be examined`, 'The kernel should call it.')
  if (!stats.isFile() || (stats.mode & 0o111) === 0)
    return wrong(
      `${quote(path)} is not executable`,
      'If the kernel can not execute it, it falls back to another tracker.',
      `chmod 755 ${shellWord(path)}`,
    )
  if (stats.uid !== 0 || (stats.mode & 0o022) !== 0)
    return wrong(
      `${quote(path)} can be changed by users other than root`,
      'The kernel runs it as root.',
      `chown root:root ${shellWord(path)} && chmod go-w ${shellWord(path)}`,
    )
  return undefined
}

/**
 * The version that the program prints in an empty environment, or why it prints none. @param mend the command that
 * repairs that
 */
async function versionOf(path: string, mend: string): Promise<string | Said> {
  // The executable prints its version itself, but has Node print the rest. That may be slow, and an empty environment
  // may not lead to Node. The kernel does not need it.
  const version = await runProgram(path, ['--version'], { limitMs: longestRunMs, env: {} })
  const said = version.kind === 'ended' ? version.stdout.trim() : '?'
  const isExecutable = / \(QuickJS-ng .*\)$/.test(said)
  const help =
    isExecutable || version.kind === 'silent'
      ? version
      : await runProgram(path, ['--help'], { limitMs: longestRunMs, env: {} })
  if (help.kind === 'not-started')
    return wrong(
      `${quote(path)} can't be run: ${help.why}`,
      'Its interpreter or loader is missing, or it was built for another architecture.',
      mend,
    )
  if (help.kind === 'silent')
    return wrong(
      `${quote(path)} does not answer`,
      'The kernel would wait for it without limit, and the clients would wait too.',
      mend,
    )
  if (help.status === 127 || help.status === 126)
    return wrong(
      `${quote(path)} does not run with an empty environment: ${quote((help.stderr.split('\n')[0] ?? '').trim())}`,
      oneLine`
        The kernel passes no PATH, so '#!/usr/bin/env node' finds node only in /bin and /usr/bin. The executable needs
        no interpreter.
      `,
      mend,
    )
  if (!isExecutable && !help.stdout.includes('nfsd-userland-helper [options] VERB'))
    return wrong(
      `${quote(path)} is another program`,
      'The kernel calls that program, so the records here are not kept up to date.',
      mend,
    )
  return said.replace(/ .*/, '')
}

/** Plays a server's start in a scratch directory. @returns what went wrong */
async function playStart(calls: Calls, path: string): Promise<string | undefined> {
  const scratch = fs.mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-doctor-'))
  const state = join(scratch, 'state')
  try {
    // It runs in the foreground, because its lines must not reach the kernel's log.
    const words = ['-f', '-s', state, '--nfsd-dir', join(scratch, 'nfsd'), '--config', '/dev/null', 'init']
    const began = performance.now()
    const answer = await runProgram('/bin/sh', ['-c', 'exec env -i "$@" 0<&- 1>&- 2>&-', 'sh', path, ...words], {
      limitMs: longestRunMs,
    })
    if (answer.kind === 'silent') return `it did not end within ${Math.round((performance.now() - began) / 1000)} s`
    if (answer.kind === 'not-started') return answer.why
    if (answer.status !== 0) return `it ends with ${answer.status}`
    return fs.existsSync(join(state, 'new_boot_time')) ? undefined : 'it reports success, but records nothing'
  } catch (thrown) {
    return errorCode(thrown) ?? String(thrown)
  } finally {
    removeSync(scratch)
    forgetUntracked({ anywhere: anywhere(calls), runDirectory: options['run-dir'].usual, path: state })
  }
}

const modprobeDirectories = [
  '/etc/modprobe.d',
  '/run/modprobe.d',
  '/usr/local/lib/modprobe.d',
  '/usr/lib/modprobe.d',
  '/lib/modprobe.d',
]
const rulesDirectories = [
  '/etc/udev/rules.d',
  '/run/udev/rules.d',
  '/usr/local/lib/udev/rules.d',
  '/usr/lib/udev/rules.d',
  '/lib/udev/rules.d',
]

/**
 * Checks what sets the parameter when nfsd is loaded the next time: modprobe.d(5), udev(7), the kernel's command line.
 */
export function namedAfterReboot({ parameter, program, tracker }: Site): Said {
  const found = [
    ...settingsIn(modprobeDirectories, '.conf', /^\s*options\s+nfsd\s(?:.*\s)?cltrack_prog=(\S+)/m),
    ...settingsIn(rulesDirectories, '.rules', /^[^#\n]*ATTR\{parameters\/cltrack_prog\}="([^"]*)"/m),
  ]
  const onCommandLine = /(?:^|\s)nfsd\.cltrack_prog=(\S+)/.exec(
    tolerating(['ENOENT', 'EACCES'], () => fs.readFileSync('/proc/cmdline', 'latin1'), ''),
  )?.[1]
  if (onCommandLine !== undefined) found.push({ where: "the kernel's command line", names: onCommandLine })
  const now = typeof parameter === 'object' ? namedIn(parameter.text).trim() : program
  const keep = `echo 'options nfsd cltrack_prog=${now}' > /etc/modprobe.d/nfsd-userland-helper.conf`
  // This is so in a container, where the kernel calls no helper.
  if (found.length === 0 && tracker.serving !== undefined)
    return good('no helper is set after a reboot: serve answers at the pipe')
  if (found.length === 0)
    return wrong(
      'nothing tells the kernel about this program after a reboot',
      'The parameter is lost when nfsd is unloaded or the machine restarts; its default is /sbin/nfsdcltrack.',
      parameter === 'absent' ? 'nfsd-userland-helper install' : keep,
    )
  const other = found.find(({ names }) => names.replace(/^"(.*)"$/, '$1') !== now)
  if (other !== undefined)
    return wrong(
      `after a reboot the kernel will call ${quote(other.names)} (${other.where}), now it calls ${quote(now)}`,
      'If the two differ, the next start uses other records.',
      `$EDITOR ${other.where.startsWith('/') ? other.where : '/etc/default/grub'}`,
    )
  return good(`${found.map(({ where }) => where).join(' and ')} will tell the kernel about it after a reboot`)
}

function settingsIn(
  directories: readonly string[],
  suffix: string,
  pattern: RegExp,
): { readonly where: string; readonly names: string }[] {
  const seen = new Map<string, { where: string; names: string }>()
  const hidden = new Set<string>()
  for (const directory of directories)
    for (const name of namesIn(directory)) {
      if (!name.endsWith(suffix) || hidden.has(name)) continue
      hidden.add(name)
      const where = join(directory, name)
      const names = pattern.exec(
        tolerating(['ENOENT', 'EACCES', 'EISDIR', 'ELOOP'], () => fs.readFileSync(where, 'utf8'), ''),
      )?.[1]
      if (names !== undefined) seen.set(name, { where, names })
    }
  return [...seen.values()]
}
