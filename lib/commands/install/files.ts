/**
 * What is installed where. Pure: `install` and the Debian package use the same list. The package puts what the admin
 * does not own into /usr/lib, where files in /etc override it.
 */
import { basename } from 'node:path'
import { Failed } from '../../failure.ts'
import { options } from '../../settings/options.ts'
import { helperPath, name } from '../shared/program.ts'
import type { Shell } from './completion.ts'
import type { Texts } from './texts.ts'

/**
 * `configuration` belongs to the admin once it is changed; everything else is ours. `switch`: a link by which systemd
 * starts a unit or does not. If anything is in its place already, whoever put it there, that stays.
 */
export type Kind = 'program' | 'configuration' | 'documentation' | 'switch'

/** Where zsh looks for functions: Debian's directory first. */
export const zshDirectories = ['/usr/share/zsh/vendor-completions', '/usr/share/zsh/site-functions'] as const

export interface Item {
  /** An absolute path in the target system. */
  readonly path: string
  readonly kind: Kind
  readonly mode: number
  readonly content: Content
  /** It depends on this machine, so a package can't contain it. */
  readonly ofThisMachine?: true
  /**
   * What a package has there nevertheless, for a machine with the usual settings. That content is no change of an
   * admin's.
   */
  readonly asPackaged?: Content
}

export type Content =
  | { readonly text: string }
  | { readonly copyOf: string }
  /**
   * A Node script with another interpreter in its first line, since the kernel passes no PATH to search; or without
   * one.
   */
  | { readonly scriptOf: string; readonly interpreter: string | undefined }
  | { readonly linkTo: string }

/**
 * The program as it was built: the executable and the commands to which it passes words, or Node's scripts, of which an
 * upcall loads only the first.
 */
export type Program =
  | { readonly executable: string; readonly beside: readonly string[] }
  | { readonly scripts: { readonly upcalls: string; readonly beside: readonly string[] }; readonly node: string }

/** Node's script can't hold a pipe. */
export const canServe = (program: Program): boolean => 'executable' in program

export const trackers = ['auto', 'helper', 'serve'] as const
export type Tracker = (typeof trackers)[number]

export type Init = 'systemd' | 'openrc' | 'lsb' | 'none'

export interface Wanted {
  readonly program: Program
  readonly stateDirectory: string
  readonly texts: Texts
  readonly completion: (shell: Shell) => string
  readonly init: Init
  readonly zshDirectory: (typeof zshDirectories)[number]
  /** `admin`: files that may be changed are in /etc. `package`: only what Debian expects there is in /etc. */
  readonly layout: 'admin' | 'package'
  readonly tracker: Tracker
  /** Whether nfsdcld is replaced. Otherwise it stays enabled, and the service is not enabled. */
  readonly takesOver: boolean
  /** A package's unit is in /usr/lib. One in /etc hides it. */
  readonly packaged?: boolean
}

export const usualStateDirectory = options['state-dir'].usual
const libraryDirectory = `/usr/lib/${name}`
const unit = `${name}.service`
/** The links by which systemd starts the service with the NFS server, and does not start nfsdcld. */
export const switches = {
  ours: `/etc/systemd/system/nfs-server.service.wants/${unit}`,
  nfsdcld: '/etc/systemd/system/nfsdcld.service',
} as const

/** Where `install` puts files other than the libraries and the switches. */
const paths = {
  helper: helperPath,
  modprobe: `/etc/modprobe.d/${name}.conf`,
  udevRule: `/etc/udev/rules.d/60-${name}.rules`,
  tmpfiles: `/etc/tmpfiles.d/${name}.conf`,
  dropIn: `/etc/systemd/system/nfs-server.service.d/${name}.conf`,
  service: `/etc/systemd/system/${unit}`,
  initScript: `/etc/init.d/${name}`,
  openrcSettings: `/etc/conf.d/${name}`,
  lsbSettings: `/etc/default/${name}`,
  page8: `/usr/share/man/man8/${name}.8`,
  page5: `/usr/share/man/man5/${name}.5`,
  bashCompletion: `/usr/share/bash-completion/completions/${name}`,
} as const

const zshCompletionIn = (directory: string): string => `${directory}/_${name}`

/** Every path at which any version of `install` puts a file, on any system. */
export const isOurPath = (path: string): boolean =>
  path.startsWith(`${libraryDirectory}/`)
    ? /^[\w-]+(?:\.[\w-]+)*$/.test(path.slice(libraryDirectory.length + 1))
    : [...Object.values(paths), ...Object.values(switches), ...zshDirectories.map(zshCompletionIn)].includes(path)

/** A package leaves these parts of /etc to the admin. */
const pathInPackage = (path: string): string => path.replace(/^\/etc\/(?=udev\/|systemd\/|tmpfiles\.d\/)/, '/usr/lib/')

