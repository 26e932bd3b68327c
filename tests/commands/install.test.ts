/**
 * `install` and `uninstall`: which files they install, what they never overwrite, and that the kernel can run the
 * program.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { ensureDirSync } from 'fs-extra/esm'
import { badArgument, done, eachArtefact, storageFailed } from '../contract/server.ts'
import { bundle, executable, root as repository, type Artefact } from '../support/artefacts.ts'
import { onScratchMachine } from './scratch-machine.ts'
import { filesIn, say, scratchRoot } from './scratch.ts'

interface Report {
  readonly root: string
  readonly dryRun: boolean
  readonly packaged: boolean
  readonly files: readonly { readonly path: string; readonly outcome: string }[]
  readonly actions: readonly { readonly what: string; readonly outcome: string }[]
}

const modprobe = '/etc/modprobe.d/nfsd-userland-helper.conf'
const rule = '/etc/udev/rules.d/60-nfsd-userland-helper.rules'
const dropIn = '/etc/systemd/system/nfs-server.service.d/nfsd-userland-helper.conf'
const tmpfiles = '/etc/tmpfiles.d/nfsd-userland-helper.conf'
const service = '/etc/systemd/system/nfsd-userland-helper.service'
const started = '/etc/systemd/system/nfs-server.service.wants/nfsd-userland-helper.service'
const nfsdcld = '/etc/systemd/system/nfsdcld.service'
const initScript = '/etc/init.d/nfsd-userland-helper'
const records = '/var/lib/nfs/v4clients'
const helper = '/usr/sbin/nfsd-userland-helper'
const scripts = ['people', 'sqlite', 'nfsd-userland-helper'].map((name) => `/usr/lib/nfsd-userland-helper/${name}.cjs`)
const script = scripts.at(-1) ?? ''
/** The script to which the executable passes a person's words. */
const commands = scripts.slice(0, -1)
const documentation = [
  '/usr/share/man/man8/nfsd-userland-helper.8',
  '/usr/share/man/man5/nfsd-userland-helper.5',
  '/usr/share/bash-completion/completions/nfsd-userland-helper',
  '/usr/share/zsh/site-functions/_nfsd-userland-helper',
]

const repositoryText = (path: string): string => readFileSync(join(repository, path), 'utf8')

/** Outcomes by path. */
async function told(artefact: Artefact, ...words: readonly string[]): Promise<Record<string, string>> {
  const { status, stdout, stderr } = await say(artefact, ...words, '--json')
  assert.equal(status, done, stderr)
  return Object.fromEntries((JSON.parse(stdout) as Report).files.map(({ path, outcome }) => [path, outcome]))
}

