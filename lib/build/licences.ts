/**
 * Writes dist/copyright: the licences of the code by others that the programs contain, in Debian's format (DEP-5). It
 * is made with the bundles, from the files that went into them. Both packages contain it.
 */
import { readdirSync, writeFileSync } from 'node:fs'
import { from, textAt } from './repository.ts'

/** @param inputs the files of which bundles were made, as esbuild's metafile names them */
export function writeCopyright(inputs: Iterable<string>): void {
  const linked = packagesOf(inputs)
  writeFileSync(
    from('dist/copyright'),
    textAt('lib/build/debian/copyright')
      .replace('@LINKED@', () => linked.map(stanza).join('\n\n'))
      .replace('@LICENSE@', () => indented(textAt('LICENSE').split('\n').slice(4).join('\n')))
      .replace('@LICENSES@', () => linked.map(licence).join('\n\n')),
  )
}

/** The npm packages that files come from, by name. */
function packagesOf(inputs: Iterable<string>): string[] {
  const names = new Set<string>()
  for (const path of inputs) {
    const name = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*\/node_modules\/)/.exec(path)?.[1]
    if (name !== undefined) names.add(name)
  }
  return [...names].sort()
}

function stanza(name: string): string {
  const { version } = JSON.parse(textAt(`node_modules/${name}/package.json`)) as { readonly version: string }
  const holders = licenceText(name)
    .split('\n')
    .filter((line) => /^\s*(?:[#*]\s*)?Copyright\b.*\d|^\s*Copyright \(c\)/i.test(line))
    .map((line) => line.replace(/^[\s#*]*Copyright\s*(?:\(c\)|©)?\s*/i, '').trim())
  return [
    `Files: node_modules/${name}/*`,
    `Comment: ${name} ${version}`,
    `Copyright: ${holders.length > 0 ? holders.join('\n ') : `the authors of ${name}`}`,
    `License: ${label(name)}`,
  ].join('\n')
}

const licence = (name: string): string => `License: ${label(name)}\n${indented(licenceText(name))}`

/** The label of a package's licence. Each package has its own, because the texts differ in details. */
function label(name: string): string {
  const { license } = JSON.parse(textAt(`node_modules/${name}/package.json`)) as { readonly license: string }
  return `${license === 'MIT' ? 'Expat' : license}-${name.replaceAll(/[@/]/g, '')}`
}

/** @throws if a package has no licence: then it must not be included */
function licenceText(name: string): string {
  const file = readdirSync(from(`node_modules/${name}`)).find((entry) => /^licen[sc]e(?:\.(?:md|txt))?$/i.test(entry))
  if (file === undefined) throw new Error(`the package ${name} has no licence with it`)
  return textAt(`node_modules/${name}/${file}`)
}

/** Makes continuation lines. An empty one is a point. */
const indented = (block: string): string =>
  block
    .trim()
    .split('\n')
    .map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`))
    .join('\n')
