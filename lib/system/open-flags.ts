/** Flags of open(2) (include/uapi/asm-generic/fcntl.h; two of them are spelled otherwise on ARM). */
const onArm = process.arch === 'arm64'

export const openFlags = {
  O_RDONLY: 0, O_WRONLY: 1, O_CREAT: 0o100, O_EXCL: 0o200, O_NONBLOCK: 0o4000, O_CLOEXEC: 0o2000000,
  O_DIRECTORY: onArm ? 0o40000 : 0o200000,
  O_NOFOLLOW: onArm ? 0o100000 : 0o400000,
} as const
