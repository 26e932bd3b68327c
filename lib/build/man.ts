/**
 * Man pages from Markdown: tsx lib/build/man.ts FROM TO
 *
 * remark-man writes the roff. It has no lists of terms. So a list in which each item begins with a line of its own (a
 * hard break ends it) becomes one here. GitHub shows the same Markdown as a list.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { mkdirpSync } from 'fs-extra/esm'
import remarkMan from 'remark-man'
import remarkParse from 'remark-parse'
import { unified } from 'unified'
import packageJson from '../../package.json' with { type: 'json' }

/** The page's date is in its second line, `<!-- 2026-11-23 -->`, so that a build is the same on every day. */
export function manPage(markdown: string): string {
  const date = /^<!-- (\d{4}-\d\d-\d\d) -->$/m.exec(markdown)?.[1]
  if (date === undefined) throw new Error('a man page needs its date')
  const roff = String(
    unified()
      .use(remarkParse)
      .use(remarkMan, { manual: 'NFS server', version: `nfsd-userland-helper ${packageJson.version}` })
      .processSync(markdown),
  )
  const fixed = roff
    .replace(/^(\.TH "[^"]*" "[^"]*") "[^"]*"/m, `$1 "${date}"`)
    .replace(/^(\.S[HS] .*)\n\.P$/gm, '$1')
    .replace(/^\.IP \\\(bu 4\n(.*)\n\.br\n/gm, '.TP\n$1\n')
    .replace(/^\.RS 0\n|^\.RE 0\n\n?/gm, '')
  return folded(fixed.split('\n')).join('\n')
}

/**
 * Breaks text into lines of at most 80 bytes, as is usual for roff, but neither examples nor a term, which must stay on
 * one line.
 */
function folded(lines: readonly string[]): string[] {
  let asItIs = false
  return lines.flatMap((line, at) => {
    if (line === '.nf' || line === '.fi') asItIs = line === '.nf'
    if (asItIs || line.startsWith('.') || lines[at - 1] === '.TP') return [line]
    // No line may begin with a control character.
    return line
      .replaceAll(/(.{1,78})(?: (?![.'])|$)/g, '$1\n')
      .trimEnd()
      .split('\n')
  })
}

if (import.meta.filename === process.argv[1]) {
  const [from = '', to = ''] = process.argv.slice(2)
  mkdirpSync(to)
  for (const name of readdirSync(from))
    writeFileSync(join(to, basename(name, '.md')), manPage(readFileSync(join(from, name), 'utf8')))
}
