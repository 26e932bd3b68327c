/**
 * When `serve` has an intent log (lib/store/own-intent-log.ts): it is made and emptied while no message waits. Nothing
 * but time depends on this.
 *
 * There is none before grace is over, because until then a request changes more than one name. When a burst of requests
 * is over, the log is emptied: then a record that a person removes by hand does not come back after a power cut, and
 * whoever finds the log has nothing to do.
 */
import { errorCode } from '../failure.ts'
import type { Log } from '../kernel/log.ts'
import { staysSo } from '../store/layout.ts'
import { directoryOf } from '../store/open-directories.ts'
import { closeIntentLog, emptyIntentLog, makeIntentLog } from '../store/own-intent-log.ts'
import { lookAt, type StateDirectory } from '../store/state-directory.ts'
import * as files from '../syscalls/files.ts'

/** How soon a log is made again that another process has ended. */
const againMs = 1000
/** How soon it is tried again to make one, or to empty it. */
const retryMs = 60_000
/** How long after its last entry the log is emptied: by then ext4 has committed what is in it. */
const quietMs = 5000

/** How many blocks a log has. When they are used up, a request waits until it is emptied: three flushes for one. */
const usualBlocks = 128

export class Intents {
  /** {@link usualBlocks}, but in a test. */
  blocks = usualBlocks
  private readonly state: StateDirectory
  private readonly log: Log
  /** When to make a log; undefined, if nobody has asked for anything since it was last tried. */
  private makeAt: number | undefined
  private notBefore = 0
  /** The number of the last entry when it was looked at, and when to empty the log after it. */
  private seen = 0
  private emptyAt = 0

  constructor(state: StateDirectory, log: Log) {
    this.state = state
    this.log = log
  }

  /** Messages have been answered. */
  answered(now: number): void {
    if (this.state.intents === undefined) this.makeAt ??= Math.max(now, this.notBefore)
  }

  dueAt(now: number): number | undefined {
    const { intents } = this.state
    if (intents === undefined) return this.makeAt
    if (intents.next === 1) return undefined
    if (intents.number !== this.seen) {
      this.seen = intents.number
      this.emptyAt = now + quietMs
    }
    return this.emptyAt
  }

  /** Does what is due. No message waits. @param withState runs its argument on the state directory */
  due(now: number, withState: (work: () => void) => void): void {
    const dueAt = this.dueAt(now)
    if (dueAt === undefined || dueAt > now) return
    const { intents } = this.state
    this.makeAt = undefined
    this.notBefore = now + againMs
    try {
      withState(() => {
        if (intents === undefined) this.make()
        else this.empty()
      })
    } catch (thrown) {
      this.notBefore = this.emptyAt = now + retryMs
      this.log.debug?.(`the intent log is not ${intents === undefined ? 'made' : 'emptied'}: ${codeOf(thrown)}`)
    }
  }

  /** The server has stopped, or this process is told to end. */
  close(): void {
    this.makeAt = undefined
    try {
      closeIntentLog(this.state)
    } catch (thrown) {
      this.log.warning(`the intent log stays, and the next process settles it (${codeOf(thrown)})`)
    }
  }

  private make(): void {
    const recorded = lookAt(this.state)
    if (staysSo(recorded) && 'start' in recorded.instance)
      makeIntentLog(this.state, recorded.instance.start, this.blocks)
  }

  private empty(): void {
    const { intents } = this.state
    if (intents === undefined) return
    const directory = directoryOf(this.state, intents.start)
    if (directory === undefined) closeIntentLog(this.state)
    else {
      files.sync(directory)
      emptyIntentLog(this.state, intents)
    }
  }
}

const codeOf = (thrown: unknown): string => errorCode(thrown) ?? String(thrown)
