/**
 * Our own export: a JSON document (docs/json.md). What is read back is believed in nothing: it may have been edited, or
 * come from anywhere.
 */
import { Failed, quote } from '../../failure.ts'
import { escapeOwner, ownerFromHex } from '../../upcall/owner.ts'
import { isoTime } from '../table.ts'
import { refused } from './database.ts'
import { collector, legacyName, type Found, type Movable } from './movable.ts'

const format = 'nfsd-userland-helper clients'
const version = 1

/** One client a line: large exports stay readable by line tools. */
export function writeExport(clients: readonly Movable[], matchOnly: readonly string[], now: number): string {
  const lines = clients.map(({ owner, session, recorded }) =>
    JSON.stringify({ owner: escapeOwner(owner), owner_hex: Buffer.from(owner).toString('hex'), session, recorded }),
  )
  const head = { format, version, exported: isoTime(now) }
  return `${JSON.stringify(head).slice(0, -1)},"clients":[${lines.map((line) => `\n${line}`).join(',')}\n],"match_only":${JSON.stringify(matchOnly)}}\n`
}

/** Anything that JSON can say. */
type Json = Readonly<Record<string, unknown>>

export function readExport(text: string, path: string, now: number): Found {
  const wrong = (what: string): Failed => refused(`${quote(path)} is no export of this program: ${what}`)
  const document = parsed()
  if (document['format'] !== format) throw wrong(`its format is not '${format}'`)
  if (document['version'] !== version) throw wrong(`version ${quote(String(document['version']))} is not known here (${version} is)`)
  const found = collector(now)
  for (const [at, entry] of listIn('clients').entries()) {
    const { owner, owner_hex: hex, session, recorded } = (typeof entry === 'object' && entry !== null ? entry : {}) as Json
    if (typeof hex !== 'string' || typeof session !== 'boolean') throw wrong(`client ${at + 1} lacks owner_hex or session`)
    const bytes = readHex(hex, at)
    if (owner !== undefined && owner !== escapeOwner(bytes)) throw wrong(`client ${at + 1} is named differently by owner and owner_hex`)
    found.add(bytes, session, recorded)
  }
  const matchOnly = listIn('match_only').map((name) => {
    if (typeof name !== 'string' || !legacyName.test(name)) throw wrong('match_only holds something that is no MD5')
    return name
  })
  return { kind: 'export', clients: found.clients(), matchOnly, notes: found.notes() }

  function parsed(): Json {
    try {
      const read: unknown = JSON.parse(text)
      if (typeof read === 'object' && read !== null) return read as Json
    } catch {
      // Said below, without the parser's words: they quote what may be anything.
    }
    throw wrong('it is no JSON document')
  }

  function listIn(name: string): readonly unknown[] {
    const list = document[name] ?? []
    if (!Array.isArray(list)) throw wrong(`${name} is no list`)
    return list
  }

  function readHex(hex: string, at: number): ReturnType<typeof ownerFromHex> {
    try {
      return ownerFromHex(hex)
    } catch {
      throw wrong(`client ${at + 1} has an owner_hex that is no client owner`)
    }
  }
}
