/**
 * The kernel's words, spelled once: parsing, types and help are read off this table.
 * Two dialects, one state machine: the design thread of 2010, and what Linux has used since 3.8 (nfs4recover.c).
 */
export const verbs = {
  start: { event: 'start', takes: 'nothing', summary: 'a server instance starts (thread)' },
  init: { event: 'start', takes: 'nothing', summary: 'a server instance starts (Linux)' },
  create_client: { event: 'create', takes: 'escaped-owner', summary: 'a client became active (thread)' },
  create: { event: 'create', takes: 'hex-owner', summary: 'a client became active (Linux)' },
  expire_client: { event: 'remove', takes: 'escaped-owner', summary: 'a client is gone (thread)' },
  remove: { event: 'remove', takes: 'hex-owner', summary: 'a client is gone (Linux)' },
  check: { event: 'check', takes: 'hex-owner', summary: 'may this client reclaim? (Linux)' },
  grace_done: { event: 'grace-done', takes: 'nothing', summary: 'the grace period is over (thread)' },
  gracedone: { event: 'grace-done', takes: 'boot-time', summary: 'the grace period is over (Linux)' },
} as const satisfies Record<string, { event: string; takes: Takes; summary: string }>

export type Takes = 'nothing' | 'hex-owner' | 'escaped-owner' | 'boot-time'
export type Verb = keyof typeof verbs

/** What every object has (`constructor`) is no verb: it has no event. */
export const isVerb = (word: string): word is Verb =>
  (verbs as Record<string, { event?: string } | undefined>)[word]?.event !== undefined

/** What a verb's argument is called in usage lines. */
export const argumentNames: Record<Takes, string> = {
  nothing: '',
  'hex-owner': 'HEX',
  'escaped-owner': 'ESCAPED',
  'boot-time': 'BOOT_TIME',
}