eachArtefact('install', (artefact) => {
  const program = artefact === bundle ? [...scripts, helper] : [...commands, helper]
  /** The Node bundle can't serve the pipe. */
  const units = artefact === bundle ? [nfsdcld] : [service, started, nfsdcld]

  it('installs everything, and names each file with what it did', async () => {
    const root = scratchRoot('systemd')
    const { status, stdout } = await say(artefact, 'install', '--root', root)
    assert.equal(status, done)
    const expected = [records, ...program, modprobe, rule, tmpfiles, dropIn, ...units, ...documentation]
    assert.deepEqual(
      stdout.split('\n').slice(0, -3),
      expected.map((path) => `installed  ${root}${path}`),
    )
    assert.match(stdout, /doctor was not run: .* is another system/)
    for (const path of expected.filter((path) => path !== started && path !== nfsdcld))
      assert.equal(
        statSync(join(root, path)).mode & 0o7777,
        path === records ? 0o700 : path === helper || path === script ? 0o755 : 0o644,
        path,
      )
    assert.equal(readFileSync(join(root, rule), 'utf8'), repositoryText('udev/rules.d/60-nfsd-userland-helper.rules'))
    assert.equal(
      readFileSync(join(root, modprobe), 'utf8'),
      repositoryText('udev/modprobe.d/nfsd-userland-helper.conf'),
    )
    if (artefact === executable)
      assert.ok(readFileSync(join(root, helper)).equals(readFileSync(artefact.command[0] ?? '')))
  })

  it('is a program that the kernel can run: with no environment, no descriptor, no PATH', async () => {
    const { status, output } = await onScratchMachine(`
      rm -rf /var/lib/nfs /etc/nfs.conf /etc/nfs.conf.d
      umask 077
      '${artefact.command.join("' '")}' install
      exec 0<&- 3>&1 1>&- 2>&-
      cd /
      for words in init 'create 616461' 'gracedone 0'; do
        setpriv --reset-env env -i ${helper} $words || { echo "status $?: $words" >&3; exit 1; }
      done
      exec 1>&3
      ls /var/lib/nfs/v4clients/*
      stat -c '%a %n' /usr/lib /usr/share/man/man5 /etc/udev/rules.d /var/lib/nfsd-userland-helper /var/lib/nfs
      stat -c 'records %a %u' /var/lib/nfs/v4clients`)
    assert.equal(status, done, output)
    assert.match(output, /^installed +\/usr\/sbin\/nfsd-userland-helper$/m)
    assert.match(output, /^What doctor finds now:$[^]*(?:wrong|could not be checked)\.$/m)
    assert.match(output, /^ada(?: |$)/m)
    assert.doesNotMatch(output, /^700 /m, 'directories are for all to read, whatever the umask')
    assert.match(output, /^records 700 0$/m, 'but the records are for root alone')
  })

  it('may be repeated, and then changes nothing', async () => {
    const root = scratchRoot('systemd')
    await say(artefact, 'install', '--root', root)
    const before = filesIn(root)
    assert.deepEqual(new Set(Object.values(await told(artefact, 'install', '--root', root))), new Set(['unchanged']))
    assert.deepEqual(filesIn(root), before)
  })

  it('says with --dry-run what it would do, and does nothing', async () => {
    const root = scratchRoot('systemd')
    const before = filesIn(root)
    const { stdout } = await say(artefact, 'install', '--root', root, '--dry-run')
    assert.match(stdout, /^Dry run: nothing was changed\./m)
    assert.match(stdout, /^installed .*cltrack|^installed +.*60-nfsd-userland-helper\.rules$/m)
    assert.deepEqual(filesIn(root), before)
    await say(artefact, 'install', '--root', root)
    const installed = filesIn(root)
    await say(artefact, 'uninstall', '--root', root, '--dry-run')
    assert.deepEqual(filesIn(root), installed)
  })

  it('gives a system without systemd an init script instead', async () => {
    for (const [system, text, settings] of [
      ['openrc', 'udev/init.d/openrc-init.sh', '/etc/conf.d/nfsd-userland-helper'],
      ['sysvinit', 'udev/init.d/lsb-init.sh', '/etc/default/nfsd-userland-helper'],
    ] as const) {
      const root = scratchRoot(system)
      const files = await told(artefact, 'install', '--root', root)
      assert.deepEqual(
        Object.keys(files),
        [records, ...program, modprobe, rule, initScript, settings, ...documentation],
        system,
      )
      assert.equal(readFileSync(join(root, initScript), 'utf8'), repositoryText(text))
      assert.equal(statSync(join(root, initScript)).mode & 0o777, 0o755)
    }
  })

  it('writes the program under another name, syncs it, and renames it: a process that runs the old one keeps it', () => {
    const root = scratchRoot('systemd')
    ensureDirSync(join(root, 'usr/sbin'))
    copyFileSync('/bin/sleep', join(root, helper))
    const old = openSync(join(root, helper), 'r')
    const running = spawnSync('/bin/sh', ['-c', `"$1" 60 > /dev/null & echo $!`, 'sh', join(root, helper)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    try {
      const trace = join(root, 'trace')
      const [command = '', ...words] = artefact.command
      const { status, stderr } = spawnSync(
        'strace',
        [
          '-f',
          '-y',
          '-o',
          trace,
          '-e',
          'trace=fsync,rename,renameat,renameat2,openat,ftruncate',
          command,
          ...words,
          'install',
          '--root',
          root,
        ],
        { encoding: 'utf8' },
      )
      assert.equal(status, done, stderr)
      const last = artefact === bundle ? script : helper
      const calls = readFileSync(trace, 'utf8')
        .split('\n')
        .filter((line) => line.includes(basename(last)))
      assert.deepEqual(
        calls.filter((call) => new RegExp(`openat\\(.*/${basename(last)}".*O_(?:WRONLY|RDWR|TRUNC)`).test(call)),
        [],
        'never opened in place',
      )
      const synced = calls.findIndex((call) =>
        new RegExp(`fsync\\(\\d+<${dirname(join(root, last))}/\\.${basename(last)}\\.\\d+\\.tmp>\\) += 0`).test(call),
      )
      const renamed = calls.findIndex((call) =>
        new RegExp(`rename.*/\\.${basename(last)}\\.\\d+\\.tmp", .*/${basename(last)}"`).test(call),
      )
      assert.ok(synced >= 0 && renamed > synced, `synced ${synced}, renamed ${renamed}`)
      if (artefact === executable) assert.notEqual(fstatSync(old).ino, statSync(join(root, helper)).ino)
      assert.equal(fstatSync(old).size, statSync('/bin/sleep').size)
    } finally {
      closeSync(old)
      process.kill(Number(running.stdout))
    }
  })

  it('may be killed at any call: a repeat completes it, and leaves nothing half-written', async () => {
    const whole = scratchRoot('systemd')
    await say(artefact, 'install', '--root', whole)
    const sizes = (root: string): string[] => filesIn(root).map((line) => line.replace(/ \d+ (\d+) [\d.]+$/, ' $1'))
    for (const [call, when] of [
      ['fsync', 1],
      ['rename', 1],
      ['fsync', 8],
      ['rename', 5],
      ['rename', 9],
    ] as const) {
      const root = scratchRoot('systemd')
      const [command = '', ...words] = artefact.command
      const killed = spawnSync('strace', [
        '-f',
        '-o',
        '/dev/null',
        '-e',
        `trace=${call}`,
        '-e',
        `inject=${call}:signal=KILL:when=${when}`,
        command,
        ...words,
        'install',
        '--root',
        root,
      ])
      assert.equal(killed.signal, 'SIGKILL', `${call} ${when}`)
      assert.ok(
        !existsSync(join(root, helper)) || statSync(join(root, helper)).size === statSync(join(whole, helper)).size,
        'a program is there whole or not at all',
      )
      await say(artefact, 'install', '--root', root)
      const files = (found: string[]): string[] => found.filter((line) => / 10/.test(line) || / 12/.test(line))
      assert.deepEqual(files(sizes(root)), files(sizes(whole)), `${call} ${when}`)
    }
  })

  describe('with a configuration file that an admin has changed', () => {
    const changed = '# mine\n'

    it('keeps it, and does not mention a new one if ours is unchanged', async () => {
      const root = scratchRoot('systemd')
      await say(artefact, 'install', '--root', root)
      appendFileSync(join(root, modprobe), changed)
      assert.equal((await told(artefact, 'install', '--root', root))[modprobe], 'kept')
      assert.ok(readFileSync(join(root, modprobe), 'utf8').endsWith(changed))
      assert.equal(existsSync(join(root, `${modprobe}.new`)), false)
    })

    it('keeps it, and puts ours beside it as .new if ours has changed too', async () => {
      const root = scratchRoot('systemd')
      await say(artefact, 'install', '--root', root)
      appendFileSync(join(root, dropIn), changed)
      const files = await told(artefact, '-s', '/srv/state', 'install', '--root', root)
      assert.equal(files[dropIn], 'kept, see .new')
      assert.equal(files[tmpfiles], 'updated', 'one that was not changed follows')
      assert.match(readFileSync(join(root, dropIn), 'utf8'), /^RequiresMountsFor=\/var\/lib\/nfs$[^]*# mine\n$/m)
      assert.match(readFileSync(join(root, `${dropIn}.new`), 'utf8'), /^RequiresMountsFor=\/srv\/state$/m)
    })

    it('keeps one that was there before the first install', async () => {
      const root = scratchRoot('systemd')
      ensureDirSync(join(root, 'etc/modprobe.d'))
      writeFileSync(join(root, modprobe), changed)
      assert.equal((await told(artefact, 'install', '--root', root))[modprobe], 'kept, see .new')
      assert.equal(readFileSync(join(root, modprobe), 'utf8'), changed)
    })

    it('does not bring back one that was removed', async () => {
      const root = scratchRoot('systemd')
      await say(artefact, 'install', '--root', root)
      rmSync(join(root, rule))
      for (let again = 0; again < 2; again++)
        assert.equal((await told(artefact, 'install', '--root', root))[rule], 'left out: you removed it')
      assert.equal(existsSync(join(root, rule)), false)
    })

    it('overwrites and removes no .new that is not ours', async () => {
      const root = scratchRoot('systemd')
      await say(artefact, 'install', '--root', root)
      appendFileSync(join(root, dropIn), changed)
      await say(artefact, '-s', '/srv/state', 'install', '--root', root)
      assert.equal((await told(artefact, '-s', '/srv/other', 'install', '--root', root))[dropIn], 'kept, see .new')
      assert.match(
        readFileSync(join(root, `${dropIn}.new`), 'utf8'),
        /^RequiresMountsFor=\/srv\/other$/m,
        'ours follows ours',
      )
      appendFileSync(join(root, `${dropIn}.new`), changed)
      const mine = readFileSync(join(root, `${dropIn}.new`), 'utf8')
      assert.equal((await told(artefact, '-s', '/srv/third', 'install', '--root', root))[dropIn], 'kept, and your .new')
      await say(artefact, 'uninstall', '--root', root)
      assert.equal(readFileSync(join(root, `${dropIn}.new`), 'utf8'), mine)
      assert.ok(existsSync(join(root, dropIn)))
    })

    it('removes the .new that is ours', async () => {
      const root = scratchRoot('systemd')
      await say(artefact, 'install', '--root', root)
      appendFileSync(join(root, dropIn), changed)
      await say(artefact, '-s', '/srv/state', 'install', '--root', root)
      assert.ok(existsSync(join(root, `${dropIn}.new`)))
      await say(artefact, 'uninstall', '--root', root)
      assert.equal(existsSync(join(root, `${dropIn}.new`)), false)
    })

    it('replaces files that are not configuration, so no old program stays', async () => {
      const root = scratchRoot('systemd')
      await say(artefact, 'install', '--root', root)
      const page = documentation[0] ?? ''
      appendFileSync(join(root, page), changed)
      const last = program.at(-1) ?? ''
      rmSync(join(root, last))
      symlinkSync('/nonexistent', join(root, last))
      const files = await told(artefact, 'install', '--root', root)
      assert.deepEqual([files[page], files[last]], ['updated', 'updated'])
      assert.ok(!readFileSync(join(root, page), 'utf8').endsWith(changed))
    })
  })

  it('removes everything again, except files that an admin has changed, and the records', async () => {
    const root = scratchRoot('systemd')
    ensureDirSync(join(root, 'etc/systemd/system/nfs-server.service.d'))
    writeFileSync(join(root, 'etc/systemd/system/nfs-server.service.d/mine.conf'), '')
    ensureDirSync(join(root, 'var/lib/nfs/v4clients'))
    await say(artefact, 'install', '--root', root)
    appendFileSync(join(root, modprobe), '# mine\n')
    const { status, stdout } = await say(artefact, 'uninstall', '--root', root)
    assert.equal(status, done)
    assert.match(stdout, new RegExp(`^kept +${root}${modprobe}$`, 'm'))
    const left = filesIn(root).map((line) => line.split(' ')[0] ?? '')
    assert.deepEqual(
      left.filter((path) => path.includes('nfsd-userland-helper')),
      [modprobe],
    )
    assert.ok(left.includes('/etc/systemd/system/nfs-server.service.d/mine.conf'))
    assert.ok(left.includes('/var/lib/nfs/v4clients'))
    assert.equal(
      (await say(artefact, 'uninstall', '--root', root)).status,
      badArgument,
      'nothing is installed any more',
    )
  })

  describe("with a root that is somebody else's", () => {
    /** A directory of the machine itself, with files that must not change. */
    function machine(): { readonly directory: string; readonly files: string[] } {
      const directory = scratchRoot('systemd')
      for (const room of ['etc/modprobe.d', 'sbin', 'lib', 'share']) ensureDirSync(join(directory, room))
      writeFileSync(join(directory, 'etc/passwd'), 'root\n')
      return { directory, files: filesIn(directory) }
    }

    it('follows links as the system in that root would: none leads out of it', async () => {
      const { directory, files } = machine()
      const root = scratchRoot('systemd')
      mkdirSync(join(root, 'var'))
      symlinkSync(`${directory}/etc`, join(root, 'etc'))
      symlinkSync(`${'../'.repeat(20)}${directory}/sbin`, join(root, 'usr/sbin'))
      symlinkSync(`${directory}/lib`, join(root, 'var/lib'))
      symlinkSync(`/usr/../..${directory}/share`, join(root, 'usr/share'))
      const expected = [records, ...program, modprobe, rule, tmpfiles, dropIn, ...units, ...documentation]
      const outcomes = await told(artefact, 'install', '--root', root)
      assert.deepEqual(outcomes, Object.fromEntries(expected.map((path) => [path, 'installed'])))
      assert.deepEqual(filesIn(directory), files)
      assert.ok(existsSync(join(root, directory, 'etc/modprobe.d/nfsd-userland-helper.conf')))
      assert.ok(lstatSync(join(root, directory, 'sbin/nfsd-userland-helper')))
      assert.ok(existsSync(join(root, directory, 'lib/nfs/v4clients')))
      assert.deepEqual(new Set(Object.values(await told(artefact, 'install', '--root', root))), new Set(['unchanged']))
      assert.deepEqual(new Set(Object.values(await told(artefact, 'uninstall', '--root', root))), new Set(['removed']))
      assert.deepEqual(filesIn(directory), files)
      assert.deepEqual(
        filesIn(join(root, directory)).filter((line) => / 10\d{4} /.test(line)),
        [],
        'no file is left',
      )
    })

    it('sees in that root what starts its services, and does not follow a link to this machine', async () => {
      const root = scratchRoot('sysvinit')
      const { directory } = machine()
      symlinkSync(`${directory}/usr`, join(root, 'usr'))
      assert.ok(initScript in (await told(artefact, 'install', '--root', root)))
    })

    it('refuses a link that leads to itself, and says which', async () => {
      const root = scratchRoot('systemd')
      symlinkSync('etc', join(root, 'etc'))
      const { status, stderr } = await say(artefact, 'install', '--root', root)
      assert.deepEqual(
        [status, stderr],
        [storageFailed, `nfsd-userland-helper: error: open '${root}/etc' failed: ELOOP\n`],
      )
    })

    it('does not make a missing root', async () => {
      const root = scratchRoot('systemd')
      const { status, stderr } = await say(artefact, 'install', '--root', join(root, 'typo'))
      assert.equal(status, badArgument)
      assert.match(stderr, /no such directory to be the root of a system: '.*\/typo'/)
      assert.equal(existsSync(join(root, 'typo')), false)
    })

    it('removes no file that is not one of ours by name, whatever the list of installed files says', async () => {
      const { directory, files } = machine()
      const root = scratchRoot('systemd')
      await say(artefact, 'install', '--root', root)
      ensureDirSync(join(root, directory, 'etc'))
      for (const path of ['etc/passwd', `${directory}/etc/passwd`]) writeFileSync(join(root, path), 'root\n')
      const digest = createHash('sha256').update('root\n').digest('hex')
      const foreign = [
        '/etc/passwd',
        `${'/..'.repeat(20)}${directory}/etc/passwd`,
        `/usr/lib/nfsd-userland-helper/../../..${directory}/etc/passwd`,
        `${directory}/etc/passwd`,
        '/usr/lib/nfsd-userland-helper/..',
        '/etc/\x1b[2Jpasswd',
      ]
      const list = join(root, 'var/lib/nfsd-userland-helper/installed')
      const lines = foreign.map((path) => `${digest}  ${path}\n`).join('')
      for (const command of ['uninstall', 'install']) {
        await say(artefact, 'install', '--root', root)
        appendFileSync(list, lines)
        const { status, stdout } = await say(artefact, command, '--root', root)
        assert.equal(status, done)
        assert.deepEqual(
          [...stdout.matchAll(/^left alone: not ours +(.*)$/gm)].map(([, path]) => path),
          foreign.map((path) => path.replace('\x1b', String.raw`\033`)),
        )
        assert.deepEqual(filesIn(directory), files)
        for (const path of ['etc/passwd', `${directory}/etc/passwd`]) assert.ok(existsSync(join(root, path)), path)
        assert.ok(!existsSync(list) || !readFileSync(list, 'utf8').includes('passwd'), 'it is not in the list any more')
      }
    })

    it('removes a file of ours by name only if its digest is that of what was installed', async () => {
      const root = scratchRoot('systemd')
      await say(artefact, 'install', '--root', root)
      writeFileSync(join(root, rule), '# mine\n')
      rmSync(join(root, modprobe))
      symlinkSync('/etc/passwd', join(root, modprobe))
      const outcomes = await told(artefact, 'uninstall', '--root', root)
      assert.deepEqual([outcomes[rule], outcomes[modprobe]], ['kept', 'kept'])
      assert.ok(existsSync(join(root, rule)))
      assert.equal(readlinkSync(join(root, modprobe)), '/etc/passwd')
    })

    it('changes files through the descriptor of an open directory, so no link can be put in the way meanwhile', () => {
      const root = scratchRoot('systemd')
      const trace = join(root, 'trace')
      const [command = '', ...words] = artefact.command
      for (const order of ['install', 'uninstall']) {
        const { status, stderr } = spawnSync(
          'strace',
          [
            '-f',
            '-o',
            trace,
            '-e',
            'trace=openat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,chmod,fchmodat',
            command,
            ...words,
            order,
            '--root',
            root,
          ],
          { encoding: 'utf8' },
        )
        assert.equal(status, done, stderr)
        const calls = readFileSync(trace, 'utf8')
          .split('\n')
          .filter((line) => !line.includes('openat') || /O_CREAT|O_WRONLY|O_RDWR/.test(line))
        assert.ok(calls.some((call) => call.includes('/proc/self/fd/')))
        assert.deepEqual(
          calls.filter((call) => call.includes(`"${root}`)),
          [],
        )
        const opened = readFileSync(trace, 'utf8')
          .split('\n')
          .filter((line) => /openat\(.*"\/proc\/self\/fd\/\d+\/[^.]/.test(line) && !line.includes('O_EXCL'))
        assert.ok(opened.length > 0)
        assert.deepEqual(
          opened.filter((line) => !line.includes('O_NOFOLLOW')),
          [],
        )
      }
    })
  })

  it('leaves files of a package to the package manager, except for a state directory of this machine', async () => {
    const root = scratchRoot('systemd')
    ensureDirSync(join(root, 'var/lib/dpkg/info'))
    writeFileSync(
      join(root, 'var/lib/dpkg/status'),
      'Package: nfsd-userland-helper\nStatus: install ok installed\nVersion: 0.1.0\nArchitecture: all\nMaintainer: x <x@y>\nDescription: x\n',
    )
    const switched = Object.fromEntries(units.filter((path) => path !== service).map((path) => [path, 'installed']))
    assert.deepEqual(await told(artefact, 'install', '--root', root), switched)
    await say(artefact, 'uninstall', '--root', root)
    assert.equal((await say(artefact, 'uninstall', '--root', root)).status, badArgument)
    assert.deepEqual(await told(artefact, '-s', '/srv/state', 'install', '--root', root), {
      '/srv/state/v4clients': 'installed',
      [tmpfiles]: 'installed',
      [dropIn]: 'installed',
      ...Object.fromEntries(units.map((path) => [path, 'installed'])),
    })
    assert.deepEqual(await told(artefact, 'install', '--root', root), {
      [tmpfiles]: 'updated',
      [dropIn]: 'updated',
      ...Object.fromEntries(units.map((path) => [path, path === service ? 'updated' : 'unchanged'])),
    })
    await say(artefact, 'uninstall', '--root', root)
    assert.equal(existsSync(join(root, dropIn)), false)
  })

  it('refuses unknown words', async () => {
    for (const words of [
      ['install', '--frob'],
      ['install', 'surplus'],
      ['uninstall', '--frob'],
      ['completion'],
      ['completion', 'fish'],
    ])
      assert.equal((await say(artefact, ...words)).status, badArgument, words.join(' '))
  })
})

describe('what is installed', () => {
  const artefact = existsSync(executable.command[0] ?? '') ? executable : bundle

  it('is replaced on a change from Node to the executable: nothing of the former stays', async () => {
    const root = scratchRoot('systemd')
    await say(bundle, 'install', '--root', root)
    const files = await told(artefact, 'install', '--root', root)
    if (artefact === executable)
      assert.deepEqual(
        scripts.map((path) => files[path]),
        [...commands.map(() => 'unchanged'), 'removed'],
      )
    assert.equal(existsSync(join(root, script)), artefact === bundle)
  })

  it('has a unit that systemd understands, with any state directory', async () => {
    for (const [stateDirectory, shown] of [
      ['/var/lib/nfs', '/var/lib/nfs'],
      ['/srv/a state "50%"', '/srv/a state "50%"'],
      ['/srv/ü', '/srv/ü'],
    ] as const) {
      const root = scratchRoot('systemd')
      await say(artefact, '-s', stateDirectory, 'install', '--root', root)
      const units = join(root, 'etc/systemd/system')
      copyFileSync('/lib/systemd/system/nfs-server.service', join(units, 'nfs-server.service'))
      const verify = (): string => {
        const { stdout, stderr } = spawnSync(
          'systemd-analyze',
          ['verify', '--man=no', '--recursive-errors=no', join(units, 'nfs-server.service')],
          {
            encoding: 'utf8',
            env: { ...process.env, SYSTEMD_UNIT_PATH: `${units}:` },
          },
        )
        return `${stdout}${stderr}`
          .split('\n')
          .filter((line) => line.includes('nfsd-userland-helper') || line.includes('RequiresMountsFor'))
          .join('\n')
      }
      assert.equal(verify(), '')
      // The directory that systemd reads from the unit is the intended one.
      const { stdout } = spawnSync('systemd-tmpfiles', ['--create', `--root=${root}`, 'nfsd-userland-helper.conf'], {
        encoding: 'utf8',
      })
      assert.ok(existsSync(join(root, shown)), `${stateDirectory}: ${stdout}`)
      appendFileSync(join(root, dropIn), '[Unit]\nRequiresMountsFor=relative\n')
      assert.match(verify(), /relative|absolute/, 'the check can fail')
    }
  })

  it('has a rule that udev understands', async () => {
    const read = async (change: string): Promise<string> => {
      const { output } = await onScratchMachine(`
        mkdir -p /etc/udev/rules.d
        cp '${repository}/udev/rules.d/60-nfsd-userland-helper.rules' /etc/udev/rules.d/
        ${change}
        if udevadm verify --help > /dev/null 2>&1; then udevadm verify /etc/udev/rules.d/60-nfsd-userland-helper.rules 2>&1 || true; fi
        udevadm test --action=add "$(ls -d /sys/module/*/ | head -1)" 2>&1 || true`)
      assert.match(
        output,
        /(?:Reading|Loading) rules file: \/etc\/udev\/rules\.d\/60-nfsd-userland-helper\.rules|60-nfsd-userland-helper\.rules: success/i,
      )
      return output
        .split('\n')
        .filter((line) => /60-nfsd-userland-helper\.rules:\d+/.test(line))
        .join('\n')
    }
    assert.doesNotMatch(await read(''), /invalid|unknown|ignor|fail/i)
    assert.match(
      await read(`sed -i 's/ATTR{/ATTRX{/' /etc/udev/rules.d/60-nfsd-userland-helper.rules`),
      /invalid|unknown|ignor|fail/i,
      'the check can fail',
    )
  })

  it('names the program without a newline before each start of the server: by systemd, and by the init script', async () => {
    const { status, output } = await onScratchMachine(`
      mount -t tmpfs modules /sys/module
      mkdir -p /sys/module/nfsd/parameters
      cd /sys/module/nfsd/parameters
      printf '#!/bin/sh\\n' > ${helper}; chmod 755 ${helper}
      # What systemd would run: its quotes are the shell's, and %% is its percent sign.
      before="$(sed -n 's/^ExecStartPre=-//p' '${repository}/udev/systemd/nfs-server.conf' | sed 's/%%/%/g')"
      lsb='${repository}/udev/init.d/lsb-init.sh'
      for name in "$before" "sh $lsb start" "sh $lsb restart"; do
        printf '/sbin/nfsdcltrack' > cltrack_prog
        ! sh $lsb status
        eval "$name"
        [ "$(od -An -c cltrack_prog | tr -d ' \\n')" = ${helper} ] || { od -c cltrack_prog; exit 1; }
        sh $lsb status
      done
      # Not a program that has been removed.
      rm ${helper}
      printf '/sbin/nfsdcltrack' > cltrack_prog
      eval "$before" || true
      sh $lsb start
      cat cltrack_prog`)
    assert.equal(status, done, output)
    assert.equal(output.match(/^nfsd runs \/usr\/sbin\/nfsd-userland-helper$/gm)?.length, 3, output)
    assert.match(output, /^\/sbin\/nfsdcltrack$/m)
  })

  it('has an init script that declares what insserv and OpenRC read, and that a shell understands', () => {
    for (const script of ['lsb-init.sh', 'openrc-init.sh'])
      assert.equal(spawnSync('dash', ['-n', join(repository, 'udev/init.d', script)]).status, 0)
    const lsb = repositoryText('udev/init.d/lsb-init.sh')
    assert.match(
      lsb,
      /^### BEGIN INIT INFO$[^]*^# Provides: +nfsd-userland-helper$[^]*^# X-Start-Before: +nfs-kernel-server[^]*^### END INIT INFO$/m,
    )
    assert.match(repositoryText('udev/init.d/openrc-init.sh'), /^#!\/sbin\/openrc-run$[^]*^\tbefore nfs /m)
  })
})
