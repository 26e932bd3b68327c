/**
 * A machine for doctor: this one's files under a layer of memory, with a root directory, mounts and processes of its
 * own. Changes by a fault are discarded with it, and no other processes are visible.
 *
 * It is a healthy server: the helper is installed, the kernel knows its name, and the records are on an ext4 of their
 * own, which the NFS server waits for. Things that only a kernel with nfsd has (its module's parameter, its log, its
 * configuration, its file system) are files in the same places. The program reads them as it reads the kernel's.
 */
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import { helperParameter as parameter } from '../../lib/kernel/nfsd-module.ts'
import { root, type Artefact } from '../support/artefacts.ts'

export const program = '/usr/sbin/nfsd-userland-helper'
export const state = '/srv/state'

/** A healthy machine. The helper's upcalls are shell functions `init`, `create` and so on. */
const healthy = (artefact: Artefact): string => `
  ln -s ${artefact.command.at(-1) ?? ''} ${program}
  [ -e /usr/bin/node ] || ln -s ${process.execPath} /usr/bin/node
  mkdir -p ${dirname(parameter)} /srv/nfsd /etc/modprobe.d /etc/systemd/system/nfs-server.service.d /run/systemd/system
  printf '%s\\n' ${program} > ${parameter}
  echo 'options nfsd cltrack_prog=${program}' > /etc/modprobe.d/nfsd-userland-helper.conf
  ln -sf /dev/null /etc/systemd/system/nfsdcld.service
  printf '[Unit]\\nRequiresMountsFor=${state}\\n' > /etc/systemd/system/nfs-server.service.d/state.conf
  printf '[nfsd-userland-helper]\\nstate-dir = ${state}\\nnfsd-dir = /srv/nfsd\\n' > /etc/nfs.conf
  rm -rf /etc/nfs.conf.d /var/lib/nfs/v4recovery
  config CONFIG_NFSD=m CONFIG_NFSD_LEGACY_CLIENT_TRACKING=y '# CONFIG_STATIC_USERMODEHELPER is not set'
  kernel_said 'NFSD: Using UMH upcall client tracking operations.'
  echo Y > /srv/nfsd/v4_end_grace
  echo 90 > /srv/nfsd/nfsv4gracetime
  echo 90 > /srv/nfsd/nfsv4leasetime
  upcall init; upcall create 616461; upcall gracedone 0
`

const words = `
  upcall() { env -i ${program} -f "$@" 2>> /upcalls; }
  config() { printf '%s\\n' "$@" > /boot/config-${release()}; }
  kernel_said() { printf '6,100,1000,-;Linux version\\n30,101,1001,-;nfsd-userland-helper: a line\\n' > /kmsg; for line; do printf '6,102,1002,-;%s\\n SUBSYSTEM=x\\n' "$line"; done >> /kmsg; }
`

export interface Finding {
  readonly check: string
  readonly verdict: string
  readonly what: string
  readonly why: string | null
  readonly mend: string | null
}

/** What doctor reported: first, and after its remedy. */
export interface Diagnosis {
  readonly status: number
  readonly ms: number
  readonly wrong: readonly string[]
  readonly of: (check: string) => Finding
  /** All findings except the good ones, to be printed when a test fails. */
  readonly text: string
}

/** What doctor tells people on a healthy machine with a fault. */
export async function toldToPeople(artefact: Artefact, fault: string): Promise<string> {
  return (await inMachine(artefact, `${fault}\n${artefact.command.join(' ')} doctor > /out/told || true`)).file('told')
}

/** What a command prints on a healthy machine with a fault, with its status on a last line. */
export async function commandOn(artefact: Artefact, fault: string, command: string): Promise<string> {
  const asked = `status=0; ${artefact.command.join(' ')} ${command} > /out/said 2>&1 || status=$?; echo $status >> /out/said`
  return (await inMachine(artefact, `${fault}\n${asked}`)).file('said')
}

/** What a command prints for a user other than root. */
export async function askedByNobody(artefact: Artefact, command: string, make = ''): Promise<string> {
  const { file } = await inMachine(
    artefact,
    `d=${root}; while [ $d != / ]; do chmod go+rx $d; d=$(dirname $d); done
     ${make}
     status=0; setpriv --reuid 65534 --clear-groups ${artefact.command.join(' ')} -f ${command} > /out/said 2>&1 || status=$?
     echo $status >> /out/said`,
  )
  return file('said')
}