/** The files, in the order in which they are put in place: the program comes before the files that name it. */
export function filesOf(wanted: Wanted): Item[] {
  const { program, stateDirectory, texts, completion, init, zshDirectory, layout } = wanted
  const placed = (path: string): string => (layout === 'admin' ? path : pathInPackage(path))
  const configuration = (path: string, text: string): Item => ({
    path: placed(path),
    kind: 'configuration',
    mode: 0o644,
    content: { text },
  })
  const documentation = (path: string, text: string): Item => ({
    path,
    kind: 'documentation',
    mode: 0o644,
    content: { text },
  })
  return [
    ...programFiles(program),
    configuration(paths.modprobe, texts.modprobe),
    configuration(paths.udevRule, texts.udevRule),
    ...(init === 'systemd'
      ? [
          { ...configuration(paths.tmpfiles, about(texts.tmpfiles, stateDirectory)), ofThisMachine: true } as const,
          { ...configuration(paths.dropIn, about(texts.dropIn, stateDirectory)), ofThisMachine: true } as const,
          ...service(wanted, placed(paths.service)),
        ]
      : []),
    ...(init === 'openrc' ? initScript(wanted, texts.openrc, paths.openrcSettings) : []),
    // A Debian machine may have another init system. Its script is of no use to a program that can't hold a pipe.
    ...(init === 'lsb' || (layout === 'package' && canServe(program))
      ? initScript(wanted, texts.lsb, paths.lsbSettings)
      : []),
    documentation(paths.page8, texts.page8),
    documentation(paths.page5, texts.page5),
    documentation(paths.bashCompletion, completion('bash')),
    documentation(zshCompletionIn(zshDirectory), completion('zsh')),
  ]
}

/** The service that holds the pipe, if it is wanted, and the link that starts it. */
function service(
  { program, stateDirectory, texts, layout, tracker, takesOver, packaged = false }: Wanted,
  path: string,
): Item[] {
  const link = (at: string, linkTo: string): Item => ({
    path: at,
    kind: 'switch',
    mode: 0o777,
    content: { linkTo },
    ofThisMachine: true,
  })
  const serves = tracker !== 'helper' && canServe(program)
  return [
    ...(serves
      ? [
          {
            path,
            kind: 'configuration',
            mode: 0o644,
            content: { text: sandboxFor(stateDirectory, about(conditions(texts.service, tracker), stateDirectory)) },
            ofThisMachine: true,
          } as const,
        ]
      : []),
    ...(tracker === 'helper' && packaged ? [link(path, '/dev/null')] : []),
    ...(serves && takesOver && layout === 'admin'
      ? [link(switches.ours, packaged ? pathInPackage(paths.service) : path)]
      : []),
    ...(takesOver && layout === 'admin' ? [link(switches.nfsdcld, '/dev/null')] : []),
  ]
}

/** With `--tracker=serve` the kernel does not matter: the conditions are removed, with the comment above them. */
const conditions = (text: string, tracker: Tracker): string =>
  tracker === 'serve' ? text.replace(/^(?:#.*\n)*(?:Condition.*\n)+/m, '') : text

/** Records in a home directory are unusual, but must not be lost. */
const sandboxFor = (stateDirectory: string, text: string): string =>
  /^\/(?:home|root|run\/user)(?:\/|$)/.test(stateDirectory)
    ? text.replace('ProtectHome=yes', 'ProtectHome=read-only')
    : text

const initScript = ({ texts, tracker, program }: Wanted, script: string, settings: string): Item[] => [
  { path: paths.initScript, kind: 'configuration', mode: 0o755, content: { text: script } },
  {
    path: settings,
    kind: 'configuration',
    mode: 0o644,
    content: {
      text: texts.initSettings.replace('tracker=auto', `tracker=${canServe(program) ? tracker : 'helper'}`),
    },
    ...(tracker === 'auto' ? {} : { ofThisMachine: true, asPackaged: { text: texts.initSettings } }),
  },
]

function programFiles(program: Program): Item[] {
  const file = (path: string, content: Content, mode = 0o755): Item => ({ path, kind: 'program', mode, content })
  const beside = (scripts: readonly string[]): Item[] =>
    scripts.map((script) =>
      file(`${libraryDirectory}/${basename(script)}`, { scriptOf: script, interpreter: undefined }, 0o644),
    )
  if ('executable' in program) return [...beside(program.beside), file(helperPath, { copyOf: program.executable })]
  // After `#!` the kernel reads up to white space, and at most 255 bytes.
  if (/\s/.test(program.node) || program.node.length > 250)
    throw new Failed({ kind: 'bad-argument', why: 'the kernel can not run a script by a Node at', word: program.node })
  return [
    ...beside(program.scripts.beside),
    file(`${libraryDirectory}/${name}.cjs`, { scriptOf: program.scripts.upcalls, interpreter: program.node }),
    file(helperPath, { linkTo: `../lib/${name}/${name}.cjs` }),
  ]
}

/** Puts the state directory into a text, in place of the usual one. systemd and tmpfiles quote in the same way. */
const about = (text: string, stateDirectory: string): string =>
  text.replaceAll(usualStateDirectory, () => systemdWord(stateDirectory))

function systemdWord(path: string): string {
  const escaped = path.replaceAll('%', '%%')
  if (/^[\w./%:@+,-]*$/.test(escaped)) return escaped
  // U+FFFD stands for bytes that were not UTF-8.
  if (/[\x00-\x1f\x7f\ufffd]/.test(path))
    throw new Failed({ kind: 'bad-argument', why: 'no unit can name this state directory', word: path })
  return `"${escaped.replaceAll(/["\\]/g, String.raw`\$&`)}"`
}
