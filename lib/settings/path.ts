/** Paths: made absolute, and decoded. */
import { Failed } from '../failure.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'

/**
 * A path made absolute, without `.`, `..` and empty parts.
 * @throws Failed, if it is relative and the current directory no longer exists.
 */
export function resolved(calls: Calls, path: string): string {
  // Most paths are like this already. Splitting them would be a twentieth of a check.
  if (path.startsWith('/') && !path.includes('/.') && !path.includes('//') && !path.endsWith('/')) return path
  const parts: string[] = []
  for (const part of (path.startsWith('/') ? path : `${whereWeAre(calls, path)}/${path}`).split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '' && part !== '.') parts.push(part)
  }
  return `/${parts.join('/')}`
}

function whereWeAre(calls: Calls, path: string): string {
  const here = calls.readlinkat(atFlags.AT_FDCWD, '/proc/self/cwd')
  if (typeof here === 'string' && here.startsWith('/') && !here.endsWith(' (deleted)')) return here
  throw new Failed({
    kind: 'bad-argument',
    why: 'not an absolute path, and the working directory is not known',
    word: path,
  })
}

/** UTF-8 (RFC 3629 §4). */
const utf8 =
  /^(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*$/

/** @param bytes a word of the configuration, each character a byte. @returns it; undefined, if it is not UTF-8. */
export const asUtf8 = (bytes: string): string | undefined => (utf8.test(bytes) ? bytes : undefined)
