/**
 * The parts of the program, called rooms, from the top down: each may import from the rooms below it, and from none
 * above. Lint enforces this list (eslint.config.js), docs/architecture.md shows it, and tests/unit/rooms.test.ts checks
 * both.
 *
 * `packages`: the packages that a room may import. `apart`: rooms below it from which it must not import. A room that
 * may not import Node's modules may not use Node's globals or read a clock either: it gets the system passed in
 * (lib/syscalls/calls.ts).
 */
export const rooms = [
  { room: 'bin/', question: 'the entries, and nothing else', packages: ['node:*'], apart: [] },
  {
    room: 'lib/commands/',
    question:
      'what can people see and change? One file for each command, `doctor/`, `install/`, `move/`, and what they share',
    packages: ['node:*', 'yargs', 'fs-extra/*', '@noble/hashes/*'],
    apart: ['lib/main.ts', 'lib/hand-on.ts', 'lib/serve/'],
  },
  { room: 'lib/main.ts', question: 'one upcall: words in, status out', packages: [], apart: [] },
  {
    room: 'lib/hand-on.ts',
    question: 'which words are no upcall, and which program gets them?',
    packages: [],
    apart: [],
  },
  {
    room: 'lib/serve/',
    question: 'how are the messages of the pipe answered? The other front end',
    packages: [],
    apart: [],
  },
  {
    room: 'lib/events/',
    question:
      'what happens, in which order, and why is it right at every point? One file for each event, with its argument',
    packages: [],
    apart: ['lib/settings/'],
  },
  {
    room: 'lib/store/',
    question: "how is the state kept? Layout, records, lock, what the kernel's own tracker left, marks of starts",
    packages: ['proper-lockfile', '@noble/hashes/*'],
    apart: ['lib/kernel/', 'lib/settings/'],
  },
  {
    room: 'lib/kernel/',
    question: "what do we ask and tell the kernel? nfsd's files, its log; how long may an upcall take?",
    packages: [],
    apart: ['lib/settings/', 'lib/rules/'],
  },
  { room: 'lib/settings/', question: 'where are things?', packages: [], apart: ['lib/rules/', 'lib/upcall/'] },
  {
    room: 'lib/rules/',
    question: 'what does it mean? Pure: instances, records, one upcall to one step',
    packages: ['@noble/hashes/*'],
    apart: ['lib/syscalls/'],
  },
  {
    room: 'lib/upcall/',
    question: 'what did the kernel ask? Pure: verbs, owners, requests',
    packages: [],
    apart: ['lib/syscalls/'],
  },
  {
    room: 'lib/syscalls/',
    question:
      'the only access to the system: a table of calls, by the host in C or by Node; files as this program needs them',
    packages: [],
    apart: [],
  },
  { room: 'lib/words.ts', question: 'how are options read from a command line?', packages: [], apart: [] },
  { room: 'lib/failure.ts', question: 'every way to fail, its status and its sentence', packages: [], apart: [] },
  { room: 'lib/text.ts', question: 'how is text made for people?', packages: [], apart: [] },
  { room: 'lib/bytes.ts', question: 'words are bytes', packages: [], apart: [] },
]

/** Files that may import what their room may not, each with its reason. */
export const exceptions = [
  { file: 'lib/syscalls/node.ts', packages: ['node:*'], why: "it is Node's way of making the calls" },
  {
    file: 'lib/commands/move/sqlite.ts',
    packages: ['node-sqlite3-wasm'],
    why: 'it is a module of its own (bin/sqlite.ts), loaded when it is wanted',
  },
  {
    file: 'lib/commands/move/sqlite-files.ts',
    packages: ['node-sqlite3-wasm'],
    why: 'it hands SQLite its own code',
  },
  {
    file: 'lib/syscalls/host.ts',
    packages: ['globalThis'],
    why: "the executable's host in C is no module: it stands there",
  },
]

/** What commands share: every command may import it, and it must not import any command. */
const shared = 'lib/commands/shared/'

/** The room of a file, by its path in the repository; undefined, if it is in none. */
export const roomOf = (path) => rooms.find(({ room }) => (room.endsWith('/') ? path.startsWith(room) : path === room))

const matches = (pattern, name) =>
  pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern || name.startsWith(`${pattern}/`)

const packagesOf = (file, { packages }) => [
  ...packages,
  ...exceptions.filter((exception) => exception.file === file).flatMap((exception) => exception.packages),
]

/** Globals that give access to the system without an import. */
export const globals = [
  ...['process', 'performance', 'Buffer', 'console', 'fetch', 'global', 'globalThis'],
  ...['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'],
  ...['Date.now', 'new Date()', 'Math.random'],
]

/** Why a file may not use one of {@link globals}; undefined, if it may. */
export function forbiddenGlobal(file, name) {
  const from = roomOf(file)
  const packages = from === undefined ? ['node:*'] : packagesOf(file, from)
  return packages.includes('node:*') || packages.includes(name)
    ? undefined
    : `${from.room} has no ${name}: the system is handed in`
}

/** Why a file may not import something; both are paths in the repository, or a package's name. Undefined, if it may. */
export function forbidden(file, imported) {
  const from = roomOf(file)
  if (from === undefined) return undefined
  const isPath = /^(?:bin|lib)\//.test(imported)
  const to = isPath ? roomOf(imported) : undefined
  if (to !== undefined) {
    if (to === from)
      return file.startsWith(shared) && !imported.startsWith(shared)
        ? `${shared} does not know who shares it`
        : undefined
    if (from.apart.includes(to.room)) return `${from.room} keeps apart from ${to.room}`
    return rooms.indexOf(to) > rooms.indexOf(from) ? undefined : `${to.room} lies above ${from.room}`
  }
  if (isPath || /^(?:dist|udev|tests|docs)\/|^package\.json$/.test(imported))
    return from.room === 'lib/commands/' || imported === 'package.json'
      ? undefined
      : `${from.room} is not made of ${imported}`
  return packagesOf(file, from).some((pattern) => matches(pattern, imported))
    ? undefined
    : `${from.room} does not use ${imported}`
}
