/**
 * How the kernel's own tracker names a client (nfs4recover.c, nfs4_make_rec_clidname): the MD5 of its owner, in hex.
 */
export const legacyName = /^[0-9a-f]{32}$/
