/** The commands for people, by name: so that a word can be told from an unknown verb before anything is loaded for it. */
export const commands = {
  selftest: 'how many clients can this server recover within its grace period?',
} as const satisfies Record<string, string>

export type Command = keyof typeof commands

export const isCommand = (word: string): word is Command => Object.hasOwn(commands, word)
