/**
 * A JSON object (RFC 8259) that is larger than memory should hold: its members one by one, and those of its long lists.
 * Pure.
 */

interface Member {
  readonly name: string
  readonly value: unknown
  /** One item of the list of that name, rather than the whole of it. */
  readonly isItem: boolean
}

/** Longer than any item that is read here. */
const longestValue = 1 << 16

/** A document that is being read. */
interface Reading {
  readonly chunks: Iterator<string>
  /** What has been had of it, from some point on, and how far of that has been read. */
  text: string
  at: number
  /** Items stand on a line each, as `export` writes them. */
  onLines: boolean
  readonly wrong: (what: string) => Error
}

/**
 * The members of the object that a text is, in their order.
 * @param chunks the text, each character a byte of its UTF-8.
 * @param lists members that are told item by item, where they are lists.
 * @throws what `wrong` makes of the reason, where it is no object; what came before has been told by then.
 */
export function* membersOf(
  chunks: Iterable<string>,
  lists: readonly string[],
  wrong: (what: string) => Error,
): Generator<Member> {
  const reading: Reading = { chunks: chunks[Symbol.iterator](), text: '', at: 0, onLines: true, wrong }
  take(reading, '{')
  for (let first = true; peek(reading) !== '}'; first = false) {
    if (!first) take(reading, ',')
    if (peek(reading) !== '"') throw noJson(reading)
    const name = String(takeValue(reading))
    take(reading, ':')
    if (!lists.includes(name) || peek(reading) !== '[') {
      yield { name, value: takeValue(reading), isItem: false }
      continue
    }
    take(reading, '[')
    for (let begun = false; peek(reading) !== ']'; begun = true) {
      if (begun) take(reading, ',')
      yield { name, value: takeObjectOnLine(reading) ?? takeValue(reading), isItem: true }
    }
    take(reading, ']')
  }
  take(reading, '}')
  if (peek(reading) !== '') throw noJson(reading)
}

const noJson = ({ wrong }: Reading): Error => wrong('it is no JSON document')

/** More text, behind what has not been read yet. @returns whether there was any. */
function hadMore(reading: Reading): boolean {
  const next = reading.chunks.next()
  if (next.done === true) return false
  reading.text = reading.text.slice(reading.at) + next.value
  reading.at = 0
  return true
}

/** The next character that is no white space, which stays; '' at the end. */
function peek(reading: Reading): string {
  for (;;) {
    const { text } = reading
    while (reading.at < text.length && ' \n\r\t'.includes(text.charAt(reading.at))) reading.at++
    if (reading.at < text.length) return text.charAt(reading.at)
    if (!hadMore(reading)) return ''
  }
}

function take(reading: Reading, expected: string): void {
  if (peek(reading) !== expected) throw noJson(reading)
  reading.at++
}

/** A whole value. */
function takeValue(reading: Reading): unknown {
  peek(reading)
  for (let from = 0, state = { depth: 0, inString: false, escaped: false }; ;) {
    const end = endOfValue(reading.text, reading.at, reading.at + from, state)
    if (end !== undefined) return parsed(reading, end)
    from = reading.text.length - reading.at
    if (from > longestValue) throw reading.wrong('a part of it is too long')
    // Only a number may end where the text ends.
    if (!hadMore(reading)) return parsed(reading, reading.text.length)
  }
}

/**
 * The object that the rest of this line is, but for a comma: no line of a document ends within a word, so if that much
 * can be parsed it is the whole item. It saves looking at each character, a tenth of an import. Undefined, where it is
 * none.
 */
function takeObjectOnLine(reading: Reading): unknown {
  if (!reading.onLines || peek(reading) !== '{') return undefined
  const { text, at } = reading
  const line = text.indexOf('\n', at)
  const end = line > at && text.charAt(line - 1) === ',' ? line - 1 : line
  if (end < 0) return undefined
  try {
    const object = JSON.parse(asText(text.slice(at, end))) as unknown
    reading.at = end
    return object
  } catch {
    reading.onLines = false
    return undefined
  }
}

function parsed(reading: Reading, end: number): unknown {
  const word = reading.text.slice(reading.at, end)
  reading.at = end
  try {
    return JSON.parse(asText(word)) as unknown
  } catch {
    throw noJson(reading)
  }
}

const asText = (word: string): string => (/[\x80-\xff]/.test(word) ? Buffer.from(word, 'latin1').toString() : word)

/**
 * Where the value ends that begins at `begin`, as far as that can be told by `text`. Whether it is one is for a parser
 * to say.
 * @param from how far it has been looked at, and in which state.
 */
function endOfValue(
  text: string,
  begin: number,
  from: number,
  state: { depth: number; inString: boolean; escaped: boolean },
): number | undefined {
  for (let at = from; at < text.length; at++) {
    const character = text.charCodeAt(at)
    if (state.inString) {
      if (state.escaped) state.escaped = false
      else if (character === 0x5c) state.escaped = true
      else if (character === 0x22) {
        state.inString = false
        if (state.depth === 0) return at + 1
      }
      continue
    }
    switch (character) {
      case 0x22:
        state.inString = true
        break
      case 0x7b:
      case 0x5b:
        state.depth++
        break
      case 0x7d:
      case 0x5d:
        if (state.depth === 0) return at
        if (--state.depth === 0) return at + 1
        break
      case 0x2c:
      case 0x20:
      case 0x0a:
      case 0x0d:
      case 0x09:
        if (state.depth === 0 && at > begin) return at
    }
  }
  return undefined
}
