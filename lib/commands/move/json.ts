/**
 * Our own export: a JSON document (docs/json.md). Nothing in it is trusted when it is read: it may have been edited, or
 * come from anywhere.
 */
import { Failed, storageFailure } from '../../failure.ts'
import { isPrincipal } from '../../rules/record.ts'
import { quote } from '../../text.ts'
import { legacyName } from '../../upcall/legacy-name.ts'
import { escapeOwner, ownerFromHex, type ClientOwner } from '../../upcall/owner.ts'
import { isoTime } from '../shared/table.ts'
import { sessionJson } from '../shared/view.ts'
import { membersOf } from './json-stream.ts'
import { recordedFrom, type Found, type Movable } from './movable.ts'

const format = 'nfsd-userland-helper clients'
const version = 1

/** Yields the document in parts. Each client has a line, so that line tools can handle large exports. */
export function* writeExport(clients: Iterable<Movable>, matchOnly: Iterable<string>, now: number): Generator<string> {
  const head = { format, version, exported: isoTime(now) }
  yield `${JSON.stringify(head).slice(0, -1)},"clients":[`
  let separator = ''
  for (const { owner, session, recorded, principal } of clients) {
    const client = {
      owner: escapeOwner(owner),
      owner_hex: Buffer.from(owner).toString('hex'),
      session: sessionJson(session),
      recorded,
      principal,
    }
    yield `${separator}\n${JSON.stringify(client)}`
    separator = ','
  }
  yield '\n],"match_only":['
  separator = ''
  for (const name of matchOnly) {
    yield `${separator}${JSON.stringify(name)}`
    separator = ','
  }
  yield ']}\n'
}

/** Any JSON object. */
type Json = Readonly<Record<string, unknown>>

type Item = { readonly client: Movable } | { readonly hash: string }

/** What the functions that read a part of a document need. */
interface Reading {
  /** In seconds of the wall clock. */
  readonly now: number
  /** Makes the failure for a document that is not ours. */
  readonly wrong: (what: string) => Failed
}

/**
 * @param chunks reads the document's bytes from its beginning; each character is a byte
 * @param path the document's, for messages
 */
export function readExport(chunks: () => Iterable<string>, path: string, now: number): Found {
  const wrong = (what: string): Failed => storageFailure(`${quote(path)} is no export of this program: ${what}`)
  const items = (): Iterable<Item> => itemsOf(chunks(), { now, wrong })
  return {
    kind: 'export',
    *clients() {
      for (const item of items()) if ('client' in item) yield item.client
    },
    *matchOnly() {
      for (const item of items()) if ('hash' in item) yield item.hash
    },
    notes: () => [],
  }
}

/** The items of both lists. At the end of the document it is known whether it is one of ours. */
function* itemsOf(chunks: Iterable<string>, reading: Reading): Generator<Item> {
  const { wrong } = reading
  const said = new Map<string, unknown>()
  let at = 0
  for (const { name, value, isItem } of membersOf(chunks, ['clients', 'match_only'], wrong)) {
    if (!isItem) {
      if ((name === 'clients' || name === 'match_only') && value !== null) throw wrong(`${name} is no list`)
      said.set(name, value)
      assertOurs(said, 'so far', reading)
    } else if (name === 'clients') yield { client: clientFrom(value, ++at, reading) }
    else if (typeof value === 'string' && legacyName.test(value)) yield { hash: value }
    else throw wrong('match_only holds something that is no MD5')
  }
  assertOurs(said, 'whole', reading)
}

function assertOurs(said: ReadonlyMap<string, unknown>, read: 'so far' | 'whole', { wrong }: Reading): void {
  const isSaid = (name: string): boolean => read === 'whole' || said.has(name)
  if (isSaid('format') && said.get('format') !== format) throw wrong(`its format is not '${format}'`)
  if (isSaid('version') && said.get('version') !== version)
    throw wrong(`version ${quote(String(said.get('version')))} is not known here (${version} is)`)
}

function clientFrom(entry: unknown, at: number, { now, wrong }: Reading): Movable {
  const {
    owner,
    owner_hex: hex,
    session,
    recorded,
    principal,
  } = (typeof entry === 'object' && entry !== null ? entry : {}) as Json
  if (typeof hex !== 'string' || !(typeof session === 'boolean' || session === null))
    throw wrong(`client ${at} lacks owner_hex or session`)
  const bytes = ownerIn(hex)
  if (bytes === undefined) throw wrong(`client ${at} has an owner_hex that is no client owner`)
  if (owner !== undefined && owner !== escapeOwner(bytes))
    throw wrong(`client ${at} is named differently by owner and owner_hex`)
  if (principal !== undefined && principal !== null && !(typeof principal === 'string' && isPrincipal(principal)))
    throw wrong(`client ${at} has a principal that is no SHA-256`)
  return {
    owner: bytes,
    session: session === null ? 'unknown' : session ? 'has session' : 'no session',
    recorded: recordedFrom(recorded, now),
    principal: principal ?? undefined,
  }
}

function ownerIn(hex: string): ClientOwner | undefined {
  try {
    return ownerFromHex(hex)
  } catch {
    return undefined
  }
}
