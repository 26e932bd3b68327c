/**
 * What the table of calls promises, tested for both ways to make the calls: Node's in Node, and the host in C in its
 * own engine. So this uses only the language and the table.
 */
import { atFlags, pollEvents, type Calls } from '../../lib/syscalls/calls.ts'
import { errno } from '../../lib/syscalls/errno.ts'
import { namesOf } from '../../lib/syscalls/files.ts'
import { expectedOfLocks, locked } from '../support/locked-files.ts'
import { countedChanges, expectedCounts } from '../support/watched-names.ts'

const { AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR } = atFlags

export interface Promised {
  readonly sentence: string
  /** @throws Error that says what was found instead. */
  readonly hold: () => void
}

/** Every byte that a name may have. */
const nameBytes = Array.from({ length: 255 }, (_, at) => at + 1).filter((byte) => byte !== 0x2f)
export const everyByteOfAName = String.fromCharCode(...nameBytes)
const everyByte = Array.from({ length: 256 }, (_, at) => at)

const shown = (value: unknown): string =>
  typeof value === 'string'
    ? `'${Array.from(value, (c) => (c >= ' ' && c <= '~' ? c : `\\u${c.charCodeAt(0).toString(16)}`))
        .join('')
        .slice(0, 300)}'`
    : Array.isArray(value)
      ? `[${value.map(shown).join(', ').slice(0, 300)}]`
      : typeof value === 'object' && value !== null
        ? `{${Object.entries(value)
            .map(([name, of]) => `${name}: ${shown(of)}`)
            .join(', ')}}`
        : String(value)

function same(what: string, found: unknown, wanted: unknown): void {
  if (shown(found) !== shown(wanted) || (typeof found === 'string' && found !== wanted))
    throw new Error(`${what}: ${shown(found)}, and not ${shown(wanted)}`)
}

function right(what: string, is: boolean): void {
  if (!is) throw new Error(what)
}

/**
 * @param room an empty directory.
 * @param whose the host has calls that Node does not have.
 */
