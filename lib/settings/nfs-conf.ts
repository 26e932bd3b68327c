/**
 * The nfs-utils configuration file, nfs.conf(5), as nfs-utils reads it (support/nfs/conffile.c). Pure.
 *
 * Names of sections and keys are case-insensitive. `#` and `;` begin a comment, also after a value. A backslash at the
 * end of a line joins the next one to it. A text's characters stand for bytes, so white space is ASCII's.
 */

export interface Assignment {
  /** In lower case, with its argument if it has one: `nfsd "x"` is another section than `nfsd`. */
  readonly section: string
  readonly key: string
  readonly value: string
}

export interface Reading {
  readonly assignments: readonly Assignment[]
  /** The last assignment of the text, wanted or not. */
  readonly last: Assignment | undefined
  /** Lines that are no assignment, or are in no section. */
  readonly odd: readonly { readonly section: string; readonly line: string }[]
}

/**
 * Takes time and memory in proportion to the length of the text, whatever it contains.
 * @param section the section in which the text begins: for an included file, that of its `include`
 * @param wanted whether an assignment is wanted. By default all are.
 */
export function readNfsConf(text: string, section = '', wanted?: (section: string, key: string) => boolean): Reading {
  const assignments: Assignment[] = []
  let last: Assignment | undefined
  const odd: { section: string; line: string }[] = []
  let current = section
  for (const raw of text.replaceAll('\\\n', '  ').split('\n')) {
    const line = trimmed(raw)
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue
    const equals = line.indexOf('=')
    if (line.startsWith('[')) {
      current = sectionIn(line)
      if (current === '') odd.push({ section: '', line })
    } else if (current === '' || equals <= 0) {
      odd.push({ section: current, line })
    } else {
      last = {
        section: current,
        key: trimmed(line.slice(0, equals)).toLowerCase(),
        value: valueIn(trimmed(line.slice(equals + 1))),
      }
      if (wanted?.(last.section, last.key) !== false) assignments.push(last)
    }
  }
  return { assignments, last, odd }
}

/**
 * `[name]` or `[name "argument"]`; the rest of the line is ignored.
 * @returns '' for anything else: the lines that follow are then in no section.
 */
function sectionIn(line: string): string {
  const [, spaced = '', argument] = /^\[([^\]"]*)("[^"\]]*"[^\]]*)?\]/.exec(line) ?? []
  const name = trimmed(spaced).toLowerCase()
  return argument === undefined ? name : `${name} ${argument}`
}

/** In a quoted value, such as `"a # b"` or `'a # b'`, nothing begins a comment. */
function valueIn(text: string): string {
  const quoted = /^(["'])(.*?)\1/.exec(text)
  return quoted?.[2] ?? trimmed(text.replace(/[#;].*/, ''))
}

const isBlank = (character: string | undefined): boolean => character !== undefined && ' \t\r\v\f'.includes(character)

/** A regular expression would take quadratic time for a long run of blanks. */
function trimmed(text: string): string {
  let [begin, end] = [0, text.length]
  while (isBlank(text[begin])) begin++
  while (end > begin && isBlank(text[end - 1])) end--
  return text.slice(begin, end)
}

/** nfs.conf's booleans; undefined for anything else. */
export function booleanFrom(value: string): boolean | undefined {
  if (/^(?:1|t|true|y|yes|on)$/i.test(value)) return true
  if (/^(?:0|f|false|n|no|off)$/i.test(value)) return false
  return undefined
}
