/**
 * Results on standard output, and remarks on standard error. Written at once, so that a result that can't be written is
 * a failure with a line and a status, and nothing piles up in memory before a slow reader.
 */
import fs from 'node:fs'
import { errorCode, storageFailure } from '../../failure.ts'

/**
 * @returns whether anybody still reads: a reader that has seen enough (`| head`) is no failure.
 * @throws Failed storage.
 */
export function print(text: string): boolean {
  try {
    writeAll(1, text)
    return true
  } catch (thrown) {
    const code = errorCode(thrown)
    if (code === 'EPIPE') return false
    if (code === undefined) throw thrown
    throw storageFailure(`standard output can't be written: ${code}`)
  }
}

/** A remark beside the result. Where nobody is listening, the status says it. */
export function remark(text: string): void {
  try {
    writeAll(2, text)
  } catch (thrown) {
    if (errorCode(thrown) === undefined) throw thrown
  }
}

/** A remark of the program's own, on a line of its own. */
export const say = (line: string): void => {
  remark(`nfsd-userland-helper: ${line}\n`)
}

/** JSON in ASCII alone: what is no ASCII could be a terminal's control character (C1), and is escaped as `\uXXXX`. */
function asJson(document: unknown): string {
  const text = JSON.stringify(document)
  // Nearly always there is none: to look costs a third of replacing nothing.
  if (!/[\u007f-\uffff]/.test(text)) return text
  return text.replace(/[\u007f-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/**
 * One document, one line (docs/json.md). A member that is a function is asked when its turn comes, and of what can be
 * gone through and is no array each item is told as it comes: a list may be longer than memory should hold.
 */
export function printJson(document: unknown): void {
  let part = ''
  for (const more of partsOf(document)) {
    part += more
    if (part.length < partSize) continue
    if (!print(part)) return
    part = ''
  }
  print(`${part}\n`)
}

function* partsOf(value: unknown): Generator<string> {
  if (typeof value === 'function') yield* partsOf((value as () => unknown)())
  else if (typeof value !== 'object' || value === null || Array.isArray(value)) yield asJson(value)
  else if (Symbol.iterator in value) {
    let separator = '['
    let some: unknown[] = []
    const told = (): string => {
      const text = `${separator}${asJson(some).slice(1, -1)}`
      separator = ','
      some = []
      return text
    }
    for (const item of value as Iterable<unknown>) if (some.push(item) === together) yield told()
    if (some.length > 0) yield told()
    yield separator === '[' ? '[]' : ']'
  } else {
    let separator = '{'
    for (const [name, member] of Object.entries(value)) {
      if (member === undefined) continue
      yield `${separator}${asJson(name)}:`
      yield* partsOf(member)
      separator = ','
    }
    yield separator === '{' ? '{}' : '}'
  }
}

/** So many items of a list are made text by one call. */
const together = 100

/** So much is written at a time. */
const partSize = 1 << 16

/** A path, each character of which is a byte, for Node's functions. */
export const nodePath = (path: string): Buffer => Buffer.from(path, 'latin1')

/** A path, each character of which is a byte, as text for programs. */
export const textOfPath = (path: string): string => Buffer.from(path, 'latin1').toString()

function writeAll(descriptor: number, text: string): void {
  const bytes = Buffer.from(text)
  for (let done = 0; done < bytes.length;) {
    try {
      done += fs.writeSync(descriptor, bytes, done)
    } catch (thrown) {
      // A pipe that somebody has made non-blocking, and whose reader is slower than we are.
      if (errorCode(thrown) !== 'EAGAIN') throw thrown
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2)
    }
  }
}
