/**
 * What records the clients after `install`: the helper or the service, for each kernel, and what happens to nfsdcld.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import { helperParameter } from '../../lib/kernel/nfsd-module.ts'
import { badArgument, done, eachArtefact } from '../contract/server.ts'
import { artefacts, executable, root as repository } from '../support/artefacts.ts'
import { onBootedMachine } from './booted-machine.ts'
import { nfsdcldOpens, sql } from './peers.ts'
import { onScratchMachine } from './scratch-machine.ts'
import { say, scratchRoot } from './scratch.ts'

const service = '/etc/systemd/system/nfsd-userland-helper.service'
const started = '/etc/systemd/system/nfs-server.service.wants/nfsd-userland-helper.service'
const nfsdcld = '/etc/systemd/system/nfsdcld.service'
const database = '/var/lib/nfs/nfsdcld/main.sqlite'

interface Report {
  readonly tracker: { readonly asked: string; readonly takes: string; readonly why: string } | null
  readonly nfsdcld_kept: string | null
}

const ours = artefacts().includes(executable)
/** A path that the throw-away machines see too. */
const shared = join(repository, '.cache')

eachArtefact('install --tracker', (artefact) => {
  const serves = artefact === executable
  const there = (root: string): boolean[] =>
    [service, started].map(
      (path) => spawnSync('test', ['-L', join(root, path), '-o', '-e', join(root, path)]).status === 0,
    )

  it('installs both front ends by default, and each boot decides', async () => {
    const root = scratchRoot('systemd')
    const { stdout } = await say(artefact, 'install', '--root', root)
    assert.deepEqual(there(root), [serves, serves])
    assert.match(
      stdout,
      serves
        ? /^tracker: the helper or the pipe: each boot decides$/m
        : /^tracker: the helper, which the kernel calls: the Node script can't serve the pipe$/m,
    )
    assert.equal(readlinkSync(join(root, nfsdcld)), '/dev/null', 'nfsdcld is masked for either')
    if (serves) assert.match(readFileSync(join(root, service), 'utf8'), /^ConditionPathExists=\|!.*cltrack_prog$/m)
  })

  it('with helper installs no service, and removes one that is there', async () => {
    const root = scratchRoot('systemd')
    await say(artefact, 'install', '--root', root)
    const { stdout } = await say(artefact, 'install', '--root', root, '--tracker=helper', '--json')
    assert.deepEqual((JSON.parse(stdout) as Report).tracker, { asked: 'helper', takes: 'helper', why: 'you chose it' })
    assert.deepEqual(there(root), [false, false])
    assert.equal(readlinkSync(join(root, nfsdcld)), '/dev/null')
  })

  it('with serve makes the service start on every kernel, and refuses that if there is only the Node bundle', async () => {
    const root = scratchRoot('systemd')
    const { status, stderr } = await say(artefact, 'install', '--root', root, '--tracker=serve')
    assert.deepEqual(there(root), [serves, serves])
    if (serves)
      assert.doesNotMatch(readFileSync(join(root, service), 'utf8'), /^Condition|kernel calls (?:it|the helper)\b/m)
    else
      assert.deepEqual(
        [status, stderr],
        [
          badArgument,
          "nfsd-userland-helper: error: only the executable can serve the pipe, not the Node script: '--tracker=serve'\n",
        ],
      )
  })

  it('tells the init script which tracker it is', async () => {
    for (const [system, settings] of [
      ['openrc', 'etc/conf.d/nfsd-userland-helper'],
      ['sysvinit', 'etc/default/nfsd-userland-helper'],
    ] as const) {
      const root = scratchRoot(system)
      await say(artefact, 'install', '--root', root)
      assert.match(readFileSync(join(root, settings), 'utf8'), serves ? /^tracker=auto$/m : /^tracker=helper$/m)
      await say(artefact, 'install', '--root', root, '--tracker=helper')
      assert.match(readFileSync(join(root, settings), 'utf8'), /^tracker=helper$/m)
    }
  })

  it('keeps what the admin has enabled or disabled, and undoes only its own changes', async () => {
    const root = scratchRoot('systemd')
    ensureDirSync(join(root, '/etc/systemd/system'))
    symlinkSync('/dev/null', join(root, nfsdcld))
    await say(artefact, 'install', '--root', root)
    if (serves) {
      rmSync(join(root, started))
      await say(artefact, 'install', '--root', root)
      assert.deepEqual(there(root), [true, false], 'disabled is disabled')
    }
    await say(artefact, 'uninstall', '--root', root)
    assert.equal(readlinkSync(join(root, nfsdcld)), '/dev/null', 'it was masked before we came')
    const other = scratchRoot('systemd')
    await say(artefact, 'install', '--root', other)
    await say(artefact, 'uninstall', '--root', other)
    assert.deepEqual(
      [existsSync(join(other, started)), existsSync(join(other, '/etc/systemd/system/nfs-server.service.wants'))],
      [false, false],
    )
    assert.throws(() => readlinkSync(join(other, nfsdcld)), /ENOENT/)
  })
})

