/**
 * The build and the kernel laboratory get packages of another suite from the same archives as this machine gets its
 * own.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { sourcesFor, type SourcesFile } from '../../lib/build/debian-archive.ts'

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
const stanzas = (text: string): SourcesFile => ({ format: 'sources', text })
const lines = (text: string): SourcesFile => ({ format: 'list', text })

const debian12 = stanzas(`# Debian's own
Types: deb deb-src
URIs: http://archive.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: ${keyring}

Types: deb
URIs: http://archive.test/debian-security
Suites: bookworm-security
Components: main contrib
Signed-By: ${keyring}
`)
const line = (archive: string, suite: string): string =>
  `deb [signed-by=${keyring}] http://archive.test/${archive} ${suite} main\n`

describe("the sources of another suite are this machine's own, with that suite's name instead", () => {
  const both = [line('debian', 'trixie'), line('debian-security', 'trixie-security')]
  const cases: readonly (readonly [string, readonly SourcesFile[], string, readonly string[]])[] = [
    ['in stanzas', [debian12], 'trixie', both],
    [
      'in lines',
      [
        lines(`# deb http://commented.test/debian bookworm main
deb http://archive.test/debian bookworm main contrib
deb http://archive.test/debian bookworm-updates main
deb [signed-by=${keyring}] http://archive.test/debian-security bookworm-security main
deb-src http://sources.test/debian bookworm main
`),
      ],
      'trixie',
      both,
    ],
    ['without security updates for sid, which has none of its own', [debian12], 'sid', [line('debian', 'sid')]],
    [
      'never of somebody else, whose packages other keys sign',
      [
        lines('deb [arch=amd64 signed-by=/usr/share/keyrings/other.gpg] http://other.test/apt bookworm main'),
        lines('deb http://other.test/apt other-bookworm main'),
        stanzas(
          'Types: deb\nURIs: http://other.test\nSuites: x\nComponents: main\nSigned-By: /usr/share/keyrings/x.gpg',
        ),
        debian12,
      ],
      'sid',
      [line('debian', 'sid')],
    ],
    ['none, where nothing comes from Debian', [lines(''), stanzas('')], 'sid', []],
  ]
  for (const [name, files, suite, expected] of cases)
    it(name, () => {
      assert.deepEqual(sourcesFor(suite, files, 'bookworm'), expected)
    })
})