export function promises(calls: Calls, room: string, whose: 'host' | 'Node'): Promised[] {
  const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = calls.flags
  const all: Promised[] = []
  const it = (sentence: string, hold: (directory: number, path: string) => void): void => {
    all.push({
      sentence,
      hold: () => {
        const name = String(all.findIndex((other) => other.sentence === sentence))
        same('a room for the test', calls.mkdirat(AT_FDCWD, `${room}/${name}`, 0o700), 0)
        const directory = calls.openat(AT_FDCWD, `${room}/${name}`, O_RDONLY | O_DIRECTORY, 0)
        hold(directory, `${room}/${name}`)
        same('close', calls.close(directory), 0)
      },
    })
  }
  const make = (directory: number, name: string, bytes: readonly number[] = []): void => {
    const descriptor = calls.openat(directory, name, O_WRONLY | O_CREAT | O_EXCL, 0o640)
    right(`${name} is made: ${descriptor}`, descriptor >= 0)
    if (bytes.length > 0) same('write', calls.write(descriptor, Uint8Array.from(bytes)), bytes.length)
    same('close', calls.close(descriptor), 0)
  }
  const namesIn = (directory: number): string[] => {
    const found: string[] = []
    for (
      let entries = calls.entries(directory);
      typeof entries !== 'number' && entries !== '';
      entries = calls.entries(directory)
    )
      found.push(...namesOf(entries))
    return found.sort()
  }
  const refusal = (call: () => unknown): string => {
    try {
      return `answered ${shown(call())}`
    } catch (thrown) {
      const { code, errno: number, syscall, path } = thrown as NodeJS.ErrnoException
      return `${thrown instanceof Error ? 'Error' : 'no Error'} ${code ?? '?'} ${number ?? '?'} ${syscall ?? '?'} ${path?.length ?? '?'}`
    }
  }

  it('an answer that is no success is the negated errno', (directory) => {
    make(directory, 'file')
    same('openat', calls.openat(directory, 'missing', O_RDONLY, 0), -errno.ENOENT)
    same('openat of a file as a directory', calls.openat(directory, 'file', O_RDONLY | O_DIRECTORY, 0), -errno.ENOTDIR)
    same(
      'openat of what is there, made anew',
      calls.openat(directory, 'file', O_WRONLY | O_CREAT | O_EXCL, 0o600),
      -errno.EEXIST,
    )
    same('read', calls.read(987_654, new Uint8Array(1)), -errno.EBADF)
    same('readText', calls.readText(987_654, 10), -errno.EBADF)
    same('write', calls.write(987_654, new Uint8Array(1)), -errno.EBADF)
    same('writeAt', calls.writeAt(987_654, 'x', 0), -errno.EBADF)
    same('fsync', calls.fsync(987_654), -errno.EBADF)
    same('fdatasync', calls.fdatasync(987_654), -errno.EBADF)
    same('fchmod', calls.fchmod(987_654, 0o600), -errno.EBADF)
    same('close', calls.close(987_654), -errno.EBADF)
    same('mkdirat', calls.mkdirat(directory, 'file', 0o700), -errno.EEXIST)
    same('unlinkat', calls.unlinkat(directory, 'missing', 0), -errno.ENOENT)
    same('unlinkat of a file as a directory', calls.unlinkat(directory, 'file', AT_REMOVEDIR), -errno.ENOTDIR)
    same('renameat', calls.renameat(directory, 'missing', directory, 'other'), -errno.ENOENT)
    same('linkat', calls.linkat(directory, 'file', directory, 'file'), -errno.EEXIST)
    same('symlinkat', calls.symlinkat('x', directory, 'file'), -errno.EEXIST)
    same('readlinkat', calls.readlinkat(directory, 'file'), -errno.EINVAL)
    same('fstatat', calls.fstatat(directory, 'missing', 0), -errno.ENOENT)
    same('fstat', calls.fstat(987_654), -errno.EBADF)
  })

  it('every byte that a name may have goes to the kernel and comes back as it is', (directory) => {
    same('symlinkat', calls.symlinkat(everyByteOfAName, directory, everyByteOfAName), 0)
    same('readlinkat', calls.readlinkat(directory, everyByteOfAName), everyByteOfAName)
    same('entries', namesIn(directory), [everyByteOfAName])
    for (const byte of nameBytes.filter((value) => value > 0x7f)) {
      const name = `a${String.fromCharCode(byte)}`
      same('symlinkat', calls.symlinkat(name, directory, name), 0)
      same(`byte ${byte}`, calls.readlinkat(directory, name), name)
    }
  })

  it('a word with a NUL, or with a character that is no byte, is refused in every place, and the kernel is not asked', (directory) => {
    make(directory, 'file')
    for (const word of [
      '\0',
      'a\0b',
      'a\0',
      '\u0100',
      'a\u0101',
      '\u20ac',
      '\u{1f512}',
      '\ud800',
      '\udc00x',
      `${'a'.repeat(5000)}\0`,
    ]) {
      const refused = `Error EINVAL -22 a word ${word.length}`
      const said: Record<string, () => unknown> = {
        openat: () => calls.openat(directory, word, O_RDONLY | O_CREAT, 0o600),
        mkdirat: () => calls.mkdirat(directory, word, 0o700),
        unlinkat: () => calls.unlinkat(directory, word, 0),
        'renameat from': () => calls.renameat(directory, word, directory, 'to'),
        'renameat to': () => calls.renameat(directory, 'file', directory, word),
        'linkat from': () => calls.linkat(directory, word, directory, 'to'),
        'linkat to': () => calls.linkat(directory, 'file', directory, word),
        'symlinkat text': () => calls.symlinkat(word, directory, 'to'),
        'symlinkat name': () => calls.symlinkat('to', directory, word),
        readlinkat: () => calls.readlinkat(directory, word),
        fstatat: () => calls.fstatat(directory, word, 0),
        identityAt: () => calls.identityAt(directory, word),
      }
      // Node's way puts its own path in front, which makes it longer.
      for (const [call, work] of Object.entries(said))
        same(`${call} of ${shown(word)}`, refusal(work).replace(/ \d+$/, ''), refused.replace(/ \d+$/, ''))
    }
    same('nothing else was made', namesIn(directory), ['file'])
  })

  it('a name may be as long as the kernel allows, and no word is cut', (directory, path) => {
    const longest = 'n'.repeat(255)
    make(directory, longest)
    same('255', namesIn(directory), [longest])
    for (const length of [256, 4095, 4096, 4097, 10_000, 1_000_000])
      for (const call of [
        () => calls.openat(directory, 'n'.repeat(length), O_RDONLY, 0),
        () => calls.symlinkat('x', directory, '\xff'.repeat(length)),
      ])
        same(`${length}`, call(), -errno.ENAMETOOLONG)
    for (const length of [4096, 10_000])
      same(`a text of ${length}`, calls.symlinkat('x'.repeat(length), directory, 'link'), -errno.ENAMETOOLONG)
    const text = 'é'.repeat(4095)
    same('a text of 4095', calls.symlinkat(text, directory, 'link'), 0)
    same('comes back', calls.readlinkat(directory, 'link'), text)
    const slashes = `${path}${'/'.repeat(4095 - path.length)}`
    right('a path of 4095', typeof calls.fstatat(AT_FDCWD, slashes, 0) !== 'number')
    same('a path of 4096', calls.fstatat(AT_FDCWD, `${slashes}/`, 0), -errno.ENAMETOOLONG)
    same(
      'an empty name',
      calls.fstatat(directory, '', 0) === -errno.ENOENT || typeof calls.fstatat(directory, '', 0),
      'object' === typeof calls.fstatat(directory, '', 0) ? 'object' : true,
    )
  })

  it("a text's digest is SHA-256 of its bytes, whatever their number is", () => {
    const ofAll = '40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880'
    same('of every byte', calls.sha256(String.fromCharCode(...everyByte)), ofAll)
    // Each text is made of the digest of the one before.
    let digest = ''
    for (let length = 0; length < 200; length++)
      digest = calls.sha256((digest.repeat(4) + 'x'.repeat(length)).slice(0, length))
    same('of many', digest, 'e780a962d37daabb314fbdab396109858c52d3a16f8b45df469bb0d0f76a2053')
    // More than any path has.
    const ofLong = '41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3'
    same('of a long one', calls.sha256('a'.repeat(1000)), ofLong)
    let isRefused = false
    try {
      calls.sha256('\u0100')
    } catch (thrown) {
      isRefused = thrown instanceof RangeError
    }
    right('a character past 255', isRefused)
  })

  it("a text's checksum is CRC-32 of its bytes, and a text's bytes are written where they are wanted", () => {
    same('as everybody has it', calls.checksum('123456789'), 'cbf43926')
    same('of nothing', calls.checksum(''), '00000000')
    same('of every byte', calls.checksum(String.fromCharCode(...everyByte)), '29058c73')
    const bytes = new Uint8Array(260)
    same('how many', calls.bytesInto(String.fromCharCode(...everyByte), bytes, 2), 256)
    same('in their place', [...bytes], [0, 0, ...everyByte, 0, 0])
    same('none, at the end', calls.bytesInto('', bytes, 260), 0)
    same('and back', calls.textOf(bytes.subarray(2, 258)), String.fromCharCode(...everyByte))
    same('none', calls.textOf(bytes.subarray(3, 3)), '')
    same('of no memory', calls.textOf(new Uint8Array(0)), '')
    for (const [text, at] of [
      ['ab', 259],
      ['', 261],
      ['a', -1],
      ['\u0100', 0],
    ] as const) {
      let refused = false
      try {
        calls.bytesInto(text, bytes, at)
      } catch (thrown) {
        refused = thrown instanceof RangeError
      }
      right(`${shown(text)} at ${at} is refused`, refused)
    }
  })

  it('a text that is spelled as a pattern says, with the right checksum, is distinguished from every other text', (directory) => {
    const patterns = 'a=?,n=###\na=?,n=###,d=****'
    const found = (name: string, text: string): string => {
      same('symlinkat', calls.symlinkat(text, directory, name), 0)
      const reading = calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
      const batch = calls.links(reading, patterns, ',sum=')
      same('close', calls.close(reading), 0)
      same('unlinkat', calls.unlinkat(directory, name, 0), 0)
      if (typeof batch !== 'object') throw new Error(`links: ${String(batch)}`)
      const { plain, others } = batch
      same('one', plain.length + others.length, 1)
      const [other] = others
      if (other === undefined) return `owner ${plain[0] ?? ''}`
      same('its name', other.name, name)
      return other.decoded === undefined ? 'other' : `owner ${other.decoded}, ${other.digits ?? 'no digits'}`
    }
    const summed = (name: string, core: string): string => `${core},sum=${calls.checksum(name + core)}`
    const right = (name: string, core: string, decoded = name): string => found(name, summed(decoded, core))
    same('plain', right('ann', 'a=?,n=12'), 'owner ann')
    same('zero', right('ann', 'a=?,n=0'), 'owner ann')
    same('as many digits as may be', right('ann', 'a=?,n=999'), 'owner ann')
    same('hex digits', right('ann', 'a=?,n=12,d=09af'), 'owner ann, 09af')
    same('bytes', right('%E9%00%2F', 'a=?,n=1', '\xe9\0/'), 'owner \xe9\0/')
    same('the longest name', right('n'.repeat(255), 'a=?,n=1'), `owner ${'n'.repeat(255)}`)
    for (let length = 1; length < 40; length++)
      same(`${length}`, right('n'.repeat(length), 'a=?,n=1'), `owner ${'n'.repeat(length)}`)
    for (const core of [
      ...[
        '',
        'a',
        'a=?,n=',
        'a=?,n=01',
        'a=?,n=00',
        'a=?,n=1000',
        'a=?,n=1 ',
        'a=?,n=1a',
        'a=?,n=-1',
        'a=!,n=1',
        'A=?,n=1',
      ],
      ...[
        'a=?,n=1,d=09a',
        'a=?,n=1,d=09aff',
        'a=?,n=1,d=09aF',
        'a=?,n=1,d=09ag',
        'a=?,n=1,d=',
        'a=?,n=1\n',
        'a=?,n=###',
        '\n',
      ],
    ])
      same(core, right('ann', core), 'other')
    for (const [name, decoded] of [
      ['.ann', '.ann'],
      ['%41', 'A'],
      ['%2f', '/'],
      ['%', ''],
      ['a b', 'a b'],
    ] as const)
      same(`name ${shown(name)}`, right(name, 'a=?,n=1', decoded), 'other')
    const good = summed('ann', 'a=?,n=12')
    same('it is', found('ann', good), 'owner ann')
    same('of another', found('anm', good), 'other')
    for (let at = 0; at < good.length; at++)
      for (const put of ['', '0', 'f', ',', ' ', '\xff'])
        if (put !== good[at]) same(`${at} ${put}`, found('ann', good.slice(0, at) + put + good.slice(at + 1)), 'other')
    for (const text of [`${good} `, ` ${good}`, `${good}0`, good.toUpperCase(), good.slice(0, -1), 'x'.repeat(300)])
      same(text, found('ann', text), 'other')
  })

  it('every entry of a directory comes once, as a spelled link or as another one, also if it is read by two in turn', (directory) => {
    const wanted = new Set<string>()
    const summed = (name: string, core: string): string => `${core},sum=${calls.checksum(name + core)}`
    for (let at = 0; at < 1500; at++) {
      const [name, core] = [`name ${at}`, at % 7 === 0 ? `n=1,d=0f` : `n=${at % 100}`]
      const isRight = at % 5 !== 0
      const text = isRight ? summed(name, core) : core
      same('symlinkat', calls.symlinkat(text, directory, calls.percentEncoded(name)), 0)
      wanted.add(!isRight ? `other name%20${at}` : at % 7 === 0 ? `digits ${name} 0f` : `plain ${name}`)
    }
    // The longest that is looked at, and one that is longer.
    const [longest, longer] = [summed('longest', 'y'.repeat(242)), summed('longer', 'y'.repeat(243))]
    same('its length', longest.length, 255)
    same('symlinkat', calls.symlinkat(longest, directory, 'longest'), 0)
    same('symlinkat', calls.symlinkat(longer, directory, 'longer'), 0)
    same('symlinkat', calls.symlinkat(everyByteOfAName, directory, everyByteOfAName), 0)
    same('mkdirat', calls.mkdirat(directory, 'directory', 0o700), 0)
    make(directory, 'file', [1])
    for (const entry of [
      'plain longest',
      ...['longer', everyByteOfAName, 'directory', 'file'].map((name) => `other ${name}`),
    ])
      wanted.add(entry)

    const patterns = ['n=##', 'n=##,d=**', 'y'.repeat(242), 'y'.repeat(243)].join('\n')
    const open = (): number => calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
    const batchOf = (reading: number): string[] => {
      const batch = calls.links(reading, patterns, ',sum=')
      if (typeof batch === 'number') throw new Error(`links: ${batch}`)
      const { plain, others } = batch ?? { plain: [], others: [] }
      return [
        ...plain.map((name) => `plain ${name}`),
        ...others.map(({ name, decoded, digits }) =>
          decoded === undefined ? `other ${name}` : `digits ${decoded} ${digits ?? '?'}`,
        ),
      ]
    }
    // Each is closed while more of it may have been read ahead.
    const readings = [open(), open()]
    for (let round = 0; round < 3; round++) for (const reading of readings) batchOf(reading)
    for (const reading of readings) same('close', calls.close(reading), 0)
    const again = [open(), open()].map((reading) => ({ reading, found: batchOf(reading) }))
    right(
      'not all at once',
      again.every(({ found }) => found.length < wanted.size),
    )
    for (let unread = again; unread.length > 0;)
      unread = unread.filter(({ reading, found }) => {
        const batch = batchOf(reading)
        found.push(...batch)
        return batch.length > 0
      })
    for (const { reading, found } of again) {
      same('each once', found.sort().join('\n'), [...wanted].sort().join('\n'))
      same('close', calls.close(reading), 0)
    }
  })

  it('a message is written once for each text, which stands in it with its length and without remains of the last', (directory) => {
    const little = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1
    const field = (text: string, room: number): number[] => {
      const bytes = Array.from({ length: room }, (_, at) => (at < text.length ? text.charCodeAt(at) : 0))
      return [...(little ? [text.length, 0] : [0, text.length]), ...bytes]
    }
    const message = Uint8Array.from([7, 0, 0, 0, 0, 0, 0, 0, 9])
    const texts = ['none', 'abcde', '\xff\0', '', 'xyz', 'none']
    const descriptor = calls.openat(directory, 'file', O_WRONLY | O_CREAT | O_EXCL, 0o600)
    same('how many', calls.writeEach(descriptor, message, 1, 5, texts, 1, 5), 4)
    same('none', calls.writeEach(descriptor, message, 1, 5, texts, 6, 6), 0)
    calls.close(descriptor)
    const reading = calls.openat(directory, 'file', O_RDONLY, 0)
    const into = new Uint8Array(100)
    same('bytes', calls.read(reading, into), 36)
    same(
      'all',
      [...into.subarray(0, 36)],
      texts.slice(1, 5).flatMap((text) => [7, ...field(text, 5), 9]),
    )
    same('what can not be written', calls.writeEach(reading, message, 1, 5, texts, 1, 5), 0)
    same('is in the message', [...message], [7, ...field('abcde', 5), 9])
    calls.close(reading)
    for (const [at, room, text, until] of [
      [1, 4, 'abcde', 1],
      [1, 7, 'a', 1],
      [-1, 4, 'a', 1],
      [1, 4, '\u0100', 1],
      [1, 4, 'a', 2],
    ] as const) {
      let refused = false
      try {
        calls.writeEach(987_654, message, at, room, [text], 0, until)
      } catch (thrown) {
        refused = thrown instanceof RangeError
      }
      right(`${shown(text)} at ${at} in ${room}, ${until}, is refused`, refused)
    }
  })

  it('a message is written once for each spelled link of a directory that has no hex digits, and all other entries are returned', (directory) => {
    const names = calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
    same('mkdirat', calls.mkdirat(names, 'records', 0o700), 0)
    const records = calls.openat(names, 'records', O_RDONLY | O_DIRECTORY, 0)
    const patterns = 'n=##\nn=##,d=**'
    const link = (name: string, core: string, isRight = true): void => {
      const sum = isRight ? calls.checksum(name + core) : '00000000'
      same('symlinkat', calls.symlinkat(`${core},sum=${sum}`, records, calls.percentEncoded(name)), 0)
    }
    const written = [
      'a',
      'b \xff',
      ' first',
      'seven77',
      'exactly8',
      'exceptio',
      ...Array.from({ length: 3000 }, (_, at) => `n${at}`),
    ]
    const left = ['nine 9999', 'except:', 'except:1', 'eight888x']
    for (const name of [...written, ...left]) link(name, 'n=7')
    for (let at = 0; at < 40; at++) {
      link(`damaged${at}`, 'n=7', false)
      link(`digits${at}`, 'n=7,d=0f')
    }
    same('mkdirat', calls.mkdirat(records, 'directory', 0o700), 0)
    make(records, 'file', [1])
    const others = [
      ...Array.from({ length: 40 }, (_, at) => [`damaged${at} `, `digits${at} digits${at} 0f`]).flat(),
      'directory ',
      'file ',
    ]

    const room = 8
    const size = 2 + room + 1
    const message = new Uint8Array(size)
    message[size - 1] = 9
    const all = (descriptor: number, longest: number): { written: number; plain: string[]; others: string[] } => {
      const reading = calls.openat(records, '.', O_RDONLY | O_DIRECTORY, 0)
      const found = { written: 0, plain: [] as string[], others: [] as string[] }
      for (;;) {
        const batch = calls.writeLinks(reading, patterns, ',sum=', -1, descriptor, message, 0, room, 'except:', longest)
        if (batch === undefined) break
        if (typeof batch === 'number') throw new Error(`writeLinks: ${batch}`)
        found.written += batch.written
        found.plain.push(...batch.plain)
        found.others.push(
          ...batch.others.map(({ name, decoded, digits }) => `${name} ${decoded ? `${decoded} ${digits ?? ''}` : ''}`),
        )
        right('a time', batch.took >= 0)
      }
      same('close', calls.close(reading), 0)
      return { written: found.written, plain: found.plain.sort(), others: found.others.sort() }
    }
    const messagesIn = (name: string, count: number): string[] => {
      const reading = calls.openat(directory, name, O_RDONLY, 0)
      const into = new Uint8Array(size * count + 1)
      same('bytes', calls.read(reading, into), size * count)
      same('close', calls.close(reading), 0)
      return Array.from({ length: count }, (_, at) => {
        const one = into.subarray(size * at, size * at + size)
        const length = Math.max(one[0] ?? 0, one[1] ?? 0)
        right(
          'nothing follows',
          [...one.subarray(2 + length, size - 1)].every((byte) => byte === 0),
        )
        same('but what was there', one[size - 1], 9)
        return calls.textOf(one.slice(2, 2 + length))
      }).sort()
    }

    const file = calls.openat(directory, 'written', O_WRONLY | O_CREAT | O_EXCL, 0o600)
    const found = all(file, 1_000_000)
    same('how many', found.written, written.length)
    same('what does not fit, or is excepted', found.plain, [...left].sort())
    same('all others', found.others.join(), others.sort().join())
    same('each', messagesIn('written', written.length).join(), written.sort().join())

    const refused = all(records, 1_000_000)
    same('none', refused.written, 0)
    same('all that could be', refused.plain.join(), [...written, ...left].sort().join())
    same('and others', refused.others.join(), others.join())

    const late = calls.openat(directory, 'late', O_WRONLY | O_CREAT | O_EXCL, 0o600)
    const few = all(late, -0.5)
    right('a few of each batch', few.written > 0 && few.written < 300)
    const each = [...messagesIn('late', few.written), ...few.plain]
    same('each once', each.sort().join(), [...written, ...left].sort().join())

    for (const [at, space] of [
      [-1, room],
      [2, room],
      [0, size],
    ] as const) {
      let isRefused = false
      try {
        calls.writeLinks(records, patterns, ',sum=', -1, file, message, at, space, 'except:', 1)
      } catch (thrown) {
        isRefused = thrown instanceof RangeError
      }
      right(`a place at ${at} of ${space} is refused`, isRefused)
    }
    for (const descriptor of [names, records, file, late]) same('close', calls.close(descriptor), 0)
  })

  it('an object has the properties that its literal or its class gives it, whatever was there, unless none may be added', () => {
    const some = { a: 1, b: 2 }
    const other = { ...some, b: 3, c: 4, ['a']: 5 }
    same('the last of a name', other, { a: 5, b: 3, c: 4 })
    let told = 0
    const heir = {
      __proto__: {
        set a(_: number) {
          told++
        },
      },
      a: 1,
    }
    same('its own', [Object.keys(heir).length, heir.a, told], [1, 1, 0])
    class Closed {
      b = 2
      constructor() {
        Object.preventExtensions(this)
      }
    }
    class Given extends Closed {
      a = 1
    }
    let refused = false
    try {
      same('nothing', new Given().a, 1)
    } catch (thrown) {
      refused = thrown instanceof TypeError
    }
    right('it is refused', refused)
    class Numbers extends Array<number> {
      override length = 2
    }
    same('as long as it is said', new Numbers().length, 2)
  })

  it('a variable that is declared in a loop is a new one in each iteration', () => {
    const told: (() => string)[] = []
    for (let at = 0; at < 3; at++) {
      let last: number | undefined
      const twice = 2 * at
      told.push(() => `${at} ${twice} ${last ?? 'none'}`)
      if (at === 1) last = at
    }
    same(
      'each has its own',
      told.map((tell) => tell()),
      ['0 0 none', '1 2 1', '2 4 none'],
    )
  })

  it('a percent-encoded text is decoded to its bytes, and nothing else is taken for one', () => {
    const plain = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.,:=@+-'
    const spelled = everyByte.map((byte) =>
      plain.includes(String.fromCharCode(byte))
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
    )
    same('every byte, encoded', calls.percentEncoded(String.fromCharCode(...everyByte)), spelled.join(''))
    same('nothing, encoded', calls.percentEncoded(''), '')
    same('a long one, encoded', calls.percentEncoded('\xe9'.repeat(1024)), '%E9'.repeat(1024))
    same('every byte', calls.percentDecoded(spelled.join('')), String.fromCharCode(...everyByte))
    same('nothing', calls.percentDecoded(''), '')
    same('a long one', calls.percentDecoded('%20'.repeat(1024)), ' '.repeat(1024))
    for (const byte of everyByte) {
      const [raw, encoded] = [String.fromCharCode(byte), `%${byte.toString(16).toUpperCase().padStart(2, '0')}`]
      const isPlain = plain.includes(raw)
      same(`${shown(raw)} alone`, calls.percentDecoded(`a${raw}`), isPlain ? `a${raw}` : undefined)
      same(encoded, calls.percentDecoded(`${encoded}a`), isPlain ? undefined : `${raw}a`)
    }
    for (const text of ['%', 'a%', '%2', '%2x', '%x2', '%2 0', '%c3', '%C', '%%20', '%u0020', '\u0120', '\u0141'])
      same(shown(text), calls.percentDecoded(text), undefined)
  })

  it('written bytes are read back unchanged, a part at a time', (directory) => {
    make(directory, 'bytes', everyByte)
    const descriptor = calls.openat(directory, 'bytes', O_RDONLY, 0)
    const into = new Uint8Array(300).fill(7)
    same('a part in the middle', calls.read(descriptor, into.subarray(10, 20)), 10)
    same('its bytes', Array.from(into.subarray(8, 22)), [7, 7, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 7, 7])
    same('the rest', calls.read(descriptor, into), 246)
    same('its bytes', Array.from(into.subarray(0, 246)), everyByte.slice(10))
    same('the end', calls.read(descriptor, into), 0)
    same('into nothing', calls.read(descriptor, new Uint8Array(0)), 0)
    calls.close(descriptor)
    const again = calls.openat(directory, 'bytes', O_RDONLY, 0)
    same('as text', calls.readText(again, 100), String.fromCharCode(...everyByte.slice(0, 100)))
    same('and the rest', calls.readText(again, 8192), String.fromCharCode(...everyByte.slice(100)))
    same('the end', calls.readText(again, 8192), '')
    calls.close(again)
    const written = calls.openat(directory, 'part', O_WRONLY | O_CREAT | O_EXCL, 0o600)
    same('a part', calls.write(written, Uint8Array.from(everyByte).subarray(200, 210)), 10)
    same('nothing', calls.write(written, new Uint8Array(0)), 0)
    same('to the disk', calls.fsync(written), 0)
    const both = calls.openat(directory, 'part', O_RDWR, 0)
    same(
      'both ways',
      [calls.write(both, new Uint8Array([200])), calls.read(both, into.subarray(0, 1)), into[0]],
      [1, 1, 201],
    )
    calls.close(both)
    same('reading what is open to write', calls.read(written, into), -errno.EBADF)
    calls.close(written)
    const part = calls.openat(directory, 'part', O_RDONLY, 0)
    same('is there', calls.readText(part, 8192), String.fromCharCode(...everyByte.slice(200, 210)))
    calls.close(part)
  })

  it('a text is written where it is told, as long as it may be, and whatever is behind stays', (directory) => {
    const file = calls.openat(directory, 'file', O_RDWR | O_CREAT | O_EXCL, 0o600)
    const contents = (): string => {
      const reading = calls.openat(directory, 'file', O_RDONLY, 0)
      let found = ''
      for (;;) {
        const part = calls.readText(reading, 8192)
        if (typeof part === 'number') throw new Error(`read: ${part}`)
        if (part === '') break
        found += part
      }
      calls.close(reading)
      return found
    }
    const bytes = String.fromCharCode(...everyByte)
    same('every byte', calls.writeAt(file, bytes, 0), 256)
    same('is there', contents(), bytes)
    same('in the middle', calls.writeAt(file, 'abc', 100), 3)
    let wanted = `${bytes.slice(0, 100)}abc${bytes.slice(103)}`
    same('and only there', contents(), wanted)
    const before = '\xff or a character past 255: \u0100'.slice(0, -1)
    same('a part of a text', calls.writeAt(file, before, 200), before.length)
    wanted = wanted.slice(0, 200) + before + wanted.slice(200 + before.length)
    same('its bytes', contents(), wanted)
    same('nothing', calls.writeAt(file, '', 10_000), 0)
    same('behind the end', calls.writeAt(file, 'end\xff', 5000), 4)
    wanted = `${wanted.padEnd(5000, '\0')}end\xff`
    same('after zeros', contents(), wanted)
    same('from where it began', calls.write(file, Uint8Array.of(7)), 1)
    wanted = `\x07${wanted.slice(1)}`
    for (const [what, some] of [
      ['ASCII', '0123456789abcdef'],
      ['bytes', 'f\xe9\xff\0\x80 \x7f\n'],
    ] as const)
      for (const length of [8191, 8193, 100_000, 131_072]) {
        const long = some.repeat(131_072 / 8).slice(0, length)
        same(`${length} of ${what}`, calls.writeAt(file, long, 4097), length)
        wanted = wanted.slice(0, 4097).padEnd(4097, '\0') + long + wanted.slice(4097 + length)
        same('are there', contents(), wanted)
        same('and the text is as it was', long, some.repeat(131_072 / 8).slice(0, length))
      }
    same('to the disk', calls.fdatasync(file), 0)
    same('before the beginning', calls.writeAt(file, 'x', -1), -errno.EINVAL)
    for (const text of ['\u0100', 'x\u20ac', `${'\xe9'.repeat(100_000)}\ud800`]) {
      let isRefused = false
      try {
        calls.writeAt(file, text, 0)
      } catch (thrown) {
        isRefused = thrown instanceof RangeError
      }
      right(`${shown(text)} is refused`, isRefused)
    }
    same('nothing was written', contents(), wanted)
    calls.close(file)
    const reading = calls.openat(directory, 'file', O_RDONLY, 0)
    same('to what is open to read', calls.writeAt(reading, 'x', 0), -errno.EBADF)
    calls.close(reading)
  })

  it('an open file gets the mode that it is given', (directory) => {
    calls.umask(0o077)
    make(directory, 'file')
    const file = calls.openat(directory, 'file', O_RDONLY, 0)
    for (const mode of [0o400, 0o644, 0o1600]) {
      same('fchmod', calls.fchmod(file, mode), 0)
      const status = calls.fstat(file)
      same('its mode', typeof status === 'number' ? status : status.mode, mode)
    }
    calls.umask(0)
    calls.close(file)
  })

  it('at most 8192 bytes are read at once', (directory) => {
    make(
      directory,
      'long',
      Array.from({ length: 10_000 }, (_, at) => at % 256),
    )
    const descriptor = calls.openat(directory, 'long', O_RDONLY, 0)
    same('at once', (calls.readText(descriptor, 8192) as string).length, 8192)
    same('the rest', (calls.readText(descriptor, 8192) as string).length, 10_000 - 8192)
    calls.close(descriptor)
  })

  it('a directory with thousands of names is read in parts, each name once', (directory) => {
    const names = Array.from({ length: 3000 }, (_, at) => `client ${at} \xe9`)
    for (const name of names) calls.symlinkat('x', directory, name)
    const reading = calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
    const first = calls.entries(reading)
    const some = typeof first === 'number' ? [] : namesOf(first)
    right('not all at once', some.length > 0 && some.length < 3000)
    const found = [...some, ...namesIn(reading)]
    same('each once', found.sort().join(), names.sort().join())
    same('too many for one text', calls.names(reading, true, ''), -errno.E2BIG)
    calls.close(reading)
  })

  it('a small directory is read as one text; a second read gives its new contents, but for a name that is not wanted', (directory) => {
    const reading = calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
    same('nothing', calls.names(reading, false, ''), '')
    calls.symlinkat('x', directory, 'link \xe9')
    const one = calls.names(reading, true, '')
    right(`a link: ${shown(one)}`, one === 'l/link \xe9' || one === 'u/link \xe9')
    calls.mkdirat(directory, 'directory', 0o700)
    const parts = String(calls.names(reading, true, '')).split('/')
    same('two', parts.slice(1).sort().join(), 'directory,link \xe9')
    same('a kind each', parts[0]?.length, 2)
    same('but for one', calls.names(reading, true, 'link \xe9'), 'd/directory')
    calls.close(reading)
  })

  it('an entry has its kind, a name its status', (directory, path) => {
    calls.umask(0)
    make(directory, 'file', [1, 2, 3])
    same('mkdirat', calls.mkdirat(directory, 'directory', 0o750), 0)
    same('symlinkat', calls.symlinkat('directory', directory, 'link'), 0)
    const kinds: Record<string, string> = {}
    const found = calls.entries(directory)
    if (typeof found !== 'number') for (const [at, name] of namesOf(found).entries()) kinds[name] = found.charAt(at)
    // Some file systems do not report it.
    for (const [name, kind] of [
      ['file', 'o'],
      ['directory', 'd'],
      ['link', 'l'],
    ] as const)
      right(name, kinds[name] === kind || kinds[name] === 'u')
    const status = (
      name: string,
      flags = 0,
    ): { kind: string; mode: number; inode: number; device: number; uid: number; mtime: number } => {
      const answer = calls.fstatat(directory, name, flags)
      if (typeof answer === 'number') throw new Error(`${name}: ${answer}`)
      return answer
    }
    same('a file', [status('file').kind, status('file').mode], ['file', 0o640])
    same('a directory', [status('directory').kind, status('directory').mode], ['directory', 0o750])
    same('a link, followed', status('link').inode, status('directory').inode)
    same('a link', status('link', AT_SYMLINK_NOFOLLOW).kind, 'link')
    right('another', status('link', AT_SYMLINK_NOFOLLOW).inode !== status('directory').inode)
    right('of one device', status('file').device === status('directory').device)
    same('ours', status('file').uid, calls.userId())
    right('just now', Math.abs(status('file').mtime * 1000 - calls.now()) < 60_000)
    const sub = calls.openat(directory, 'directory', O_RDONLY | O_DIRECTORY, 0)
    const identity = calls.identityAt(directory, 'directory')
    right(`an identity: ${shown(identity)}`, typeof identity === 'string' && identity.length > 6)
    same('of what is open', calls.identityAt(sub, '.'), identity)
    same('moved', calls.renameat(directory, 'directory', directory, 'elsewhere'), 0)
    same('of nothing', calls.identityAt(directory, 'directory'), -errno.ENOENT)
    same('wherever it is', calls.identityAt(directory, 'elsewhere'), identity)
    same('another', calls.mkdirat(directory, 'directory', 0o750), 0)
    right('has another', calls.identityAt(directory, 'directory') !== identity)
    calls.close(sub)
    calls.symlinkat('elsewhere', directory, 'to it')
    right('a link has its own', calls.identityAt(directory, 'to it') !== identity)
    const null_ = calls.fstatat(AT_FDCWD, '/dev/null', 0)
    same('a device', typeof null_ === 'number' ? null_ : null_.kind, 'other')
    const open = calls.openat(AT_FDCWD, `${path}/file`, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0)
    same('open', shown(calls.fstat(open)), shown(status('file')))
    same('a link is not followed', calls.openat(directory, 'link', O_RDONLY | O_NOFOLLOW, 0), -errno.ELOOP)
    calls.close(open)
  })

  it('names are moved, linked and removed in the open directories, wherever their paths lead by now', (directory, path) => {
    make(directory, 'a', [65])
    same('mkdirat', calls.mkdirat(directory, 'sub', 0o700), 0)
    const sub = calls.openat(directory, 'sub', O_RDONLY | O_DIRECTORY, 0)
    same('moved away', calls.renameat(directory, 'sub', directory, 'elsewhere'), 0)
    same('linkat', calls.linkat(directory, 'a', sub, 'b'), 0)
    same('renameat', calls.renameat(sub, 'b', sub, 'c'), 0)
    right('it is there', typeof calls.fstatat(AT_FDCWD, `${path}/elsewhere/c`, 0) !== 'number')
    same('not empty', calls.unlinkat(directory, 'elsewhere', AT_REMOVEDIR), -errno.ENOTEMPTY)
    same('unlinkat', calls.unlinkat(sub, 'c', 0), 0)
    same('empty', calls.unlinkat(directory, 'elsewhere', AT_REMOVEDIR), 0)
    same('gone', calls.openat(sub, 'new', O_WRONLY | O_CREAT | O_EXCL, 0o600), -errno.ENOENT)
    calls.close(sub)
    same('left', namesIn(directory), ['a'])
  })

  it('a mode is reduced by the umask', (directory) => {
    calls.umask(0o077)
    make(directory, 'a')
    calls.umask(0)
    make(directory, 'b')
    const mode = (name: string): unknown => {
      const status = calls.fstatat(directory, name, 0)
      return typeof status === 'number' ? status : status.mode
    }
    same('masked', mode('a'), 0o600)
    same('not masked', mode('b'), 0o640)
  })

  it('every descriptor is closed on exec', (directory) => {
    const descriptor = calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
    const information = calls.openat(AT_FDCWD, `/proc/self/fdinfo/${descriptor}`, O_RDONLY, 0)
    const flags = /flags:\s*0*([0-7]+)/.exec(calls.readText(information, 8192) as string)?.[1] ?? '0'
    right(`O_CLOEXEC in ${flags}`, (parseInt(flags, 8) & 0o2000000) !== 0)
    calls.close(information)
    calls.close(descriptor)
  })

  it('clocks advance, and a sleep is as long as asked', () => {
    const [wall, began] = [calls.now(), calls.monotonic()]
    calls.sleep(20)
    right('monotonic', calls.monotonic() - began >= 19)
    right('wall', calls.now() >= wall && Number.isInteger(calls.now()) && calls.now() > 1.7e12)
    for (const none of [0, -1, 0.4]) calls.sleep(none)
  })

  it('a process has its id and its user, and a file is no terminal', (directory) => {
    const [own] = [calls.readlinkat(AT_FDCWD, '/proc/self')]
    same('processId', String(calls.processId()), own)
    right('userId', Number.isInteger(calls.userId()) && calls.userId() >= 0)
    same('isTerminal', calls.isTerminal(directory), false)
    same('isTerminal of what is not open', calls.isTerminal(987_654), false)
  })
  if (whose === 'Node') {
    it('a call that Node does not have is answered as by a kernel without it', (directory, path) => {
      same('poll', calls.poll([directory], [pollEvents.POLLIN], 0), -errno.ENOSYS)
      same('watch', calls.watch(path), -errno.ENOSYS)
      same('watchNames', calls.watchNames(directory), -errno.ENOSYS)
      same('namesChanged', calls.namesChanged(directory), -errno.ENOSYS)
      same('readBeforehand', calls.readBeforehand(directory, 'n=#', ',sum='), -errno.ENOSYS)
      same('endReadingBeforehand', calls.endReadingBeforehand(), false)
      same('endSignals', calls.endSignals(), -errno.ENOSYS)
      same('connect', calls.connect(path), -errno.ENOSYS)
      same('flock', calls.flock(directory), -errno.ENOSYS)
      same('isWrittenInPlace', calls.isWrittenInPlace(directory), false)
    })
    return all
  }

  it('a watch on a directory reports when a name is added or removed, and when the directory is removed', (directory, path) => {
    const { POLLIN, POLLNVAL } = pollEvents
    same('mkdirat', calls.mkdirat(directory, 'watched', 0o700), 0)
    const watch = calls.watch(`${path}/watched`)
    right(`a descriptor: ${watch}`, watch >= 0)
    const into = new Uint8Array(4096)
    const told = (what: string): void => {
      same(what, calls.poll([watch], [POLLIN], -1), [POLLIN])
      right('something can be read', calls.read(watch, into) > 0)
    }
    same('nothing yet', calls.poll([watch], [POLLIN], 0), [0])
    same('nor can anything be read, without waiting', calls.read(watch, into), -errno.EAGAIN)
    same('symlinkat', calls.symlinkat('x', directory, 'watched/name'), 0)
    told('a name has come')
    same('no more', calls.poll([watch], [POLLIN], 1), [0])
    same('renameat', calls.renameat(directory, 'watched/name', directory, 'elsewhere'), 0)
    told('a name has been moved away')
    same('renameat', calls.renameat(directory, 'elsewhere', directory, 'watched/name'), 0)
    told('a name has been moved here')
    same('unlinkat', calls.unlinkat(directory, 'watched/name', 0), 0)
    told('a name has gone')
    same('unlinkat', calls.unlinkat(directory, 'watched', AT_REMOVEDIR), 0)
    told('the directory has gone')
    same('close', calls.close(watch), 0)
    same('what is not open', calls.poll([directory, watch], [0, POLLIN], 1), [0, POLLNVAL])
  })

  it('an open file is locked against all others that have opened it', (directory) => {
    same('answers', locked(calls, directory), expectedOfLocks)
  })

  it('what is overwritten is not told to be in its place where it is not', () => {
    // tests/contract/confined.test.ts has disks where it is.
    for (const path of ['/proc', '/dev/shm']) {
      const place = calls.openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0)
      right(path, place >= 0)
      same(path, calls.isWrittenInPlace(place), false)
      calls.close(place)
    }
    same('what is not open', calls.isWrittenInPlace(987_654), false)
  })

  it('the changes of names in an open directory are counted as they are in memory', (directory) => {
    for (const [at, [what, counted]] of countedChanges(calls, directory).entries())
      same(what, counted, expectedCounts[at]?.[1])
    const file = calls.openat(directory, 'file', O_WRONLY | O_CREAT, 0o600)
    same('a file', calls.watchNames(file), -errno.ENOTDIR)
    calls.close(file)
    same('what is not open', calls.watchNames(987_654), -errno.EOPNOTSUPP)
    const proc = calls.openat(AT_FDCWD, '/proc/self', O_RDONLY | O_DIRECTORY, 0)
    same('of the kernel itself', calls.watchNames(proc), -errno.EOPNOTSUPP)
    same('what is no watch', calls.namesChanged(987_654), -errno.EBADF)
    calls.close(proc)
  })

  it('a link of a watched directory is read only if something is reported, or its name tells no text', (directory) => {
    for (const name of ['plain', 'no%20pattern', '%digest'])
      same('symlinkat', calls.symlinkat('damaged', directory, name), 0)
    same('mkdirat', calls.mkdirat(directory, 'directory', 0o700), 0)
    make(directory, 'file')
    const watch = calls.watchNames(directory)
    right('a watch', watch >= 0)
    const found = (unchanged?: number): { plain: readonly string[]; others: string[] } => {
      const reading = calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
      const batch = calls.links(reading, 'n=#', ',sum=', unchanged)
      same('close', calls.close(reading), 0)
      if (typeof batch !== 'object') throw new Error('no batch')
      return { plain: [...batch.plain].sort(), others: batch.others.map(({ name }) => name).sort() }
    }
    const all = ['%digest', 'directory', 'file', 'no%20pattern', 'plain']
    same('unread', found(watch), { plain: ['no pattern', 'plain'], others: ['%digest', 'directory', 'file'] })
    for (const unchanged of [undefined, -1, 987_654]) same('read', found(unchanged), { plain: [], others: all })
    same('unlinkat', calls.unlinkat(directory, '%digest', 0), 0)
    same('reported', found(watch), { plain: [], others: all.slice(1) })
    same('asked for', calls.namesChanged(watch), 1)
    same('unread again', found(watch).plain, ['no pattern', 'plain'])
    calls.close(watch)
  })

  it('a directory is read beforehand by a thread, which says whether all texts are spelled so, and closes it', (directory) => {
    const summed = (name: string, core: string): string => `${core},sum=${calls.checksum(name + core)}`
    for (let at = 0; at < 1500; at++) calls.symlinkat(summed(`name ${at}`, 'n=1'), directory, `name%20${at}`)
    same('a name that can not be decoded', calls.symlinkat('x', directory, '%digest'), 0)
    const begun = (): number => {
      const reading = calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
      same('begun', calls.readBeforehand(reading, 'n=#\nn=#,d=**', ',sum='), 0)
      return reading
    }
    const arePlain = (): boolean => {
      const reading = begun()
      while (typeof calls.fstat(reading) !== 'number') calls.sleep(1)
      return calls.endReadingBeforehand()
    }
    same('all', arePlain(), true)
    same('ended, and nothing was begun', calls.endReadingBeforehand(), false)
    const reading = begun()
    same('only one', calls.readBeforehand(directory, 'n=#', ',sum='), -errno.EBUSY)
    calls.endReadingBeforehand()
    same('ended at once, and closed', calls.fstat(reading), -errno.EBADF)
    for (const [name, text] of [
      ['damaged', 'n=1'],
      ['digits', summed('digits', 'n=1,d=0f')],
    ] as const) {
      same(name, calls.symlinkat(text, directory, name), 0)
      same(`not with what is ${name}`, arePlain(), false)
      same(name, calls.unlinkat(directory, name, 0), 0)
    }
    const file = calls.openat(directory, 'file', O_WRONLY | O_CREAT, 0o600)
    same('begun', calls.readBeforehand(file, 'n=#', ',sum='), 0)
    same('not of a file', calls.endReadingBeforehand(), false)
    let isRefused = false
    try {
      calls.readBeforehand(directory, 'n'.repeat(5000), 'x')
    } catch (thrown) {
      isRefused = thrown instanceof RangeError
    }
    right('words that do not fit are refused', isRefused)
    same('nothing was begun', calls.endReadingBeforehand(), false)
  })

  it('a damaged link is noticed beforehand whatever name follows it, however long both are', (directory) => {
    // 72 is the code of a letter.
    for (let at = 0; at < 50; at++) calls.symlinkat('x', directory, `%${String(at).padStart(71, '-')}`)
    for (const damaged of ['', 'd'.repeat(255), 'damaged']) {
      if (damaged !== '') same('symlinkat', calls.symlinkat('n=1', directory, damaged), 0)
      const reading = calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
      same('begun', calls.readBeforehand(reading, 'n=#', ',sum='), 0)
      while (typeof calls.fstat(reading) !== 'number') calls.sleep(1)
      same(`with ${damaged}`, calls.endReadingBeforehand(), damaged === '')
      calls.unlinkat(directory, damaged, 0)
    }
  })

  it('only an existing directory can be watched', (directory, path) => {
    make(directory, 'file')
    same('a file', calls.watch(`${path}/file`), -errno.ENOTDIR)
    same('missing', calls.watch(`${path}/missing`), -errno.ENOENT)
    const free = calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
    calls.close(free)
    same('no descriptor is left open', calls.watch(`${path}/missing`), -errno.ENOENT)
    same('the next is the same', calls.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0), free)
    calls.close(free)
    for (const word of ['a\0b', '\u0100'])
      same(
        'unsayable',
        refusal(() => calls.watch(word)),
        `Error EINVAL -22 a word ${word.length}`,
      )
  })

  it('a wait takes no more descriptors than it has room for, each with its events', () => {
    const { POLLIN } = pollEvents
    const many = (length: number): number[] => Array.from({ length }, () => 987_654)
    same('16', (calls.poll(many(16), many(16), 0) as readonly number[]).length, 16)
    same('17', calls.poll(many(17), many(17), 0), -errno.EINVAL)
    same('unequal', calls.poll(many(2), [POLLIN], 0), -errno.EINVAL)
    same('none', calls.poll([], [], 0), [])
  })

  it('a connect to a missing or empty name fails', (directory, path) => {
    make(directory, 'file')
    same('missing', calls.connect(`${path}/missing`), -errno.ENOENT)
    same('no socket', calls.connect(`${path}/file`), -errno.ECONNREFUSED)
    same('nobody', calls.connect('@nobody has this name'), -errno.ECONNREFUSED)
    same('no name', calls.connect(''), -errno.EINVAL)
    same('too long', calls.connect(`/${'n'.repeat(107)}`), -errno.ENAMETOOLONG)
    same('just not', calls.connect(`/${'n'.repeat(106)}`), -errno.ENOENT)
    same(
      'unsayable',
      refusal(() => calls.connect('@a\0b')),
      'Error EINVAL -22 a word 4',
    )
  })
  return all
}