eachArtefact('install beside nfsdcld', (artefact) => {
  const program = artefact.command.join("' '")
  const scratch = mkdtempSync(join(shared, 'nfsdcld-'))
  after(() => {
    removeSync(scratch)
  })
  before(async () => {
    await nfsdcldOpens(join(scratch, 'nfsdcld'))
  })
  /** On a machine whose nfsdcld has recorded these clients. */
  const beside = async (clients: readonly string[], script: string): Promise<string> => {
    const copy = join(mkdtempSync(join(scratch, 'copy-')), 'main.sqlite')
    writeFileSync(copy, readFileSync(join(scratch, 'nfsdcld/main.sqlite')))
    const inserts = clients.map(
      (client) => `INSERT INTO "rec-0000000000000001" (id) VALUES (CAST('${client}' AS BLOB));`,
    )
    const recorded = sql(
      copy,
      `${inserts.join('\n')}\nSELECT current, recovery, (SELECT count(*) FROM "rec-0000000000000001") FROM grace;`,
    )
    assert.equal(recorded.trim(), `1|0|${clients.length}`)
    const { status, output } = await onScratchMachine(`
      rm -rf /var/lib/nfs /etc/nfs.conf /etc/nfs.conf.d
      mkdir -p /var/lib/nfs/nfsdcld /run/systemd
      cp '${copy}' ${database}
      ${script}
      [ -L ${nfsdcld} ] && echo 'nfsdcld: masked' || echo 'nfsdcld: as before'
      ls /var/lib/nfs/v4clients/*/ 2> /dev/null || true`)
    assert.equal(status, done, output)
    return output
  }

  it('keeps nfsdcld while it has clients, and says how to import them', async () => {
    const output = await beside(['ada', 'bob'], `'${program}' --config /dev/null install`)
    assert.match(output, /^nfsdcld keeps its place: it has recorded 2 clients\. To take them over: .*install --import/m)
    assert.match(output, /^nfsdcld: as before$/m)
    assert.doesNotMatch(output, /^installed .*nfs-server\.service\.wants/m)
  })

  it('with --import imports its clients, and replaces it', async () => {
    const output = await beside(['ada', 'bob'], `'${program}' --config /dev/null install --import`)
    assert.match(output, /2 clients imported from nfsdcld's database/m)
    assert.match(output, /^nfsdcld: masked$/m)
    assert.match(output, /^ada$\n^bob$/m)
    assert.doesNotMatch(output, /keeps its place/)
  })

  it('replaces it if it has no clients, or the admin gives them up', async () => {
    assert.match(await beside([], `'${program}' --config /dev/null install`), /^nfsdcld: masked$/m)
    const output = await beside(['ada'], `'${program}' --config /dev/null install --no-import`)
    assert.match(output, /^nfsdcld: masked$/m)
    assert.doesNotMatch(output, /^ada$/m)
  })

  it('keeps it in a system that does not run, and imports nothing there', async () => {
    const root = scratchRoot('systemd')
    ensureDirSync(join(root, '/var/lib/nfs/nfsdcld'))
    writeFileSync(join(root, database), 'whatever')
    const { stdout } = await say(artefact, 'install', '--root', root, '--json')
    assert.match(
      (JSON.parse(stdout) as Report).nfsdcld_kept ?? '',
      /^nfsdcld keeps its place: it may have recorded clients/,
    )
    const { status, stderr } = await say(artefact, 'install', '--root', root, '--import')
    assert.equal(status, badArgument)
    assert.match(stderr, /clients can be imported only into the running system: '--import'/)
  })
})

describe('the service', { skip: ours ? false : 'it runs the executable' }, () => {
  const unit = join(repository, 'udev/systemd/nfsd-userland-helper.service')
  const program = executable.command.join("' '")
  const scratch = mkdtempSync(join(shared, 'service-'))
  const probe = join(scratch, 'probe')
  before(() => {
    execFileSync('gcc', [
      '-static',
      '-O1',
      '-Wall',
      '-Werror',
      '-o',
      probe,
      join(repository, 'tests/commands/sandbox-probe.c'),
    ])
    chmodSync(probe, 0o755)
  })
  after(() => {
    removeSync(scratch)
  })
  /**
   * Installed for real on a machine that systemd has booted, with the probe in place of the program.
   * @param prints what the script must print.
   */
  const booted = async (script: string, prints: RegExp): Promise<string> => {
    const { status, output, journal } = await onBootedMachine(`
      rm -rf /var/lib/nfs /etc/nfs.conf /etc/nfs.conf.d
      '${program}' --config /dev/null install 2>&1 | sed '/^What doctor finds/,$d' > /run/share/installed
      cp '${probe}' /usr/sbin/nfsd-userland-helper
      ${script}`)
    assert.deepEqual({ status, prints: prints.test(output) }, { status: done, prints: true }, `${output}\n${journal}`)
    return output
  }

  it('has no fault that systemd finds, and exposes little', () => {
    const directory = join(scratch, 'units')
    mkdirSync(directory)
    const copy = join(directory, 'nfsd-userland-helper.service')
    writeFileSync(copy, readFileSync(unit, 'utf8').replaceAll('/usr/sbin/nfsd-userland-helper', probe))
    const analyze = (...words: readonly string[]): string => {
      const { stdout, stderr } = spawnSync('systemd-analyze', [...words, copy], { encoding: 'utf8' })
      return `${stdout}${stderr}`
    }
    assert.equal(analyze('verify', '--man=no'), '')
    const exposure = /exposure level for .*: ([\d.]+)/.exec(analyze('security', '--offline=true', '--no-pager'))?.[1]
    assert.ok(Number(exposure) <= 2.2, exposure)
  })

  it('is started before the server on a kernel that calls no helper, and nfsdcld is stopped', async () => {
    const output = await booted(
      `
      as_a_machine
      systemctl start nfsdcld 2> /dev/null || true
      systemctl unmask nfsdcld > /dev/null 2>&1
      rm -f ${nfsdcld}; systemctl daemon-reload
      systemctl start nfsdcld
      active
      systemctl start nfs-server
      active
      systemctl show -p ExecMainStartTimestampMonotonic --value nfsd-userland-helper
      systemctl show -p ActiveEnterTimestampMonotonic --value nfsd-userland-helper nfs-server | grep .`,
      /^inactive\nactive\nactive\ninactive$/m,
    )
    const [, ready = NaN, server = NaN] = [...output.matchAll(/^\d{5,}$/gm)].map(Number)
    assert.ok(ready <= server, output)
  })

  it('is not started on a kernel that calls the helper, and nfsdcld is stopped too', async () => {
    await booted(
      `
      as_a_machine
      rm -f ${nfsdcld}; systemctl daemon-reload
      touch ${helperParameter}
      systemctl start nfsdcld
      systemctl start nfs-server
      active`,
      /^inactive\ninactive$/m,
    )
  })

  it('keeps the server from starting nfsdcld, at each start, also where a condition keeps it from running', async () => {
    await booted(
      `
      as_a_machine
      rm -f ${nfsdcld}; systemctl daemon-reload
      touch ${helperParameter}
      systemctl start nfs-server
      active
      systemctl restart nfs-server
      active
      systemctl stop nfs-server
      rm ${started}; systemctl daemon-reload
      systemctl start nfs-server
      active`,
      /^inactive\ninactive\ninactive\ninactive\ninactive\nactive$/m,
    )
  })

  it('is started in a container on any kernel', async () => {
    await booted(
      `
      touch ${helperParameter}
      systemctl start nfs-server
      active`,
      /^active\ninactive$/m,
    )
  })

  it('is restarted with the server, and stops with it, so that its disk is free', async () => {
    await booted(
      `
      as_a_machine
      mkdir -p /var/lib/nfs
      mount -t tmpfs none /var/lib/nfs
      systemctl start nfs-server
      systemctl restart nfs-server
      active
      systemctl stop nfs-server nfsd-userland-helper
      active
      umount /var/lib/nfs
      grep -ls ' /var/lib/nfs ' /proc/[0-9]*/mountinfo || echo unmounted`,
      /^active\ninactive\ninactive\ninactive\nunmounted$/m,
    )
  })

  it('is started again each time it is killed', async () => {
    await booted(
      `
      as_a_machine
      systemctl start nfs-server
      main() { systemctl show -p MainPID --value nfsd-userland-helper; }
      for i in 1 2 3 4 5 6 7 8; do
        was=$(main)
        kill -KILL $was
        until [ "$(main)" != $was ] && [ "$(main)" != 0 ] && systemctl is-active --quiet nfsd-userland-helper; do sleep 0.02; done
      done
      systemctl show -p NRestarts --value nfsd-userland-helper`,
      /^8$/m,
    )
  })

  it('can open the pipe and write where it must, and may do nothing else', async () => {
    const output = await booted(
      `
      as_a_machine
      systemctl start proc-fs-nfsd.mount
      echo 8 > /proc/fs/nfsd/threads
      systemctl start nfs-server
      until journalctl -u nfsd-userland-helper _TRANSPORT=stdout -o cat --no-pager | grep -q 'run a program'; do sleep 0.05; done
      echo ---
      journalctl -u nfsd-userland-helper _TRANSPORT=stdout -o cat --no-pager`,
      /^---$/m,
    )
    const tried = (output.split('---\n')[1] ?? '').split('\n').filter((line) => line.includes(':'))
    assert.deepEqual(tried, [
      'notify: yes',
      'ready: yes',
      'hold /run/rpc_pipefs/nfsd/cld: yes',
      'write /var/lib/nfs: yes',
      'write /run/nfsd-userland-helper: yes',
      'write /run: Read-only file system',
      'write /etc: Read-only file system',
      'write /tmp: Read-only file system',
      'write /usr/sbin: Read-only file system',
      'write /proc/fs/nfsd: Read-only file system',
      'read /proc/fs/nfsd/threads: yes',
      'read /proc/1/comm: yes',
      'reach the network: Address family not supported by protocol',
      'CapPrm:\t0000000000080002',
      'run a program: Permission denied',
    ])
  })
})

describe('the LSB script', { skip: ours ? false : 'it starts the executable' }, () => {
  it('runs serve, and starts it again if it ends, if the kernel calls no helper; otherwise it only names the helper', async () => {
    const script = join(repository, 'udev/init.d/lsb-init.sh')
    const { status, output } = await onScratchMachine(`
      rm -rf /var/lib/nfs /etc/nfs.conf /etc/nfs.conf.d
      mkdir -p /var/lib/nfs /run/rpc_pipefs/nfsd /etc/init.d
      mount -t tmpfs none /sys/module
      mkdir -p /sys/module/nfsd/parameters
      cp '${executable.command.at(-1) ?? ''}' /usr/sbin/nfsd-userland-helper
      S=/etc/init.d/nfsd-userland-helper
      cp '${script}' $S
      # Of this machine's own only.
      serving() { for id in $(pidof nfsd-userland-helper); do [ "$(readlink /proc/$id/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ] || echo $id; done; }
      trap 'sh $S stop' EXIT
      sh $S start
      sh $S status
      first=$(serving)
      kill -KILL $first
      for i in $(seq 1200); do second=$(serving); [ -z "$second" ] || [ "$second" = "$first" ] || break; sleep 0.05; done
      [ -n "$second" ] && [ "$second" != "$first" ]
      sh $S stop
      [ -z "$(serving)" ]
      echo > ${helperParameter}
      sh $S start
      sh $S status
      [ -z "$(serving)" ]
      cat ${helperParameter}`)
    assert.equal(status, done, output)
    assert.equal(
      output,
      'nfsd-userland-helper serves the pipe\nnfsd runs /usr/sbin/nfsd-userland-helper\n/usr/sbin/nfsd-userland-helper',
    )
  })

  it('ends its supervisor and the program by a signal, whatever command the supervisor is at', async () => {
    const { status, output } = await onScratchMachine(`
      mkdir -p /run/nfsd-userland-helper
      mkfifo /run/nfsd-userland-helper/ready
      # It ends at once the first time, and then lives until it is killed.
      rm -f /usr/sbin/nfsd-userland-helper
      cat > /usr/sbin/nfsd-userland-helper <<'END'
#!/bin/sh
echo $$ >> /run/lives
[ $(wc -l < /run/lives) -gt 1 ] || exit 0
exec sleep 1000
END
      chmod 755 /usr/sbin/nfsd-userland-helper
      # bash can do something before each command: here a signal comes before command number $1.
      cat > /run/at <<'END'
set -T
before() {
  [ "$BASH_COMMAND" != supervise ] || count=0
  [ -z "$count" ] || [ $((count += 1)) -ne $number ] || { echo "$BASH_COMMAND" > /run/command; kill -TERM $$; }
}
count= number=$1
trap before DEBUG
. '${join(repository, 'udev/init.d/lsb-init.sh')}' supervise
END
      for number in $(seq 2 16); do
        : > /run/lives
        rm -f /run/command
        timeout 60 bash /run/at $number < /dev/null > /dev/null 2>&1 || [ $? -ne 124 ] || echo 'goes on after:'
        for id in $(cat /run/lives); do ! kill -KILL $id 2> /dev/null || echo 'lives on after:'; done
        cat /run/command
      done`)
    assert.equal(status, done, output)
    const round = [
      '[ -z "$stopped" ]',
      '"$helper" serve --ready-fd 3 3<> "$run/ready"',
      'child=$!',
      '[ -z "$stopped" ]',
      'wait "$child"',
    ]
    assert.deepEqual(output.trim().split('\n'), [
      'stopped=',
      `trap 'stopped=yes; kill "$child" 2> /dev/null' TERM INT HUP`,
      ...round,
      'wait "$child"',
      '[ -n "$stopped" ]',
      'sleep 0.1',
      ...round,
    ])
  })
})
