/** README.md and the man pages repeat tables of the program, for people. They must say the same. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { basename, join } from 'node:path'
import { describe, it } from 'node:test'
import { checkNames } from '../../lib/commands/doctor/doctor.ts'
import { exitStatuses } from '../../lib/failure.ts'
import { helperParameter } from '../../lib/kernel/nfsd-module.ts'
import { options, type Option } from '../../lib/settings/options.ts'
import { configurationKeys } from '../../lib/settings/settings.ts'
import { markNames } from '../../lib/store/layout.ts'
import { longestOwner } from '../../lib/upcall/owner.ts'
import { serveOptions } from '../../lib/upcall/serve-options.ts'
import { argumentNames, events, verbs } from '../../lib/upcall/verbs.ts'

const root = join(import.meta.dirname, '../..')
const text = (path: string): string => readFileSync(join(root, path), 'utf8')
const [readme, page5, page8] = [
  text('README.md'),
  text('docs/man/nfsd-userland-helper.5.md'),
  text('docs/man/nfsd-userland-helper.8.md'),
]

/** The rows of the table that begins with this cell, without its head. */
function table(markdown: string, firstCell: string): string[][] {
  const lines = markdown.split('\n')
  const begin = lines.findIndex((line) => line.startsWith(`| ${firstCell} |`))
  assert.ok(begin >= 0, `there is a table of ${firstCell}`)
  const end = lines.findIndex((line, at) => at > begin && !line.startsWith('|'))
  return lines.slice(begin + 2, end).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}

