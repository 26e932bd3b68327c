// What a guest boots: Debian's own kernel, which is unpacked and not installed, and a first root, which hands over to
// this machine's root. Both are kept in .cache/ between runs. What is there is not fetched again.
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { archiveOf } from '../../lib/build/debian-archive.ts'

/** The suites of Debian that have these kernels: those of 12 and 13, and unstable. */
const suites = { '6.1': 'bookworm', '6.12': 'trixie', '7.2': 'sid' } as const
export type Kernel = keyof typeof suites
export const kernels = Object.keys(suites) as Kernel[]

export interface Image {
  readonly release: string
  readonly kernel: string
  readonly initramfs: string
  /** The directory that contains `<release>/`, for modprobe in the guest. */
  readonly modules: string
}

const here = dirname(fileURLToPath(import.meta.url))
export const repository = dirname(dirname(here))
export const cache = join(repository, '.cache', 'kernel')

/** The commands that run on this machine or in the guest, which shares its root, and the packages that have them. */
const needed: readonly (readonly [command: string, from: string])[] = [
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['rpc.nfsd', 'nfs-kernel-server'],
  ['mount.nfs', 'nfs-common'],
  ['busybox', 'busybox-static'],
  ['cpio', 'cpio'],
  ['modprobe', 'kmod'],
  ['udevadm', 'udev'],
  ['ip', 'iproute2'],
  ['mkfs.ext4', 'e2fsprogs'],
  ['mkfs.xfs', 'xfsprogs'],
  ['dmsetup', 'dmsetup'],
  ['sqlite3', 'sqlite3'],
  ['xz', 'xz-utils'],
]

/** The modules that the first root loads. The others are loaded by modprobe when this machine's root is mounted. */
const earlyModules = ['virtio_pci', 'virtio_blk', 'virtio_console', '9pnet_virtio', '9p', 'overlay']

/** The parts of the kernel's packages that a guest may need: a third of them. */
const unpacked = [
  'vmlinuz*',
  'modules.builtin*',
  'modules.order',
  ...[
    'arch',
    'crypto',
    'fs',
    'lib',
    'net',
    'drivers/block',
    'drivers/char',
    'drivers/md',
    'drivers/virtio',
    'drivers/net/veth.ko',
    'drivers/net/virtio_net.ko',
    'drivers/net/net_failover.ko',
  ].map((part) => `modules/*/kernel/${part}*`),
].map((pattern) => `*/${pattern}`)

const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`
const env = { ...process.env, PATH: path, DEBIAN_FRONTEND: 'noninteractive' }
const output = (command: string, ...words: string[]) => execFileSync(command, words, { env, encoding: 'utf8' })
const whereIs = (command: string) => output('sh', '-c', `command -v ${command}`).trim()

/** At the first use, this fetches and unpacks it. @param kernel by default the oldest, which calls helpers. */
export function image(kernel: Kernel = '6.1'): Image {
  installMissing()
  const directory = join(cache, kernel)
  mkdirSync(directory, { recursive: true })
  const release = unpackedKernel(kernel, directory)
  const modules = join(directory, release, 'lib', 'modules')
  return {
    release,
    modules,
    kernel: join(directory, release, 'kernel'),
    initramfs: initramfs(join(directory, release), release, modules),
  }
}

function installMissing(): void {
  const onPath = (command: string) => path.split(':').some((directory) => existsSync(join(directory, command)))
  // The first root has no libraries. So busybox must be a static program.
  const isUsable = (command: string) =>
    onPath(command) && (command !== 'busybox' || spawnSync('ldd', [whereIs('busybox')]).status !== 0)
  const packages = [...new Set(needed.filter(([command]) => !isUsable(command)).map(([, from]) => from))]
  if (packages.length === 0) return
  const install = `apt-get install --yes --no-install-recommends ${packages.join(' ')}`
  if (process.getuid?.() !== 0) throw new Error(`the kernel laboratory needs, as root: ${install}`)
  process.stderr.write(`kernel laboratory: ${install}\n`)
  try {
    output('sh', '-c', install)
  } catch {
    output('sh', '-c', `apt-get update && ${install}`)
  }
}

/** A kernel that is in the cache with all wanted parts, or otherwise the suite's newest. */
function unpackedKernel(kernel: Kernel, directory: string): string {
  const has = (name: string) =>
    existsSync(join(directory, name, 'parts')) &&
    readFileSync(join(directory, name, 'parts'), 'utf8') === unpacked.join('\n')
  const newest = readdirSync(directory).filter(has).sort().at(-1)
  if (newest !== undefined) return newest
  process.stderr.write(`kernel laboratory: fetching Debian's kernel ${kernel}\n`)
  const work = mkdtempSync(join(directory, 'unpacking-'))
  const { depends, download } = archiveOf(suites[kernel], join(work, 'apt'))
  const meta = depends('linux-image-amd64').find((name) => /^linux-image-.*-amd64$/.test(name))
  if (meta === undefined) throw new Error(`Debian's ${suites[kernel]} has no linux-image-amd64`)
  const release = meta.replace('linux-image-', '')
  if (!release.startsWith(`${kernel}.`))
    process.stderr.write(`kernel laboratory: instead of ${kernel}, ${suites[kernel]} has ${release} by now\n`)
  // Newer kernels are in three packages.
  const parts = depends(meta).filter((name) =>
    ['base', 'binary', 'modules'].some((part) => name === `linux-${part}-${release}`),
  )
  const wanted = unpacked.map((pattern) => `'${pattern}'`).join(' ')
  // No package contains all of the wanted parts. For tar a missing one is a failure.
  for (const file of download(parts.length > 0 ? parts : [meta]))
    output(
      'sh',
      '-c',
      `cd '${work}' && dpkg-deb --fsys-tarfile '${file}' | { tar -x --transform='s,^[.]/usr/,./,' --wildcards ${wanted} 2> tar.log || true; }`,
    )
  const at = (name: string) => join(work, name)
  const boot = [`boot/vmlinuz-${release}`, `lib/modules/${release}/vmlinuz`].map(at).find(existsSync)
  if (boot === undefined || !existsSync(at(`lib/modules/${release}/modules.builtin`)))
    throw new Error(`not all of the kernel is in Debian's packages ${[meta, ...parts].join(' ')}`)
  // In the emulated machine, unpacking a module takes longer than reading it unpacked.
  output('sh', '-c', `find '${work}/lib' -name '*.ko.xz' -exec xz -d {} +`)
  output('depmod', '-b', work, release)
  writeFileSync(at('kernel'), uncompressed(boot))
  rmSync(boot)
  for (const done of ['apt', 'boot', 'tar.log']) rmSync(at(done), { recursive: true, force: true })
  writeFileSync(at('parts'), unpacked.join('\n'))
  rmSync(join(directory, release), { recursive: true, force: true })
  renameSync(work, join(directory, release))
  return release
}

