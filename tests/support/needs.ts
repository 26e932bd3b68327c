/**
 * What the tests need of the machine beside Node: Debian packages. They are installed if we are root, otherwise named.
 * Usage: tsx tests/support/needs.ts [--root] COMMAND|FILE[=PACKAGE]...
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { refuseOldNode } from '../../lib/build/node-version.ts'

refuseOldNode()

const present = (wanted: string): boolean =>
  wanted.startsWith('/')
    ? existsSync(wanted)
    : spawnSync('/bin/sh', ['-c', 'PATH=$PATH:/usr/sbin:/sbin; command -v "$1"', 'sh', wanted]).status === 0

const isRoot = process.geteuid?.() === 0
const words = process.argv.slice(2)
if (words[0] === '--root') {
  words.shift()
  if (!isRoot) {
    console.error('these tests mount file systems and act as other users: run them as root (test:unit needs no root)')
    process.exit(1)
  }
}

const wanted = words.map((word) => word.split('='))
const packages = wanted.filter(([command = '']) => !present(command)).map(([command = '', name = command]) => name)

if (packages.length > 0) {
  const install = `apt-get install -y --no-install-recommends ${packages.join(' ')}`
  if (!isRoot) {
    console.error(`missing for these tests: ${install}`)
    process.exit(1)
  }
  const { status } = spawnSync('/bin/sh', ['-c', `apt-get update -q && ${install}`], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
  if (status !== 0) {
    console.error(`could not be installed: ${packages.join(' ')}`)
    process.exit(1)
  }
}
