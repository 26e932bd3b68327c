/**
 * Client owners as a person names them: as this program prints them (escaped), as hex, or by a prefix of the printed
 * form that only one known client has.
 */
import type { Argv } from 'yargs'
import { Failed } from '../../failure.ts'
import {
  escapeOwner,
  ownerFromEscaped,
  ownerFromHex,
  quoteOwner,
  showOwner,
  type ClientOwner,
} from '../../upcall/owner.ts'
import { legacyRecordsOf } from './legacy.ts'
import { clientsIn, recordsOfOwner } from './recorded-clients.ts'
import type { Survey } from './survey.ts'

/** `--hex`, for every command that takes owners. */
export const withHex = <Given>(cli: Argv<Given>) =>
  cli.option('hex', { type: 'boolean', default: false, describe: 'owners are hex, two digits for each byte' })

/** The words of a command that takes several owners. */
export const severalOwners = (describe: string) =>
  ({ type: 'string', array: true, demandOption: true, describe }) as const

/** How a person spells owners (see {@link withHex}). */
interface Spelling {
  readonly hex: boolean
}

/**
 * An owner that is spelled out and need not be known. Spaces need no escape.
 * @throws Failed bad-argument, owner-too-long.
 */
export const ownerSpelled = (word: string, { hex }: Spelling): ClientOwner =>
  hex ? ownerFromHex(word) : ownerFromEscaped(withEscapedSpaces(word))

/** Clients that a person may mean. */
export interface Known {
  readonly has: (owner: ClientOwner) => boolean
  readonly all: () => Iterable<ClientOwner>
}

/**
 * The clients that are recorded and `others`. The kernel's own tracker has only the MD5 of an owner, so it is asked
 * only about whole ones.
 */
export const knownTo = (surveyed: Survey, others: readonly { readonly owner: ClientOwner }[] = []): Known => ({
  has: (owner) =>
    recordsOfOwner(surveyed, owner).length > 0 ||
    legacyRecordsOf(surveyed, owner).length > 0 ||
    others.some((other) => Buffer.compare(other.owner, owner) === 0),
  *all() {
    for (const { owner } of clientsIn(surveyed)) yield owner
    for (const { owner } of others) yield owner
  },
})

/** How a word may name a client. `whole`: nobody is asked whether another client is meant. */
export type Naming = 'whole' | 'whole or beginning'

/**
 * The client among `known` that a person means. A word that is a whole owner means that owner, even if others begin
 * with it.
 * @throws Failed bad-argument, if no client or several clients match
 */
export function ownerNamed(
  word: string,
  known: Known,
  { hex, naming = 'whole or beginning' }: Spelling & { readonly naming?: Naming },
): ClientOwner {
  const whole = wholeOwner(word, { hex })
  if (whole !== undefined && known.has(whole)) return whole
  const begun = hex ? new Map<string, ClientOwner>() : beginningWith(word, known)
  const [first, ...others] = begun.values()
  if (first === undefined) throw new Failed({ kind: 'bad-argument', why: 'no client has this owner', word })
  if (naming === 'whole')
    throw new Failed({
      kind: 'bad-argument',
      why: `no client has this whole owner; with --prefix it would mean ${showOwner(first)}`,
      word,
    })
  if (others.length === 0) return first
  const some = [first, ...others].slice(0, examples).map(showOwner)
  const more = begun.size > examples ? `, and ${begun.size - examples} more` : ''
  const many = begun.size === mostBegun ? `${mostBegun} clients or more` : `${begun.size} clients`
  throw new Failed({ kind: 'bad-argument', why: `${many} begin like this (${some.join(', ')}${more})`, word })
}

/** A beginning that this many clients have is no name. */
const mostBegun = 1000

function beginningWith(word: string, known: Known): ReadonlyMap<string, ClientOwner> {
  const found = new Map<string, ClientOwner>()
  if (word === '') return found
  const prefix = withEscapedSpaces(word)
  const shown = `"${word}`
  for (const owner of known.all()) {
    const escaped = escapeOwner(owner)
    if (escaped.startsWith(prefix) || quoteOwner(owner).startsWith(shown)) found.set(escaped, owner)
    if (found.size === mostBegun) break
  }
  return found
}

/** How many of the clients that a word may mean are named in a message. */
const examples = 3

/**
 * The owner that a word spells; undefined, if it is no owner. A prefix may end within an escape. With --hex there are
 * no prefixes, so the mistake is reported.
 */
export function wholeOwner(word: string, { hex }: Spelling): ClientOwner | undefined {
  try {
    return ownerSpelled(word, { hex })
  } catch (thrown) {
    if (hex || !(thrown instanceof Failed) || thrown.failure.kind !== 'bad-argument') throw thrown
    return undefined
  }
}

const withEscapedSpaces = (word: string): string => word.replaceAll(' ', '\\040')
