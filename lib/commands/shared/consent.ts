/**
 * Before a command changes who may reclaim, it says what will change, and asks. A script answers in advance with
 * `--yes`. Without a terminal and without `--yes` nothing is changed.
 */
import { createInterface } from 'node:readline/promises'
import type { Argv } from 'yargs'
import { Failed } from '../../failure.ts'
import { dryRunOption } from './command.ts'

/** `--dry-run` and `--yes`, for every command that changes something. */
export const withConsent = <Given>(cli: Argv<Given>) =>
  cli
    .option('dry-run', dryRunOption)
    .option('yes', { alias: 'y', type: 'boolean', default: false, describe: 'do not ask (for scripts)' })

/** Whether `--yes` has answered in advance. */
export interface Answered {
  readonly yes: boolean
}

/**
 * Asks once, on the terminal. Any answer but yes means no.
 * @throws Failed bad-argument, if the answer is no, or if nobody can be asked: nothing has been changed
 */
export async function consent(question: string, { yes }: Answered): Promise<void> {
  if (yes) return
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw new Failed({ kind: 'bad-argument', why: 'nothing changed: there is no terminal to ask on; use --yes' })
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  // Without a line (end of input, Ctrl-C) the question is never answered, which means no as well.
  const closed = new Promise<string>((resolve) =>
    terminal.once('close', () => {
      resolve('')
    }),
  )
  const answer = await Promise.race([terminal.question(`${question} [y/N] `), closed])
  terminal.close()
  if (!/^y(?:es)?$/i.test(answer.trim()))
    throw new Failed({ kind: 'bad-argument', why: 'nothing changed: the answer was no' })
}
