/** The kernel's module `nfsd`, loaded or built in, as sysfs shows it. */

/** There as long as the module is loaded, or always where it is built in. */
export const nfsdModule = '/sys/module/nfsd'

/**
 * Names the helper that the kernel calls. There only in a kernel that can call one
 * (CONFIG_NFSD_LEGACY_CLIENT_TRACKING), and once nfsd is loaded. It is read with one newline more than it holds, and a
 * newline that is written becomes part of the name.
 */
export const helperParameter = `${nfsdModule}/parameters/cltrack_prog`
