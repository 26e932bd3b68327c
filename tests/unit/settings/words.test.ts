import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Failed } from '../../../lib/failure.ts'
import { booleanFrom, readNfsConf } from '../../../lib/settings/nfs-conf.ts'
import { parseWords } from '../../../lib/settings/options.ts'

describe('the words of the command line', () => {
  const table: readonly (readonly [
    readonly string[],
    Record<string, string>,
    string | undefined,
    readonly string[],
  ])[] = [
    [['init'], {}, 'init', []],
    [['-f', '-s', '/x', 'create', '61'], { foreground: '', 'state-dir': '/x' }, 'create', ['61']],
    [['-fds/x', 'create', '-s', '--'], { foreground: '', debug: '', 'state-dir': '/x' }, 'create', ['-s', '--']],
    [['--storagedir=/a=b', 'x'], { 'state-dir': '/a=b' }, 'x', []],
    [['--state-dir', '-f', 'x'], { 'state-dir': '-f' }, 'x', []],
    [['-s', '/a', '-s', '/b', 'x'], { 'state-dir': '/b' }, 'x', []],
    [['--', '-f'], {}, '-f', []],
    [['-'], {}, '-', []],
    [[], {}, undefined, []],
  ]
  for (const [words, given, verb, rest] of table)
    it(JSON.stringify(words), () => {
      const parsed = parseWords(words)
      assert.deepEqual({ ...parsed, given: Object.fromEntries(parsed.given) }, { given, verb, rest })
    })

  for (const words of [
    ['-x'],
    ['--state'],
    ['--'.concat('state-dirs=1'), 'x'],
    ['-s'],
    ['-s='],
    ['-s=/x', 'y'],
    ['--config='],
    ['-f=1', 'x'],
    ['--foreground=1'],
    ['--__proto__=1'],
  ])
    it(`${JSON.stringify(words)} is refused`, () => {
      assert.throws(() => parseWords(words), Failed)
    })
})

describe('nfs.conf', () => {
  it('is read as nfs-utils reads it', () => {
    const text = [
      '; nfs.conf',
      'state-dir=/none',
      '[nfsd]',
      'state-dir=/nfsd',
      '  [ Nfsd-Userland-Helper ]  # ours',
      'State-Dir = /a b  ',
      'debug=1 # on',
      'debug=0#off',
      "nfsd-dir = '/x # y'",
      '# state-dir=/no \\',
      'state-dir=/joined to the comment',
      'nonsense',
      '= /x',
      '[nfsd-userland-helper "nfsd-userland-helper"]',
      'debug=2',
      '[nfsd-userland-helper',
      'debug=3',
      '[nfsd-userland-helper "x]',
      'debug=4',
      '[nfsd-userland-helper]',
      'state-dir="/c"',
      'key = a\\',
      'b',
      'state-dir=/\xc3\xa0',
      '',
    ]
      .join('\r\n')
      .replaceAll('\\\r\n', '\\\n')
    const { assignments, odd } = readNfsConf(text)
    const ours = (key: string, value: string) => ({ section: 'nfsd-userland-helper', key, value })
    assert.deepEqual(assignments, [
      { section: 'nfsd', key: 'state-dir', value: '/nfsd' },
      ours('state-dir', '/a b'),
      ours('debug', '1'),
      ours('debug', '0'),
      ours('nfsd-dir', '/x # y'),
      { section: 'nfsd-userland-helper "nfsd-userland-helper"', key: 'debug', value: '2' },
      ours('state-dir', '/c'),
      ours('key', 'a  b'),
      ours('state-dir', '/\xc3\xa0'),
    ])
    assert.deepEqual(
      odd.map(({ section, line }) => [section, line]),
      [
        ['', 'state-dir=/none'],
        ['nfsd-userland-helper', 'nonsense'],
        ['nfsd-userland-helper', '= /x'],
        ['', '[nfsd-userland-helper'],
        ['', 'debug=3'],
        ['', '[nfsd-userland-helper "x]'],
        ['', 'debug=4'],
      ],
    )
  })

  it('that is included starts in the section of the include', () => {
    assert.deepEqual(
      readNfsConf('a=b\n[x]\nc=d\n', 'y').assignments.map(({ section, key }) => `${section} ${key}`),
      ['y a', 'x c'],
    )
  })

  it('has the booleans of nfs-utils', () => {
    for (const word of ['1', 't', 'TRUE', 'y', 'Yes', 'on']) assert.equal(booleanFrom(word), true, word)
    for (const word of ['0', 'f', 'false', 'N', 'no', 'OFF']) assert.equal(booleanFrom(word), false, word)
    for (const word of ['', '2', 'maybe', 'yess']) assert.equal(booleanFrom(word), undefined, word)
  })
})
