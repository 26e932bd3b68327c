/** A line that changes, on a terminal; nothing elsewhere. */
export interface Progress {
  readonly say: (what: string) => void
  readonly clear: () => void
}

export function openProgress(): Progress {
  const { stderr } = process
  const put = (text: string): void => {
    if (stderr.isTTY) stderr.write(`\r\x1b[K${text.slice(0, stderr.columns - 1)}`)
  }
  return {
    say: (what) => {
      put(`  ... ${what}`)
    },
    clear: () => {
      put('')
    },
  }
}
