/**
 * Client owners named by a person: as this program prints them (escaped), as hex, or by a prefix of the printed form that
 * only one known client has.
 */
import type { Argv } from 'yargs'
import { Failed } from '../failure.ts'
import { escapeOwner, ownerFromEscaped, ownerFromHex, showOwner, type ClientOwner } from '../upcall/owner.ts'

/** `--hex`, for every command that is given owners. */
export const withHex = <Given>(cli: Argv<Given>) =>
  cli.option('hex', { type: 'boolean', default: false, describe: 'owners are given as hex, two digits a byte' })

/** An owner spelled out: it need not be known. Spaces may stand as they are. @throws Failed bad-argument, owner-too-long. */
export const ownerSpelled = (word: string, hex: boolean): ClientOwner =>
  hex ? ownerFromHex(word) : ownerFromEscaped(withEscapedSpaces(word))

/** How a word may name a client: `whole`, where nobody is asked whether somebody else is meant. */
export type Naming = 'whole' | 'whole or beginning'

/**
 * The one among `known` that a person means. A word that is a whole owner means it, also where it begins others.
 * @throws Failed bad-argument: nobody, or several, are called so.
 */
export function ownerNamed(word: string, hex: boolean, known: Iterable<ClientOwner>, naming: Naming = 'whole or beginning'): ClientOwner {
  const owners = new Map([...known].map((owner) => [escapeOwner(owner), owner]))
  const whole = wholeOwner(word, hex)
  const exact = whole === undefined ? undefined : owners.get(escapeOwner(whole))
  if (exact !== undefined) return exact
  const prefix = withEscapedSpaces(word)
  const begun = hex || prefix === '' ? [] : [...owners].filter(([escaped]) => escaped.startsWith(prefix))
  const [first, ...others] = begun
  if (first === undefined) throw new Failed({ kind: 'bad-argument', why: 'no client is recorded by this name', word })
  if (naming === 'whole')
    throw new Failed({ kind: 'bad-argument', why: `no client is recorded by this whole name; to let it be a beginning (${showOwner(first[1])}), say --prefix`, word })
  if (others.length === 0) return first[1]
  const some = begun.slice(0, examples).map(([, owner]) => showOwner(owner))
  const more = begun.length > examples ? `, and ${begun.length - examples} more` : ''
  throw new Failed({ kind: 'bad-argument', why: `${begun.length} clients begin so (${some.join(', ')}${more})`, word })
}

/** How many of those that a word may mean are named. */
const examples = 3

/** A prefix may end within an escape, and is no owner then. With --hex there are no prefixes, so the mistake is told. */
function wholeOwner(word: string, hex: boolean): ClientOwner | undefined {
  try {
    return ownerSpelled(word, hex)
  } catch (thrown) {
    if (hex || !(thrown instanceof Failed) || thrown.failure.kind !== 'bad-argument') throw thrown
    return undefined
  }
}

const withEscapedSpaces = (word: string): string => word.replaceAll(' ', '\\040')
