/**
 * Errors by number, as the kernel answers, and by name, as people read them (include/uapi/asm-generic/errno.h: the same
 * on every machine that this program is built for).
 */
export const errno = {
  EPERM: 1, ENOENT: 2, ESRCH: 3, EINTR: 4, EIO: 5, ENXIO: 6, EAGAIN: 11, EACCES: 13, EEXIST: 17, ENOTDIR: 20, EISDIR: 21, EINVAL: 22,
  ENOSPC: 28, EROFS: 30, ENAMETOOLONG: 36, ENOTEMPTY: 39, ELOOP: 40, EOPNOTSUPP: 95, EDQUOT: 122,
} as const

/** @param answer the negated errno. @returns its name, which the library knows where we have no use for it. */
export function errorName(answer: number): string {
  for (const [name, value] of Object.entries(errno)) if (value === -answer) return name
  return process.getBuiltinModule('node:util').getSystemErrorName(answer)
}

/** A call that the kernel did not carry out, as an error of Node's shape. @param answer the negated errno. */
export function systemError(answer: number, syscall: string, path: string): Error {
  const code = errorName(answer)
  return Object.assign(new Error(`${code}: ${syscall} '${path}'`), { code, errno: answer, syscall, path })
}

/** @throws EINVAL for a word with a NUL: C would take it to end there. */
export function assertSayable(word: string): void {
  if (word.includes('\0')) throw systemError(-errno.EINVAL, 'open', word)
}

/** A call's answer. @throws the error that it stands for, unless it is one of `tolerated`. */
export function answered(answer: number, syscall: string, path: string, ...tolerated: readonly number[]): number {
  if (answer < 0 && !tolerated.includes(-answer)) throw systemError(answer, syscall, path)
  return answer
}
