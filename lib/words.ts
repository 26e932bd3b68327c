/** Options at the beginning of a command line. Pure. */
import { Failed } from './failure.ts'

/** A word that is an option. */
export interface OptionWord<Name extends string> {
  readonly name: Name
  readonly takesValue: boolean
  /** The value in the same word: `--name=value`, `-nvalue`. */
  readonly value?: string | undefined
  /** More short options in the same word, as a word of their own. */
  readonly bundled?: string
}

/**
 * Reads options up to the first word that is not one.
 * @param optionIn parses a word as an option; undefined, if it is not one
 * @returns the last value of each option, '' for one that takes no value, and the words that follow.
 * @throws Failed bad-argument for an option that lacks its value, or takes none and has one.
 */
export function readOptions<Name extends string>(
  words: readonly string[],
  optionIn: (word: string) => OptionWord<Name> | undefined,
): { readonly given: ReadonlyMap<Name, string>; readonly rest: string[] } {
  const given = new Map<Name, string>()
  const rest = [...words]
  for (let word = rest[0]; word !== undefined; word = rest[0]) {
    const option = optionIn(word)
    if (option === undefined) break
    rest.shift()
    const { name, takesValue, bundled } = option
    if (bundled !== undefined) rest.unshift(bundled)
    const value = option.value ?? (takesValue ? rest.shift() : undefined)
    if (!takesValue && value !== undefined)
      throw new Failed({ kind: 'bad-argument', why: `option --${name} takes no value`, word })
    if (takesValue && (value === undefined || value === ''))
      throw new Failed({ kind: 'bad-argument', why: `option --${name} needs a value`, word })
    given.set(name, value ?? '')
  }
  return { given, rest }
}
