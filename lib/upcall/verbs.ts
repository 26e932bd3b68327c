/**
 * The kernel's verbs. Parsing, types, help and completion all use these tables. There are two dialects of one protocol:
 * the design of 2010, and what Linux has used since 3.8 (nfs4recover.c).
 */

/** What the kernel tells or asks. */
export const events = {
  start: 'a server instance starts',
  create: 'a client became active',
  remove: 'a client is gone',
  check: 'may this client reclaim?',
  'grace-done': 'the grace period is over',
} as const

export const verbs = {
  start: { event: 'start', dialect: '2010', takes: 'nothing' },
  init: { event: 'start', dialect: 'Linux', takes: 'nothing' },
  create_client: { event: 'create', dialect: '2010', takes: 'escaped-owner' },
  create: { event: 'create', dialect: 'Linux', takes: 'hex-owner' },
  expire_client: { event: 'remove', dialect: '2010', takes: 'escaped-owner' },
  remove: { event: 'remove', dialect: 'Linux', takes: 'hex-owner' },
  check: { event: 'check', dialect: 'Linux', takes: 'hex-owner' },
  grace_done: { event: 'grace-done', dialect: '2010', takes: 'nothing' },
  gracedone: { event: 'grace-done', dialect: 'Linux', takes: 'boot-time' },
} as const satisfies Record<string, { event: keyof typeof events; dialect: '2010' | 'Linux'; takes: Takes }>

export type Takes = 'nothing' | 'hex-owner' | 'escaped-owner' | 'boot-time'
export type Verb = keyof typeof verbs

/** A property that every object has, such as `constructor`, has no event, so it is no verb. */
export const isVerb = (word: string): word is Verb =>
  (verbs as Record<string, { event?: string } | undefined>)[word]?.event !== undefined

/** One line about a verb, for help and completion. */
export const summaryOfVerb = (verb: Verb): string =>
  `${events[verbs[verb].event]} (${verbs[verb].dialect === 'Linux' ? 'Linux' : 'the design of 2010'})`

/** What a verb's argument is called in usage lines. */
export const argumentNames: Record<Takes, string> = {
  nothing: '',
  'hex-owner': 'HEX',
  'escaped-owner': 'ESCAPED',
  'boot-time': 'BOOT_TIME',
}
