/**
 * Error numbers by name (include/uapi/asm-generic/errno.h: the same on every machine that this program is built for).
 */
export const errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  EPIPE: 32,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  ESTALE: 116,
  EUCLEAN: 117,
  EDQUOT: 122,
  ENOKEY: 126,
} as const

/** @param answer a negated errno. @returns its name, or its number if the table above does not have it. */
export function errorName(answer: number): string {
  for (const [name, value] of Object.entries(errno)) if (value === -answer) return name
  return `errno ${-answer}`
}

/** The error of a failed call, with the properties that Node gives such errors. @param answer the negated errno. */
export function systemError(answer: number, syscall: string, path: string): Error {
  const code = errorName(answer)
  return Object.assign(new Error(`${code}: ${syscall} '${path}'`), { code, errno: answer, syscall, path })
}

/** The `syscall` of an error about a word that can't be passed to the kernel: no call was made. */
export const unsayable = 'a word'

/** @throws EINVAL for a word with a NUL, at which a string ends in C, or with a character past 255. */
export function assertSayable(word: string): void {
  if (/[^\x01-\xff]/.test(word)) throw systemError(-errno.EINVAL, unsayable, word)
}

/** Returns a call's answer. @throws an error for a negated errno that is not in `tolerated`. */
export function answered(answer: number, syscall: string, path: string, ...tolerated: readonly number[]): number {
  if (answer < 0 && !tolerated.includes(-answer)) throw systemError(answer, syscall, path)
  return answer
}
