/** Reads the words and the environment of an upcall. Pure. */
import { Failed } from '../failure.ts'
import { legacyName } from './legacy-name.ts'
import { ownerFromEscaped, ownerFromHex, type ClientOwner } from './owner.ts'
import { verbs, type Verb } from './verbs.ts'

/**
 * The kernel's boot time of its nfsd (`nn->boot_time`, seconds), as text. It names a server instance, and is only ever
 * compared for equality.
 */
export type KernelBootTime = string

/**
 * Whether a client has a session (NFSv4.1 and later). If that is not known, the client is never treated as if it had
 * one.
 */
export type Session = KnownSession | 'unknown'
export type KnownSession = 'has session' | 'no session'

export type Request =
  | {
      readonly event: 'start'
      readonly kernelBootTime: KernelBootTime | undefined
      /** The name of the pipe that asked. It tells one start of the server from the next if there is no boot time. */
      readonly askedBy?: string
      /** The name of the pipe through which this server asks from now on. */
      readonly pipe?: string
    }
  | {
      readonly event: 'create'
      readonly owner: ClientOwner
      readonly session: Session
      /**
       * SHA-256 of the Kerberos principal, 62 or 64 hex digits: the first 31 or all of its bytes. Undefined, if the
       * kernel does not say one.
       */
      readonly principal: string | undefined
      readonly kernelBootTime?: KernelBootTime | undefined
    }
  | { readonly event: 'remove'; readonly owner: ClientOwner }
  | {
      readonly event: 'check'
      readonly owner: ClientOwner
      readonly session: KnownSession
      /** The directory in which the kernel's own tracker would have kept this client. */
      readonly legacyRecord: string | undefined
    }
  | {
      readonly event: 'grace-done'
      readonly kernelBootTime: KernelBootTime | undefined
      /** The directory of the kernel's own tracker. */
      readonly legacyTop: string | undefined
    }

/** Every request of a server instance that has started. */
export type Asked = Exclude<Request, { event: 'start' }>

/** Every request about one client. */
export type ClientRequest = Extract<Asked, { readonly owner: ClientOwner }>

export interface Parsed {
  readonly request: Request
  /** Variables that can't be understood. They count as absent, and are logged. */
  readonly ignored: readonly string[]
}

/** Has the kernel's `NFSDCLTRACK_*` variables. Each is optional: kernels before 3.18 set none. */
type Environment = Readonly<Record<string, string | undefined>>

/** Parses one upcall. @throws Failed bad-argument, owner-too-long. */
export function parseRequest(verb: Verb, words: readonly string[], environment: Environment): Parsed {
  const { takes } = verbs[verb]
  const [word, ...surplus] = words
  if (takes === 'nothing' ? word !== undefined : surplus.length > 0)
    throw new Failed({
      kind: 'bad-argument',
      why: `surplus argument of ${verb}`,
      word: (takes === 'nothing' ? word : surplus[0]) ?? '',
    })
  if (takes !== 'nothing' && word === undefined)
    throw new Failed({ kind: 'bad-argument', why: `missing argument of ${verb}` })

  const variables: Variables = { environment, ignored: [] }
  return { request: requestOf(verb, word ?? '', variables), ignored: variables.ignored }
}

interface Variables {
  readonly environment: Environment
  readonly ignored: string[]
}

/** @param understand returns undefined for a value that can't be understood */
function read<T>({ environment, ignored }: Variables, name: string, understand: (value: string) => T | undefined) {
  const value = environment[name]
  if (value === undefined || value === '') return undefined
  const understood = understand(value)
  if (understood === undefined) ignored.push(name)
  return understood
}

const bootTimeFrom = (variables: Variables): KernelBootTime | undefined =>
  read(variables, 'NFSDCLTRACK_GRACE_START', asBootTime)

/**
 * The kernel writes Y or N. A client without a session never says that it has reclaimed everything, so "no session" is
 * the safe choice for any other value.
 */
const sessionFrom = (variables: Variables): KnownSession =>
  read(variables, 'NFSDCLTRACK_CLIENT_HAS_SESSION', asSession) ?? 'no session'

const ownerFrom = (takes: (typeof verbs)[Verb]['takes'], argument: string): ClientOwner =>
  takes === 'hex-owner' ? ownerFromHex(argument) : ownerFromEscaped(argument)

/** No functions in it: making six of them would be a fiftieth of a check. */
function requestOf(verb: Verb, argument: string, variables: Variables): Request {
  const { event, takes } = verbs[verb]
  switch (event) {
    case 'start':
      return { event, kernelBootTime: bootTimeFrom(variables) }
    case 'create':
      return {
        event,
        owner: ownerFrom(takes, argument),
        session: sessionFrom(variables),
        principal: undefined,
        kernelBootTime: bootTimeFrom(variables),
      }
    case 'remove':
      return { event, owner: ownerFrom(takes, argument) }
    case 'check':
      return {
        event,
        owner: ownerFrom(takes, argument),
        session: sessionFrom(variables),
        legacyRecord: read(variables, 'NFSDCLTRACK_LEGACY_RECDIR', asLegacyRecord),
      }
    case 'grace-done': {
      const kernelBootTime = takes === 'boot-time' ? asBootTime(argument) : undefined
      if (takes === 'boot-time' && kernelBootTime === undefined)
        throw new Failed({ kind: 'bad-argument', why: 'boot time is not a number of seconds', word: argument })
      return { event, kernelBootTime, legacyTop: read(variables, 'NFSDCLTRACK_LEGACY_TOPDIR', asTop) }
    }
    default:
      return event satisfies never
  }
}

/** A boot time as the kernel prints it (`%lld` of a time64_t since 1970), without leading zeros. */
function asBootTime(word: string): KernelBootTime | undefined {
  for (const digit of word) if (digit < '0' || digit > '9') return undefined
  if (word.length === latestBootTime.length ? word > latestBootTime : word.length > latestBootTime.length)
    return undefined
  return word === '' || (word.startsWith('0') && word !== '0') ? undefined : word
}
const latestBootTime = '9223372036854775807'

const asSession = (word: string): KnownSession | undefined =>
  word === 'Y' ? 'has session' : word === 'N' ? 'no session' : undefined

/** An absolute path without `.` and `..`. */
const asDirectory = (word: string): string | undefined =>
  word.startsWith('/') && !word.includes('\0') && !word.split('/').some((part) => part === '.' || part === '..')
    ? word
    : undefined

/** The same without a slash at the end, with which a person may have set it in the kernel. */
const asTop = (word: string): string | undefined => asDirectory(word)?.replace(/(.)\/+$/, '$1')

/** `<dir>/<name>`, as the kernel's own tracker names a client. */
function asLegacyRecord(word: string): string | undefined {
  const slash = word.lastIndexOf('/')
  return slash > 0 && legacyName.test(word.slice(slash + 1)) ? asDirectory(word) : undefined
}
