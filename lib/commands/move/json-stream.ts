/**
 * Reads a JSON object (RFC 8259) that may not fit into memory: its members one by one, and the items of its long lists.
 * Pure.
 */

interface Member {
  readonly name: string
  readonly value: unknown
  /** Whether it is one item of the list of that name, and not the whole member. */
  readonly isItem: boolean
}

/** Longer than any item that is read here. */
const longestValue = 1 << 16

/** A document that is being read. */
interface Reading {
  readonly chunks: Iterator<string>
  /** The text that has been read and is still needed, and how far it has been parsed. */
  text: string
  at: number
  /** Whether each item is on a line of its own, as `export` writes them. */
  onLines: boolean
  readonly wrong: (what: string) => Error
}

/**
 * The members of the object in a text, in their order.
 * @param chunks the text; each character is a byte of its UTF-8
 * @param lists the members of which, if they are lists, each item is given
 * @throws the error that `wrong` makes, if the text is no object. By then, members before the fault have been given
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

/** Reads more text, and drops what has been parsed. @returns whether there was any */
function hadMore(reading: Reading): boolean {
  const next = reading.chunks.next()
  if (next.done === true) return false
  reading.text = reading.text.slice(reading.at) + next.value
  reading.at = 0
  return true
}

/** The next character that is not white space. It is not consumed. '' at the end. */
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

/** Parses a whole value. */
function takeValue(reading: Reading): unknown {
  peek(reading)
  for (let from = 0, state = { depth: 0, inString: false, escaped: false }; ;) {
    const end = endOfValue(reading.text, reading.at, reading.at + from, state)
    if (end !== undefined) return parsed(reading, end)
    from = reading.text.length - reading.at
    if (from > longestValue) throw reading.wrong('a part of it is too long')
    // Only a number may end at the end of the text.
    if (!hadMore(reading)) return parsed(reading, reading.text.length)
  }
}

/**
 * Parses the rest of this line, without a comma at its end, as one object. No string of JSON extends over two lines, so
 * a line that can be parsed is the whole item. This saves looking at each character: a tenth of an import's time.
 * Undefined, if the line is no object.
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
 * Where the value that begins at `begin` ends, as far as `text` shows that. Whether it is valid is left to the parser.
 * @param from how far it has been examined, and with which state
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
