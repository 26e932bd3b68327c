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
  const noJson = (): Error => wrong('it is no JSON document')
  const source = chunks[Symbol.iterator]()
  let text = ''
  let at = 0
  /** The next character that is no white space, which stays; '' at the end. */
  const peek = (): string => {
    for (;;) {
      while (at < text.length && ' \n\r\t'.includes(text.charAt(at))) at++
      if (at < text.length) return text.charAt(at)
      if (!more()) return ''
    }
  }
  /** More text, behind what has not been read yet. */
  const more = (): boolean => {
    const next = source.next()
    if (next.done === true) return false
    text = text.slice(at) + next.value
    at = 0
    return true
  }
  const take = (expected: string): void => {
    if (peek() !== expected) throw noJson()
    at++
  }
  /** A whole value. */
  const value = (): unknown => {
    peek()
    for (let from = 0, state = { depth: 0, inString: false, escaped: false }; ;) {
      const end = endOfValue(text, at, at + from, state)
      if (end !== undefined) return parsed(end)
      from = text.length - at
      if (from > longestValue) throw wrong('a part of it is too long')
      // Only a number may end where the text ends.
      if (!more()) return parsed(text.length)
    }
  }
  /** Whether items stand on a line each, as `export` writes them. */
  const items = { onLines: true }
  /**
   * The object that the rest of this line is, but for a comma: no line of a document ends within a word, so if that
   * much can be parsed it is the whole item. It saves looking at each character, a tenth of an import. Undefined, where
   * it is none.
   */
  const objectOnLine = (): unknown => {
    if (peek() !== '{') return undefined
    const line = text.indexOf('\n', at)
    const end = line > at && text.charAt(line - 1) === ',' ? line - 1 : line
    if (end < 0) return undefined
    try {
      const object = JSON.parse(asText(text.slice(at, end))) as unknown
      at = end
      return object
    } catch {
      items.onLines = false
      return undefined
    }
  }
  const asText = (word: string): string => (/[\x80-\xff]/.test(word) ? Buffer.from(word, 'latin1').toString() : word)
  const parsed = (end: number): unknown => {
    const word = text.slice(at, end)
    at = end
    try {
      return JSON.parse(asText(word)) as unknown
    } catch {
      throw noJson()
    }
  }

  take('{')
  for (let first = true; peek() !== '}'; first = false) {
    if (!first) take(',')
    if (peek() !== '"') throw noJson()
    const name = String(value())
    take(':')
    if (!lists.includes(name) || peek() !== '[') {
      yield { name, value: value(), isItem: false }
      continue
    }
    take('[')
    for (let begun = false; peek() !== ']'; begun = true) {
      if (begun) take(',')
      yield { name, value: (items.onLines ? objectOnLine() : undefined) ?? value(), isItem: true }
    }
    take(']')
  }
  take('}')
  if (peek() !== '') throw noJson()
}

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
