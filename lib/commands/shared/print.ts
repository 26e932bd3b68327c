/**
 * Writes results to standard output, and remarks to standard error. It writes at once, so that a failed write becomes a
 * failure with a line and a status, and nothing piles up in memory before a slow reader.
 */
import fs from 'node:fs'
import { errorCode, storageFailure } from '../../failure.ts'

/**
 * @returns whether somebody still reads: it is no failure if the reader has seen enough (`| head`)
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

/** Writes a remark beside the result. If nobody can read it, the status still tells. */
export function remark(text: string): void {
  try {
    writeAll(2, text)
  } catch (thrown) {
    if (errorCode(thrown) === undefined) throw thrown
  }
}

/** Writes a remark of the program's own, on a line of its own. */
export const say = (line: string): void => {
  remark(`nfsd-userland-helper: ${line}\n`)
}

/**
 * Makes JSON in ASCII only: another character could be a terminal's control character (C1), and is escaped as `\uXXXX`.
 */
function asJson(document: unknown): string {
  const text = JSON.stringify(document)
  // Nearly always there is none. This check takes a third of the time of a replacement that finds nothing.
  if (!/[\u007f-\uffff]/.test(text)) return text
  return text.replace(/[\u007f-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/**
 * Prints one document on one line (docs/json.md). A member that is a function is called when its turn comes. Of an
 * iterable that is not an array, each item is printed as it comes, because a list may be too long for memory.
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

/** This many items of a list become text in one call. */
const together = 100

/** This much is written at a time. */
const partSize = 1 << 16

/** Turns a path in which each character is a byte into what Node's functions take. */
export const nodePath = (path: string): Buffer => Buffer.from(path, 'latin1')

/** Turns a path in which each character is a byte into text for programs. */
export const textOfPath = (path: string): string => Buffer.from(path, 'latin1').toString()

function writeAll(descriptor: number, text: string): void {
  const bytes = Buffer.from(text)
  for (let done = 0; done < bytes.length;) {
    try {
      done += fs.writeSync(descriptor, bytes, done)
    } catch (thrown) {
      // The pipe is non-blocking, and its reader is slower than this program.
      if (errorCode(thrown) !== 'EAGAIN') throw thrown
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2)
    }
  }
}
