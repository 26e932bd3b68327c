// The results of a run, for people.
import { writeFileSync } from 'node:fs'

interface Claim {
  readonly sentence: string
  readonly seconds: number
  readonly failure: string | undefined
}

export interface Chapter {
  readonly name: string
  readonly title: string
  readonly helper: string
  readonly tracker: string
  readonly kernel: string
  /** A control is meant to fail: its failures prove that the story can tell a good helper from a bad one. */
  readonly control: boolean
  readonly claims: Claim[]
  readonly notes: string[]
  seconds: number
}

const firstLine = (text: string) =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .slice(0, 6)
    .join(' ')
    .slice(0, 300)

export function write(file: string, heading: string, chapters: readonly Chapter[]): void {
  const lines = [`# ${heading}`, '']
  for (const { name, title, helper, tracker, kernel, control, claims, notes, seconds } of chapters) {
    const failed = claims.filter(({ failure }) => failure !== undefined).length
    const verdict =
      failed === 0 ? `all ${claims.length} claims hold` : `${failed} of ${claims.length} claims do not hold`
    lines.push(
      `## ${name}: ${title}`,
      '',
      `${helper}${tracker === 'serve' ? ' serve' : ''} under kernel ${kernel}${control ? ', as a control' : ''}: ${verdict}, ${seconds.toFixed(0)} s`,
      '',
    )
    for (const { sentence, seconds: took, failure } of claims) {
      lines.push(`- ${failure === undefined ? 'yes' : 'NO '} ${sentence} (${took.toFixed(1)} s)`)
      if (failure !== undefined) lines.push(`      ${firstLine(failure)}`)
    }
    lines.push(...notes.map((note) => `- note: ${note}`), '')
  }
  writeFileSync(file, lines.join('\n'))
}
