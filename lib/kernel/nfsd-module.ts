/** The kernel's module `nfsd`, loaded or built in, as sysfs shows it. */

/** Exists as long as the module is loaded, or always if it is built in. */
export const nfsdModule = '/sys/module/nfsd'

/**
 * Names the helper that the kernel calls. It exists only if the kernel can call one
 * (CONFIG_NFSD_LEGACY_CLIENT_TRACKING) and nfsd is loaded. Reading it adds a newline. A newline that is written to it
 * becomes part of the name.
 */
export const helperParameter = `${nfsdModule}/parameters/cltrack_prog`