/** The items of a section's list: each with its first line, and its text on one line. */
function items(page: string, section: string): (readonly [term: string, meaning: string])[] {
  const [, inside = ''] = page.split(`\n## ${section}\n`)
  const list = inside.split(/^## /m)[0]?.split(/^\* /m).slice(1) ?? []
  return list.map((item) => {
    const [term = '', ...meaning] = item.split('\n')
    return [term.replace(/\\$/, ''), meaning.join(' ').replace(/\s+/g, ' ').trim()]
  })
}

const codes = (term: string): string[] => [...term.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code)
const sentence = (meaning: string): string => `${meaning.replace(/^[a-z]/, (first) => first.toUpperCase())}.`

describe('exit statuses', () => {
  const rows = Object.values(exitStatuses)
  // Linux's own, which Node does not know.
  const numbers = { ...constants.errno, EREMOTEIO: 121 }

  it('are 256 less the errno that they are named by, as nfsdcltrack has them', () => {
    for (const { status, errno } of rows) if (errno !== undefined) assert.equal(status, 256 - numbers[errno], errno)
  })

  it('stand in nfsd-userland-helper(8) as in the program', () => {
    assert.deepEqual(
      items(page8, 'EXIT STATUS'),
      rows.map(({ status, errno, meaning }) => [
        `\`${status}\`${errno === undefined ? '' : ` (${errno})`}`,
        sentence(meaning),
      ]),
    )
  })
})

describe("an owner's length", () => {
  it('is the same in what a status means, and in the protocol', () => {
    const most = `${longestOwner} bytes`
    assert.ok(exitStatuses.ownerTooLong.meaning.includes(most))
    assert.ok(text('docs/protocol.md').includes(`| client owner | the 0 to ${most} `))
  })
})

describe("the kernel's parameter that names a helper", () => {
  it('is spelled the same in every file that can not take it from the program', () => {
    const here = ['udev', 'lib/build/debian', 'docs'].flatMap((top) =>
      readdirSync(join(root, top), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'utf8')),
    )
    const spelled = here.flatMap((content) => content.match(/\/sys\/module\/nfsd\/parameters\/\w+/g) ?? [])
    const named = here.flatMap((content) => [
      ...content.matchAll(/(?:ATTR\{parameters\/|options nfsd |parm nfsd \| grep )(\w+)/g),
    ])
    assert.ok(spelled.length > 5 && named.length > 3)
    assert.deepEqual([...new Set(spelled)], [helperParameter])
    assert.deepEqual([...new Set(named.map(([, name]) => name))], [basename(helperParameter)])
  })
})

describe('verbs', () => {
  const spelled = (of: string, dialect: string): string[] =>
    Object.entries(verbs)
      .filter(([, { event, dialect: theirs }]) => event === of && theirs === dialect)
      .map(([verb, { takes }]) => `${verb} ${argumentNames[takes]}`.trim())

  it('stand in README, a row for each event', () => {
    const rows = table(readme, 'event').map(([, linux = '', , thread = '']) => [
      codes(linux),
      // For what has no verb, the cell has words.
      thread.startsWith('`') ? codes(thread) : [],
    ])
    const inProgram = Object.keys(events).map((event) => [spelled(event, 'Linux'), spelled(event, '2010')])
    assert.deepEqual(rows.sort(), inProgram.sort())
  })

  it('stand in nfsd-userland-helper(8), with their arguments, an item for each event', () => {
    const named = items(page8, 'VERBS').map(([term]) => term.split(', ').map((one) => one.replace(/[`*]/g, '')))
    const inProgram = Object.keys(events).map((event) => [...spelled(event, 'Linux'), ...spelled(event, '2010')])
    assert.deepEqual(named.map((words) => words.sort()).sort(), inProgram.map((words) => words.sort()).sort())
  })
})

describe("doctor's checks", () => {
  it('stand in docs/json.md, in the order in which they are made', () => {
    const named = table(
      text('docs/json.md')
        .split('## `doctor`')[1]
        ?.split(/^\| `mend` .*$/m)[1] ?? '',
      'check',
    )
    assert.deepEqual(
      named.flatMap(([name = '']) => codes(name)),
      checkNames,
    )
  })
})

describe('marks of an instance', () => {
  it('stand in nfsd-userland-helper(5), each once', () => {
    const named = items(page5, 'STATE DIRECTORY')
      .filter(([term]) => term.includes('*START*`.'))
      .flatMap(([term]) => [...term.matchAll(/`\.(\w+)`/g)].map(([, name = '']) => name))
    assert.deepEqual(named.sort(), [...markNames].sort())
  })

  it('stand in docs/durability.md, each once', () => {
    const named = [...text('docs/durability.md').matchAll(/^ {6}[0-9]+\.(\w+) /gm)].map(([, name = '']) => name)
    assert.deepEqual(named.sort(), [...markNames].sort())
  })
})

describe('options', () => {
  it('stand in nfsd-userland-helper(8), each with its argument and its default', () => {
    const described = new Map(
      items(page8, 'OPTIONS').map(([term, meaning]) => [codes(term).sort().join(), `${term} ${meaning}`]),
    )
    for (const [name, { takes, short, alias, usual }] of Object.entries<Option>(options)) {
      const spellings = [`--${name}`, ...(short === undefined ? [] : [`-${short}`])]
      if (alias !== undefined) spellings.push(`--${alias}`)
      const said = described.get(spellings.sort().join())
      assert.ok(said !== undefined, name)
      if (takes !== undefined) assert.ok(said.includes(`*${takes}*`), name)
      if (usual !== undefined) assert.ok(said.includes(`\`${usual}\``), name)
    }
    assert.equal(described.size, Object.keys(options).length + 2, 'with --help and --version, and no more')
  })

  it('of serve stand in nfsd-userland-helper(8)', () => {
    assert.deepEqual(
      items(page8, 'SERVING THE PIPE').map(([term]) => term),
      Object.entries(serveOptions).map(
        ([name, { takes }]) => `\`--${name}\`${takes === undefined ? '' : ` *${takes}*`}`,
      ),
    )
  })

  it('of the configuration stand in nfsd-userland-helper(5)', () => {
    assert.deepEqual(
      items(page5, 'CONFIGURATION')
        .map(([term]) => term)
        .filter((term) => term.startsWith('`')),
      configurationKeys.map((key) => `\`${key}\``),
    )
  })
})
