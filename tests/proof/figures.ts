/**
 * The counts of each technique, for docs/reliability.md (`npm run report:proof`). Only full runs write them, because a
 * part of the proof must not overwrite the figures of the whole.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirSync } from 'fs-extra/esm'

export type Row = Readonly<Record<string, string | number>>

export interface Figures {
  readonly technique: string
  readonly rows: readonly Row[]
}

export const figuresDirectory = join(import.meta.dirname, 'figures')

/** `PROOF=ci`: the part that a pull request waits for. */
export const inPart = process.env['PROOF'] === 'ci'
/** Options that select a subset, whose figures are not those of the whole. */
const isNarrowed =
  ['ARTEFACT', 'FILE_SYSTEMS', 'PROOF_MUTANT'].some((name) => process.env[name] !== undefined) ||
  [...process.execArgv, ...process.argv].some((word) => /^--test-(?:name|skip)-pattern|^--test-only/.test(word))
const isKept = !inPart && !isNarrowed && process.env['PROOF_FIGURES'] !== 'no'

export function report({ technique, rows }: Figures): void {
  for (const row of rows)
    console.log(
      `# ${technique}: ${Object.entries(row)
        .map(([name, value]) => `${name} ${value}`)
        .join(', ')}`,
    )
  if (!isKept) return
  ensureDirSync(figuresDirectory)
  writeFileSync(join(figuresDirectory, `${technique}.json`), `${JSON.stringify({ technique, rows }, undefined, 2)}\n`)
}

export const seconds = (since: number): number => Math.round((performance.now() - since) / 100) / 10

/**
 * The seed of a random run: it is printed, and `PROOF_SEED` repeats it. A pull request has a fixed seed, so it does not
 * fail at random.
 */
export function seed(what: string): number {
  const given = process.env['PROOF_SEED'] ?? (inPart ? '4' : undefined)
  const value = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given)
  console.log(`# ${what}: PROOF_SEED=${value}`)
  return value
}

/** Numbers in [0, 1) from a seed (mulberry32). */
export function random(from: number): () => number {
  let state = from
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Works through a list, `width` at a time, because there are two processors. */
export async function each<T>(list: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...list]
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item)
    }),
  )
}