/**
 * The ELF file inside a compressed kernel. QEMU can boot that too, which saves the emulated kernel's unpacking, seconds
 * of every boot. A shell reads the file, because the program that unpacks may stop at once, if the magic number means
 * nothing there. If Node wrote to it, that would then fail with EPIPE.
 */
function uncompressed(bzImage: string): Buffer {
  const whole = readFileSync(bzImage)
  for (const [magic, unpack] of [
    ['fd377a585a00', 'xz -dc --single-stream'],
    ['28b52ffd', 'zstd -dc'],
  ] as const) {
    const at = whole.indexOf(Buffer.from(magic, 'hex'))
    if (at < 0) continue
    const script = `tail -c +${at + 1} '${bzImage}' | ${unpack} 2> /dev/null || true`
    const elf = execFileSync('sh', ['-c', script], { env, maxBuffer: 1 << 28 })
    if (elf.subarray(0, 4).toString('latin1') === '\x7fELF') return elf
  }
  return whole
}

function initramfs(directory: string, release: string, modules: string): string {
  const scripts = ['handover.sh', 'agent.pl'].map((name) => join(here, 'guest', name))
  const inOrder = [
    ...new Set(
      earlyModules.flatMap((module) =>
        output('modprobe', '--dirname', dirname(dirname(modules)), '--set-version', release, '--show-depends', module)
          .split('\n')
          .flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []),
      ),
    ),
  ]
  const digest = createHash('sha256').update(inOrder.join()).update(output('busybox'))
  for (const script of scripts) digest.update(readFileSync(script))
  const built = join(directory, `initramfs-${digest.digest('hex').slice(0, 16)}`)
  if (existsSync(built)) return built

  const tree = mkdtempSync(join(tmpdir(), 'initramfs-'))
  for (const directory of ['bin', 'modules']) mkdirSync(join(tree, directory))
  copyFileSync(whereIs('busybox'), join(tree, 'bin', 'busybox'))
  for (const module of inOrder) copyFileSync(module, join(tree, 'modules', basename(module)))
  writeFileSync(join(tree, 'modules', 'order'), inOrder.map((module) => `${basename(module)}\n`).join(''))
  const [handover, agent] = scripts as [string, string]
  writeFileSync(join(tree, 'init'), readFileSync(handover), { mode: 0o755 })
  writeFileSync(join(tree, 'agent.pl'), readFileSync(agent), { mode: 0o755 })
  output('sh', '-c', `cd '${tree}' && find . | cpio --quiet -o -H newc > '${built}.new'`)
  rmSync(tree, { recursive: true })
  renameSync(`${built}.new`, built)
  return built
}
