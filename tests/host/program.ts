/**
 * Runs in the engine: prints a line for each promise of the calls, with all that is wrong. The first word is the room.
 */
import { bytesOf } from '../../lib/bytes.ts'
import { host } from '../../lib/syscalls/host.ts'
import { promises } from './calls.ts'

const { calls } = host
const say = (line: string): void => void calls.write(1, bytesOf(`${line.replace(/[^ -~]/g, '?')}\n`))
for (const { sentence, hold } of promises(calls, host.words[0] ?? '', 'host')) {
  try {
    hold()
    say(`ok ${sentence}`)
  } catch (thrown) {
    say(`not ok ${sentence}: ${String(thrown)}`)
  }
}
calls.exit(42)
