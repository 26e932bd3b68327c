/**
 * The executable as a file: a kernel needs nothing else to start it; what protects it; and to which program it passes
 * on the words that it does not handle.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { mkdirpSync, removeSync } from 'fs-extra/esm'
import { toolchain } from '../../lib/build/toolchain.ts'
import packageJson from '../../package.json' with { type: 'json' }
import { badArgument, done, mayNotReclaim, server, unknownVerb } from '../contract/server.ts'
import { artefacts, root } from '../support/artefacts.ts'
import { traced } from '../support/strace.ts'

/** The asserted properties of an ELF file (elf(5)), of 64 bits in this machine's byte order, or of 32. */
interface Elf {
  readonly type: number
  readonly segments: readonly { readonly type: number; readonly flags: number }[]
  readonly dynamic: ReadonlyMap<number, number>
  /** Kinds of sections. */
  readonly sections: readonly number[]
}

function elfOf(bytes: Buffer): Elf {
  const [wide, little] = [bytes[4] === 2, bytes[5] === 1]
  const u16 = (at: number): number => (little ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at))
  const u32 = (at: number): number => (little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at))
  const word = (at: number): number =>
    wide ? Number(little ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at)) : u32(at)
  const size = wide ? 8 : 4
  const headers = Array.from({ length: u16(wide ? 56 : 44) }, (_, index) => {
    const at = word(wide ? 32 : 28) + index * u16(wide ? 54 : 42)
    return {
      type: u32(at),
      flags: u32(at + (wide ? 4 : 24)),
      offset: word(at + (wide ? 8 : 4)),
      length: word(at + (wide ? 32 : 16)),
    }
  })
  const dynamic = new Map<number, number>()
  for (const { type, offset, length } of headers)
    if (type === 2) for (let at = offset; at < offset + length; at += 2 * size) dynamic.set(word(at), word(at + size))
  const sections = Array.from({ length: u16(wide ? 60 : 48) }, (_, index) =>
    u32(word(wide ? 40 : 32) + index * u16(wide ? 58 : 46) + 4),
  )
  return { type: u16(16), segments: headers, dynamic, sections }
}

const [dynamicType, interpreter, stack, relro] = [3, 3, 0x6474e551, 0x6474e552]
const [needed, flags, flags1] = [1, 30, 0x6ffffffb]

