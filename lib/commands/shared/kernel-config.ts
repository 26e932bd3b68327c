/** The configuration that the running kernel was built with, where the distribution provides it. */
import fs from 'node:fs'
import { release } from 'node:os'
import { gunzipSync } from 'node:zlib'

/**
 * @returns an option's value (`y`, `m`, text without its quotes), 'off', or 'absent', if this kernel has no such option
 */
export type KernelConfig = (option: string) => string

/** The running kernel's configuration; undefined, if it can't be found. */
export function kernelConfig(): KernelConfig | undefined {
  const version = release()
  for (const path of [
    '/proc/config.gz',
    `/boot/config-${version}`,
    `/lib/modules/${version}/config`,
    `/lib/modules/${version}/build/.config`,
  ]) {
    const text = readConfig(path)
    if (text !== undefined) return configIn(text)
  }
  return undefined
}

function readConfig(path: string): string | undefined {
  try {
    const bytes = fs.readFileSync(path)
    return (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('latin1')
  } catch {
    return undefined
  }
}

function configIn(text: string): KernelConfig {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, set, value = '', off] = /^(?:(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set)$/.exec(line) ?? []
    if (set !== undefined) values.set(set, value.replace(/^"(.*)"$/, '$1'))
    else if (off !== undefined) values.set(off, 'off')
  }
  return (option) => values.get(option) ?? 'absent'
}
