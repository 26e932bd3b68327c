/**
 * The nfs-utils configuration file, nfs.conf(5), as far as it concerns us: our section's keys. Pure.
 * Names of sections and keys are case-insensitive; the last value of a key counts; `#` and `;` begin a comment line.
 */

/** One assignment in our section. */
export interface Assignment {
  readonly key: string
  readonly value: string
}

/** Everything assigned in `section`, in order. Lines that are none of an nfs.conf's are somebody else's to complain of. */
export function assignmentsIn(text: string, section: string): Assignment[] {
  const found: Assignment[] = []
  let inSection = false
  for (const raw of text.split(/\r?\n/)) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue
    const header = /^\[\s*([^\]"]*?)\s*(?:"[^"]*"\s*)?\]/.exec(line)
    if (header !== null) {
      inSection = header[1]?.toLowerCase() === section
      continue
    }
    const equals = line.indexOf('=')
    if (!inSection || equals <= 0) continue
    found.push({
      key: line.slice(0, equals).trim().toLowerCase(),
      value: unquote(line.slice(equals + 1).trim()),
    })
  }
  return found
}

/** `"a # b"` and `'a # b'` are taken whole; elsewhere a `#` or `;` after white space begins a comment. */
function unquote(value: string): string {
  const quoted = /^(["'])(.*?)\1/.exec(value)
  return quoted?.[2] ?? value.replace(/\s[#;].*$/, '').trim()
}

/** nfs.conf's booleans; undefined for anything else. */
export function booleanFrom(value: string): boolean | undefined {
  if (/^(?:1|t|true|y|yes|on)$/i.test(value)) return true
  if (/^(?:0|f|false|n|no|off)$/i.test(value)) return false
  return undefined
}
