/**
 * The man pages agree with the program's help, and are correct roff. tests/unit/texts.test.ts compares the tables that
 * they repeat (statuses, verbs, options).
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { Heading, List, Nodes, Paragraph, Root, RootContent } from 'mdast'
import remarkParse from 'remark-parse'
import { unified } from 'unified'
import { manPage } from '../../lib/build/man.ts'
import { forPeople } from '../contract/server.ts'
import { root as repository } from '../support/artefacts.ts'
import { say, scratchRoot } from './scratch.ts'

const parse = (name: string): Root =>
  unified()
    .use(remarkParse)
    .parse(readFileSync(join(repository, `docs/man/${name}.md`), 'utf8'))
const page = parse('nfsd-userland-helper.8')

const text = (node: Nodes): string =>
  'value' in node ? node.value : 'children' in node ? node.children.map(text).join('') : ''
const isHeading = (node: RootContent): node is Heading => node.type === 'heading'

/** The terms of a section's list: the code words in the first line of each item. */
function terms(section: string): readonly (readonly string[])[] {
  const begin = page.children.findIndex((node) => isHeading(node) && text(node) === section)
  assert.ok(begin >= 0, `there is no section ${section}`)
  const end = page.children.findIndex((node, at) => at > begin && isHeading(node))
  const lists = page.children
    .slice(begin, end < 0 ? undefined : end)
    .filter((node): node is List => node.type === 'list')
  return lists.flatMap(({ children }) => children.map((item) => codesOfFirstLine(item.children[0] as Paragraph)))
}

function codesOfFirstLine({ children }: Paragraph): string[] {
  const end = children.findIndex(({ type }) => type === 'break')
  assert.ok(end > 0, `no term: ${children.map(text).join('')}`)
  return children
    .slice(0, end)
    .filter(({ type }) => type === 'inlineCode')
    .map(text)
}

/** Commands and options in a help text. */
const wordsIn = (help: string): string[] =>
  [...help.matchAll(/^ {2}nfsd-userland-helper ([a-z_]+)/gm)].map(([, word = '']) => word)
const optionsIn = (help: string): string[] =>
  [
    ...(help
      .split(/^Options:$/m)[1]
      ?.split(/^Examples:$/m)[0]
      ?.matchAll(/^ +((?:-{1,2}[A-Za-z][\w-]*(?:, )?)+)/gm) ?? []),
  ].flatMap(([, spellings = '']) => spellings.split(', ').filter((word) => word !== ''))

const sorted = (words: Iterable<string>): string[] => [...new Set(words)].sort()

forPeople('nfsd-userland-helper(8)', (artefact) => {
  const help = async (...words: readonly string[]): Promise<string> => (await say(artefact, ...words, '--help')).stdout

  it('names every verb and every command, and none that does not exist', async () => {
    const commands = terms('COMMANDS').map(([word = '']) => word)
    assert.deepEqual(sorted([...terms('VERBS').flat(), ...commands]), sorted(wordsIn(await help())))
  })

  it('names every option of the program, and none that does not exist', async () => {
    assert.deepEqual(sorted(terms('OPTIONS').flat()), sorted(optionsIn(await help())))
  })

  it('names every option of every command, and none that does not exist', async () => {
    const general = new Set(optionsIn(await help()))
    for (const [word = '', ...rest] of terms('COMMANDS')) {
      const theirs = optionsIn(await help(word)).filter((option) => !general.has(option))
      // `--no-x` negates `--x`.
      const named = rest.filter((code) => code.startsWith('-') && !code.startsWith('--no-'))
      assert.deepEqual(sorted(named), sorted(theirs), word)
    }
  })

  it('is what install installs', async () => {
    const root = scratchRoot('systemd')
    await say(artefact, 'install', '--root', root)
    for (const section of [5, 8])
      assert.equal(
        readFileSync(join(root, `usr/share/man/man${section}/nfsd-userland-helper.${section}`), 'utf8'),
        manPage(readFileSync(join(repository, `docs/man/nfsd-userland-helper.${section}.md`), 'utf8')),
      )
  })
})

describe('the man pages', () => {
  it('are roff in which mandoc finds nothing wrong, and which man shows', () => {
    for (const section of [5, 8]) {
      const file = join(repository, `dist/man/nfsd-userland-helper.${section}`)
      const lint = spawnSync('mandoc', ['-Tlint', '-Wall', file], { encoding: 'utf8' })
      assert.deepEqual({ said: lint.stdout + lint.stderr, status: lint.status }, { said: '', status: 0 })
      const { stdout } = spawnSync('mandoc', ['-Tutf8', file], { encoding: 'utf8' })
      assert.doesNotMatch(stdout, /\*\*|`|\\f|^\.[A-Z]/m, 'no markup is left')
    }
  })

  it('are checked by a mandoc that does find fault with bad roff', () => {
    assert.notEqual(
      spawnSync('mandoc', ['-Tlint', '-Wall'], { input: '.TH X 8\n.SH NAME\nx - y\n.BOGUS\n', encoding: 'utf8' })
        .stdout,
      '',
    )
  })
})
