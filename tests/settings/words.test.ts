import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Failed } from '../../lib/failure.ts'
import { assignmentsIn, booleanFrom } from '../../lib/settings/nfs-conf.ts'
import { parseWords } from '../../lib/settings/options.ts'

describe('the words of the command line', () => {
  const table: readonly (readonly [readonly string[], Record<string, string>, string | undefined, readonly string[]])[] = [
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

  for (const words of [['-x'], ['--state'], ['--'.concat('state-dirs=1'), 'x'], ['-s'], ['--config='], ['-f=1', 'x'], ['--foreground=1'], ['--__proto__=1']])
    it(`${JSON.stringify(words)} is refused`, () => {
      assert.throws(() => parseWords(words), Failed)
    })
})

describe('nfs.conf', () => {
  it('gives our section, whatever the case and the white space, in order', () => {
    const text = [
      '; nfs.conf', 'state-dir=/none', '[nfsd]', 'state-dir=/nfsd', '  [ Nfsd-Userland-Helper ]  # ours', 'State-Dir = /a b  ',
      'debug=1 # on', "nfsd-dir = '/x # y'", '# state-dir=/no', 'nonsense', '= /x', '[other "nfsd-userland-helper"]', 'debug=0',
      '[nfsd-userland-helper]', 'state-dir="/c"',
    ].join('\r\n')
    assert.deepEqual(assignmentsIn(text, 'nfsd-userland-helper'), [
      { key: 'state-dir', value: '/a b' },
      { key: 'debug', value: '1' },
      { key: 'nfsd-dir', value: '/x # y' },
      { key: 'state-dir', value: '/c' },
    ])
  })

  it('has the booleans of nfs-utils', () => {
    for (const word of ['1', 't', 'TRUE', 'y', 'Yes', 'on']) assert.equal(booleanFrom(word), true, word)
    for (const word of ['0', 'f', 'false', 'N', 'no', 'OFF']) assert.equal(booleanFrom(word), false, word)
    for (const word of ['', '2', 'maybe', 'yess']) assert.equal(booleanFrom(word), undefined, word)
  })
})
