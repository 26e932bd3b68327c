/**
 * This machine, booted again by its systemd in namespaces of its own (with a network of its own, and systemd as process
 * 1), on a layer of memory over its file system, which is thrown away afterwards. Things that only a kernel with nfsd
 * has are faked: the module's parameters are a directory, the pipe is a FIFO, and the server's unit runs nothing.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import { root as repository } from '../support/artefacts.ts'
import type { Told } from './scratch-machine.ts'

/** In a control group of its own: two such machines would confuse their services. */
const outside = `
for top in /sys/fs/cgroup/systemd /sys/fs/cgroup; do
  ! [ -e $top/cgroup.procs ] || { own=$top/booted-$$; break; }
done
[ -n "$own" ] || { echo 'no control groups are mounted at /sys/fs/cgroup, and systemd needs them' >&2; exit 1; }
mkdir "$own"
( echo 0 > "$own/cgroup.procs"; exec setpriv --pdeathsig KILL "$@" ) && status=0 || status=$?
find "$own" -depth -type d -exec rmdir {} +
exit $status
`

/** None of the machine's own services are started, above all not udev, because the devices belong to this machine. */
const stage = `
set -e
mount -t tmpfs -o mode=755 layer "$1/layer"
mkdir "$1/layer/upper" "$1/layer/work" "$1/layer/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/layer/upper,workdir=$1/layer/work" overlay "$1/layer/root"
cd "$1/layer/root"
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs none sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd || mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs none sys/module
mkdir -p sys/module/nfsd/parameters
mount --rbind /dev dev
mount -t tmpfs run run
mkdir run/share
mount --bind "$1" run/share
mkdir -p ".$2"
mount --bind "$2" ".$2"
rm -rf etc/systemd/system/*.wants usr/lib/systemd/system/*.wants/systemd-udev* usr/lib/systemd/system/sysinit.target.wants usr/lib/systemd/system/sockets.target.wants/systemd-udevd* var/log/journal etc/machine-id
echo 00000000000000000000000000000001 > etc/machine-id
mkdir -p run/systemd/system
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-journald-audit.socket; do
  ln -sf /dev/null etc/systemd/system/$unit
done
exec chroot . /usr/bin/env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
  /usr/lib/systemd/systemd --system --unit=inside.service --show-status=no --log-target=journal
`

const inside = `[Unit]
DefaultDependencies=no
After=systemd-journald.socket
Wants=systemd-journald.socket
[Service]
Type=oneshot
ExecStart=/bin/sh -euc '/bin/sh -eu /run/share/script && status=0 || status=$$?; echo $$status > /run/share/status'
ExecStopPost=/bin/sh -c 'journalctl -o short-monotonic --no-pager _PID=1 | grep nfs | tail -n 30 > /run/share/journal'
ExecStopPost=/bin/systemctl --no-block --force --force poweroff
StandardOutput=append:/run/share/output
StandardError=append:/run/share/output
`

/** A server without real threads, and the units that it depends on. There is an nfsdcld that does nothing. */
const server = `
cd /run/systemd/system
cat > nfs-server.service <<'UNIT'
[Unit]
DefaultDependencies=no
Wants=nfsdcld.service
After=nfsdcld.service proc-fs-nfsd.mount
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
UNIT
rm -f /lib/systemd/system/nfs-server.service /lib/systemd/system/nfsdcld.service
printf '[Unit]\\nDefaultDependencies=no\\n[Service]\\nType=exec\\nExecStart=/bin/sleep 1000\\n' > nfsdcld.service
printf '[Unit]\\nDefaultDependencies=no\\n' > rpc_pipefs.target
printf '[Unit]\\nDefaultDependencies=no\\n[Mount]\\nWhat=none\\nWhere=/proc/fs/nfsd\\nType=tmpfs\\n' > proc-fs-nfsd.mount
mkdir -p /run/rpc_pipefs/nfsd
mkfifo -m 600 /run/rpc_pipefs/nfsd/cld
systemctl daemon-reload
cd /
# This is a container to systemd, where no kernel calls a helper. The tests are about machines.
as_a_machine() { sed -i /^ConditionVirtualization/d /etc/systemd/system/nfsd-userland-helper.service; systemctl daemon-reload; }
active() { systemctl is-active nfsd-userland-helper nfsdcld || true; }
`

/** How long a boot and its script may take on a machine that also does other work. */
const patienceMs = 600_000

interface ToldInJournal extends Told {
  /** Systemd's last lines about these units, and what install said, to be printed when a test fails. */
  readonly journal: string
}

export async function onBootedMachine(script: string): Promise<ToldInJournal> {
  const directory = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-booted-'))
  mkdirSync(join(directory, 'layer'))
  writeFileSync(join(directory, 'script'), `${server}\n${script}`)
  const unit = join(directory, 'inside.service')
  writeFileSync(unit, inside)
  writeFileSync(join(directory, 'output'), '')
  try {
    await new Promise<void>((resolve, reject) => {
      const child = spawn(
        // The machine ends when this ends.
        'setpriv',
        [
          ...['--pdeathsig', 'KILL', '/bin/sh'],
          ...[
            '-c',
            outside,
            'sh',
            'unshare',
            '--mount',
            '--pid',
            '--fork',
            '--kill-child',
            '--ipc',
            '--uts',
            '--net',
            '--cgroup',
          ],
          ...['--propagation', 'private', '/bin/sh', '-c'],
          stage.replace('exec chroot', 'cp "$1/inside.service" run/systemd/system/\nexec chroot'),
          ...['sh', directory, repository],
        ],
        { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], timeout: patienceMs, killSignal: 'SIGKILL' },
      )
      let errors = ''
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        errors += text
      })
      child.once('error', reject)
      child.once('close', () => {
        if (errors === '') resolve()
        else reject(new Error(errors))
      })
    })
    const said = (name: string): string =>
      existsSync(join(directory, name)) ? readFileSync(join(directory, name), 'utf8').replaceAll('\0', '') : ''
    const [output, journal, status] = [said('output'), `${said('journal')}${said('installed')}`, said('status')]
    if (status === '') throw new Error(`the script did not end: ${output}\n${journal}`)
    return { status: Number(status), output, journal }
  } finally {
    removeSync(directory)
  }
}
