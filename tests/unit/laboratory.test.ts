// The kernel laboratory's guest, with a program in place of QEMU that boots as the test says.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { boot } from '../kernel/guest.ts'

/** What one boot does: it ends, it prints nothing, or it answers each script with this status. */
type Boot = 'off' | 'silent' | { readonly answers: number }

/** It writes down its id as a shell, which starts in no time: a boot must not be over before that on any machine. */
const program = `#!/bin/sh
echo $$ >> "\${0%/*}/ids"
exec '${process.execPath}' "\${0%/*}/machine.cjs" "$@"
`

const machine = `
const { readFileSync } = require('node:fs')
const directory = __dirname
const boots = JSON.parse(readFileSync(directory + '/boots', 'utf8'))
const boot = boots[readFileSync(directory + '/ids', 'utf8').trim().split('\\n').length - 1]
if (boot === 'off') process.exit(1)
const path = process.argv.map((word) => /^socket,.*path=([^,]*)/.exec(word)?.[1]).find(Boolean)
require('node:net').createServer((port) => {
  port.on('error', () => {})
  if (boot === 'silent') return
  port.write('ready\\n')
  port.on('data', (line) => port.write(String(line).split(' ')[0] + ' ' + boot.answers + ' \\n'))
}).listen(path)
`
const image = { release: '0', kernel: '', initramfs: '', modules: '' }

describe('a guest of the kernel laboratory', () => {
  let directory = ''
  const { PATH } = process.env
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'laboratory-'))
    mkdirSync(join(directory, 'bin'))
    writeFileSync(join(directory, 'bin', 'qemu-system-x86_64'), program, { mode: 0o755 })
    writeFileSync(join(directory, 'bin', 'machine.cjs'), machine)
    process.env['PATH'] = `${join(directory, 'bin')}:${PATH ?? ''}`
  })
  afterEach(() => {
    process.env['PATH'] = PATH
    rmSync(directory, { recursive: true, force: true })
  })
  /** The boots that answer do so well within these limits. */
  const booted = (boots: readonly Boot[]) => {
    writeFileSync(join(directory, 'bin', 'boots'), JSON.stringify(boots))
    const limits = boots.map((one) => (one === 'silent' ? 5 : 300))
    return boot(image, { name: 'a guest', directory, disks: [] }, limits)
  }
  const ids = () =>
    readFileSync(join(directory, 'bin', 'ids'), 'utf8')
      .trim()
      .split('\n')
      .map(Number)
  const runs = (id: number) => {
    try {
      return process.kill(id, 0)
    } catch {
      return false
    }
  }

  it('is booted again if it ends or prints nothing, after the boot before has been killed', async () => {
    const guest = await booted(['off', 'silent', { answers: 0 }])
    try {
      assert.deepEqual(ids().map(runs), [false, false, true])
      assert.equal((await guest.attempt('true')).status, 0)
    } finally {
      await guest.kill()
    }
    assert.deepEqual(ids().map(runs), [false, false, false])
  })

  it('is given up if no boot succeeds, and no process is left', async () => {
    await assert.rejects(booted(['off', 'silent']), /a guest does not boot \(5 s\)/)
    assert.deepEqual(ids().map(runs), [false, false])
  })

  it('is not booted again for what fails after it has reported that it is ready', async () => {
    await assert.rejects(booted([{ answers: 1 }, { answers: 0 }]), /a guest: status 1/)
    assert.deepEqual(ids().map(runs), [false])
  })
})