/**
 * Makes the fault on a healthy machine, and runs doctor.
 * @param mend carries out the remedy for the finding of this check, and runs doctor again.
 */
export async function diagnose(artefact: Artefact, fault: string, mend?: string): Promise<readonly Diagnosis[]> {
  // From another copy, as an admin may have one: the installed program may be broken.
  const ask = (n: number): string => `
    begun=$(date +%s%N)
    status=0; env -i ${artefact.command.join(' ')} doctor --json > /out/${n} 2> /out/${n}.err || status=$?
    echo $status > /out/${n}.status
    echo $(( ($(date +%s%N) - begun) / 1000000 )) > /out/${n}.ms`
  const mending = `
    ${process.execPath} -e 'const { findings } = JSON.parse(require("fs").readFileSync("/out/1")); console.log(findings.find(({ check }) => check === "${mend ?? ''}").mend)' > /out/mend
    PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_OFFLINE=1 sh -e /out/mend
    ${ask(2)}`
  const { file } = await inMachine(artefact, `${fault}\n${ask(1)}\n${mend === undefined ? '' : mending}`)
  return (mend === undefined ? ['1'] : ['1', '2']).map((n) => read(file, n))
}

/** Runs a script on a healthy machine. @returns what it left in /out. */
async function inMachine(artefact: Artefact, script: string): Promise<{ readonly file: (name: string) => string }> {
  const scratch = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-machine-'))
  try {
    mkdirSync(join(scratch, 'layer'))
    mkdirSync(join(scratch, 'out'))
    execFileSync('truncate', ['-s', '16M', join(scratch, 'disk')])
    execFileSync('mkfs.ext4', ['-q', '-N', '4096', join(scratch, 'disk')])
    writeFileSync(join(scratch, 'inside'), `set -e\n${words}\n${healthy(artefact)}\n${script}\n`)
    await run('unshare', [
      '--mount',
      '--pid',
      '--fork',
      '--kill-child',
      '--propagation',
      'private',
      'bash',
      '-c',
      outside(scratch),
    ])
    const left = new Map(
      readdirSync(join(scratch, 'out')).map((name) => [name, readFileSync(join(scratch, 'out', name), 'utf8')]),
    )
    return { file: (name) => left.get(name) ?? '' }
  } finally {
    removeSync(scratch)
  }
}

const outside = (scratch: string): string => `set -e
  cd ${scratch}
  mount -t tmpfs none layer
  mkdir layer/upper layer/work layer/root
  mount -t overlay none -o lowerdir=/,upperdir=layer/upper,workdir=layer/work layer/root
  cd layer/root
  mkdir -p out srv/state boot .${root}
  mount --bind ${root} .${root}
  mount --bind ${scratch}/out out
  mount -t proc none proc
  mount --rbind /sys sys
  mount -t tmpfs none sys/module
  mount --rbind /dev dev
  mount -t tmpfs none run
  mount -t tmpfs none boot
  touch kmsg no-config
  mount --bind kmsg dev/kmsg
  [ ! -e proc/config.gz ] || mount --bind no-config proc/config.gz
  mount -o loop ${scratch}/disk srv/state
  cp ${scratch}/inside inside
  exec chroot . /bin/bash /inside`

function run(command: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { timeout: 600_000, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      if (error === null) resolve()
      else reject(new Error(`the machine failed: ${error.message}\n${stdout}${stderr}`))
    })
  })
}

function read(file: (name: string) => string, n: string): Diagnosis {
  const [document = '', errors = '', status = '', ms = ''] = ['', '.err', '.status', '.ms'].map((kind) =>
    file(`${n}${kind}`),
  )
  if (errors !== '' || document === '') throw new Error(`doctor said: ${errors}${document}`)
  const { wrong, findings } = JSON.parse(document) as { wrong: number; findings: Finding[] }
  const named = findings.filter(({ verdict }) => verdict === 'wrong').map(({ check }) => check)
  if (named.length !== wrong) throw new Error(`doctor counts ${wrong}, and says ${named.join()}`)
  return {
    status: Number(status),
    ms: Number(ms),
    wrong: named,
    of: (name) => {
      const finding = findings.find(({ check }) => check === name)
      if (finding === undefined) throw new Error(`doctor has no check ${name}: ${document}`)
      return finding
    },
    text: findings
      .filter(({ verdict }) => verdict !== 'good')
      .map((finding) => JSON.stringify(finding))
      .join('\n'),
  }
}