for (const artefact of artefacts().filter(({ name }) => name === 'executable'))
  describe('the executable', () => {
    const bytes = readFileSync(artefact.command[0] ?? '')
    const elf = elfOf(bytes)

    it('needs no interpreter and no library', () => {
      assert.ok(!elf.segments.some(({ type }) => type === interpreter))
      assert.ok(!elf.dynamic.has(needed))
    })

    it('can be loaded at any address', () => {
      assert.equal(elf.type, dynamicType)
      assert.ok(((elf.dynamic.get(flags1) ?? 0) & 0x0800_0000) !== 0, 'DF_1_PIE')
    })

    it('resolves all symbols before it runs, and its relocated data is read-only', () => {
      assert.ok(
        elf.segments.some(({ type }) => type === relro),
        'PT_GNU_RELRO',
      )
      assert.ok(
        ((elf.dynamic.get(flags) ?? 0) & 0x8) !== 0 || ((elf.dynamic.get(flags1) ?? 0) & 0x1) !== 0,
        'DF_BIND_NOW',
      )
    })

    it('makes its relocated data read-only before it does anything else', async () => {
      const { calls } = await traced(server(artefact), ['--version'])
      const at = calls.findIndex(({ text }) => /^mprotect\(0x\w+, [1-9]\d*, PROT_READ\) += 0$/.test(text))
      assert.ok(at >= 0 && at < calls.findIndex(({ text }) => text.startsWith('openat(')))
    })

    it('has no memory that is both writable and executable, also not the stack', () => {
      for (const { type, flags: rights } of elf.segments) assert.notEqual(rights & 3, 3, `segment of type ${type}`)
      assert.equal((elf.segments.find(({ type }) => type === stack)?.flags ?? 1) & 1, 0)
    })

    it('aborts when its stack is overwritten', () => {
      const room = mkdtempSync(join(tmpdir(), 'overwritten-'))
      try {
        const [script, program] = [join(room, 'script.js'), join(room, 'program')]
        writeFileSync(script, 'host.calls.processId(); host.calls.exit(0)')
        const link = [join(root, 'tests/support/overwritten-stack.c'), '-Wl,--wrap=getpid']
        const words = [`--script=${script}`, `--into=${program}`, ...link.map((word) => `--link=${word}`)]
        execFileSync(process.execPath, ['--import', 'tsx', join(root, 'lib/build/main.ts'), ...words], {
          cwd: root,
          stdio: 'pipe',
        })
        // The message of musl or of glibc.
        assert.match(spawnSync(program, []).signal ?? 'none', /^SIG(?:SEGV|ABRT)$/)
      } finally {
        removeSync(room)
      }
    })

    it('has no part of glibc, if musl is available', () => {
      const { name } = toolchain({
        architecture: process.env['EXECUTABLE_FOR'],
        sanitized: false,
        cache: join(root, '.cache/engine'),
        progress: () => undefined,
      }).library
      if (name === 'musl') assert.ok(!bytes.includes('GLIBC_TUNABLES'))
    })

    it('is stripped, and does not contain the path of its build directory', () => {
      assert.ok(!elf.sections.includes(2), 'SHT_SYMTAB')
      assert.ok(!bytes.includes(root))
    })

    it('has at most 2 MB', () => {
      assert.ok(bytes.length <= 2 << 20, `${bytes.length} bytes`)
    })

    it('reads no files except those of the upcall', async () => {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      const { status, calls } = await traced(s, ['check', '616462'])
      assert.equal(status, mayNotReclaim)
      const first = calls.findIndex(({ text }) => /^(?:alarm|setitimer)\(/.test(text))
      // A directory in place of the standard descriptors.
      assert.deepEqual(
        calls
          .slice(0, first)
          .map(({ text }) => /open(?:at)?\(.*?"([^"]*)"/.exec(text)?.[1])
          .filter((path) => path !== undefined),
        ['/'],
      )
    })
  })

for (const {
  name,
  command: [program = ''],
} of artefacts().filter((artefact) => artefact.name === 'executable'))
  describe(`the ${name} alone`, () => {
    const image = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-image-'))
    after(() => {
      removeSync(image)
    })
    const at = (path: string): string => join(image, path)
    mkdirpSync(at('usr/sbin'))
    copyFileSync(program, at('usr/sbin/nfsd-userland-helper'))
    /** In a system with no other file. */
    const alone = (...words: readonly string[]): { status: number | null; stdout: string; stderr: string } =>
      spawnSync('chroot', [image, '/usr/sbin/nfsd-userland-helper', ...words], { encoding: 'utf8' })

    it('carries out upcalls in a system without other files, also without /proc, /dev and /etc', () => {
      mkdirpSync(at('state'))
      for (const [words, status] of [
        [['init'], done],
        [['create', '616461'], done],
        [['grace_done'], done],
        [['init'], done],
        [['check', '616461'], done],
        [['check', '65766c'], mayNotReclaim],
      ] as const)
        assert.equal(alone('-f', '-s', '/state', ...words).status, status, words.join(' '))
    })

    it('prints its version, and that of its engine', () => {
      for (const word of ['--version', '-V']) {
        const { status, stdout } = alone(word)
        assert.equal(status, done)
        assert.match(stdout, new RegExp(`^${packageJson.version.replaceAll('.', '\\.')} \\(QuickJS-ng [0-9.]+\\)\n$`))
      }
    })

    it('says what is missing for a command, and fails as for an unknown word', () => {
      const scripts = alone('-f', 'status')
      assert.equal(scripts.status, unknownVerb)
      assert.match(scripts.stderr, /^nfsd-userland-helper: error: not an upcall: 'status'; .*people\.cjs.*\n$/)
      mkdirpSync(at('usr/lib/nfsd-userland-helper'))
      writeFileSync(at('usr/lib/nfsd-userland-helper/people.cjs'), '')
      const node = alone('-f', 'status')
      assert.equal(node.status, unknownVerb)
      assert.match(node.stderr, /^nfsd-userland-helper: error: not an upcall: 'status'; .*Node.*install.*\n$/)
      removeSync(at('usr/lib'))
    })

    it('refuses a bad option itself, if there is no Node to do that', () => {
      const { status, stderr } = alone('-f', '--no-such-option', 'check', '616461')
      assert.equal(status, badArgument)
      assert.match(stderr, /unknown option/)
    })

    it('passes commands on to the Node on PATH, with unchanged words and its own path as program name', () => {
      const directory = at('with-node')
      mkdirpSync(directory)
      copyFileSync(program, join(directory, 'nfsd-userland-helper'))
      writeFileSync(join(directory, 'people.cjs'), '')
      writeFileSync(join(directory, 'node'), '#!/bin/sh\nprintf "%s|" "$@"\nexit 7\n')
      chmodSync(join(directory, 'node'), 0o755)
      const { status, stdout } = spawnSync(
        '/bin/bash',
        ['-c', `PATH=relative::${directory}; exec ${directory}/nfsd-userland-helper show $'\\xff\\x01' '' 'a b'`],
        { encoding: 'latin1' },
      )
      assert.deepEqual([status, stdout], [7, `${directory}/people.cjs|show|\xff\x01||a b|`])
    })
  })
