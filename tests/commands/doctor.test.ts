/** What doctor finds: each fault is made on a healthy machine, and doctor reports this fault and no other. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { helperParameter as parameter } from '../../lib/kernel/nfsd-module.ts'
import { eachArtefact, forPeople } from '../contract/server.ts'
import { root, type Artefact } from '../support/artefacts.ts'
import { askedByNobody, commandOn, diagnose, program, state, toldToPeople } from './machine.ts'

/** As if no start had noted its state directory. */
const noStart = 'rm -f /run/nfsd-userland-helper/start-*'

interface Fault {
  /** The fault, in an admin's words. */
  readonly title: string
  readonly check: string
  readonly verdict: 'wrong' | 'doubtful' | 'unknown'
  /** A shell script that makes the fault. */
  readonly make: string
  /** What doctor reports: what is wrong, and why it matters. */
  readonly says: RegExp
  readonly mend?: RegExp
  /** The remedy that doctor gives is carried out, and doctor runs again. */
  readonly mended?: true
  /** Other checks that the fault makes fail. */
  readonly also?: readonly string[]
}

const restartedWith = (said: string): string => `kernel_said 'NFSD: ${said}'`
const pipe = '/srv/pipefs/nfsd/cld'
const makePipe = `mkdir -p /srv/pipefs/nfsd; mkfifo ${pipe}; echo 'pipefs-dir = /srv/pipefs' >> /etc/nfs.conf`
/** A process holds the pipe and has the status file of a `serve` on this state directory, as lib/serve writes it. */
const pipeHeldBy = (_: 'serve', more = '"not_recorded":[]'): string => `${makePipe}
  sleep 1000 3<> ${pipe} > /dev/null 2>&1 &
  holder=$!
  until grep -qs sleep /proc/$holder/comm; do sleep 0.01; done
  digits() { tr -d '-' < $1 | cut -c1-12; }
  name=$holder.$(sed 's/.*) //' /proc/$holder/stat | cut -d' ' -f20).$(digits /proc/sys/kernel/random/boot_id).$(digits /etc/machine-id).$(readlink /proc/self/ns/pid | tr -dc 0-9)
  mkdir -p /run/nfsd-userland-helper
  echo '{"format":1,"process":{"id":'$holder',"holder":"'$name'"},"protocol":2,"grace_started":1000,"grace_over":1001,${more}}' > /run/nfsd-userland-helper/serve-$(printf %s ${state} | sha256sum | cut -d' ' -f1).json`
/** A process of that name, which has opened what it opens: until it runs its program, it is a shell like any other. */
const nfsdcldRuns = (opens = ''): string => `
  cp /bin/sleep /usr/local/sbin/nfsdcld; /usr/local/sbin/nfsdcld 1000 > /dev/null 2>&1 ${opens} &
  until grep -qs nfsdcld /proc/$!/comm; do sleep 0.01; done`
/** One of the kernel's clients. */
const liveClient = (number: number, owner: string, minor: number): string =>
  `mkdir -p /srv/nfsd/clients/${number}; printf 'clientid: 0x1\\nstatus: confirmed\\nname: "${owner}"\\nminor version: ${minor}\\n' > /srv/nfsd/clients/${number}/info; echo '- 0x1: { type: open }' > /srv/nfsd/clients/${number}/states`
/** A script in place of the program, which it may call as `REAL`. */
const programIs = (script: string, mode = '755'): string =>
  `real=$(readlink ${program}); rm ${program}; echo '${script}' | sed "s:REAL:$real:" > ${program}; chmod ${mode} ${program}`
const gracePeriod = 'upcall init; echo N > /srv/nfsd/v4_end_grace'
/** Another file system for the state directory, with the same records. */
const movedTo = (mount: string): string =>
  `cp -a ${state} /kept; umount ${state}; ${mount} ${state}; cp -a /kept/boot_time /kept/v4clients ${state}`
const anotherDisk = (mkfs: string, options = ''): string =>
  movedTo(`truncate -s 16M /disk; ${mkfs} /disk; mount -o loop${options} /disk`)
const service = (change: string): string =>
  `unit=/etc/systemd/system/nfsd-userland-helper.service; cp ${root}/udev/systemd/nfsd-userland-helper.service $unit; ${change}`
const newestInstance = `$(ls -d ${state}/v4clients/[0-9]* | grep -v '[.]' | tail -1)`

const kernelWithoutServer = 'rm -r /sys/module/nfsd; config CONFIG_NFS_FS=y'
const kernelUnknown = 'rm -r /sys/module/nfsd /boot/*'

const faults: readonly Fault[] = [
  // the kernel
  {
    title: 'the kernel has no usermode client tracking',
    check: 'kernel-support',
    verdict: 'wrong',
    make: `rm ${parameter}`,
    says: /no parameter 'cltrack_prog'.*CONFIG_NFSD_LEGACY_CLIENT_TRACKING=y/s,
    mend: /install --tracker=serve/,
    also: ['nfsdcld', 'pipe', 'service'],
  },
  {
    title: 'the kernel that is not yet running nfsd was built without it',
    check: 'kernel-support',
    verdict: 'wrong',
    make: "rm -r /sys/module/nfsd; config CONFIG_NFSD=m '# CONFIG_NFSD_LEGACY_CLIENT_TRACKING is not set'",
    says: /CONFIG_NFSD_LEGACY_CLIENT_TRACKING is not set/,
    also: ['nfsdcld'],
  },
  {
    title: 'the kernel has no NFS server',
    check: 'kernel-support',
    verdict: 'wrong',
    make: kernelWithoutServer,
    says: /without an NFS server/,
    mend: /^boot a kernel with CONFIG_NFSD$/,
  },
  {
    title: 'what the kernel was built with is not to be found',
    check: 'kernel-support',
    verdict: 'unknown',
    make: kernelUnknown,
    says: /is not known/,
    mend: /^modprobe nfsd$/,
  },
  {
    title: 'the kernel takes every helper for done',
    check: 'static-helper',
    verdict: 'wrong',
    make: 'config CONFIG_STATIC_USERMODEHELPER=y \'CONFIG_STATIC_USERMODEHELPER_PATH=""\'',
    says: /runs no helper at all.*that must not/s,
  },
  {
    title: 'the kernel runs one program instead of every helper',
    check: 'static-helper',
    verdict: 'wrong',
    make: 'config CONFIG_STATIC_USERMODEHELPER=y \'CONFIG_STATIC_USERMODEHELPER_PATH="/sbin/usermode-helper"\'',
    says: /runs '\/sbin\/usermode-helper' instead/,
  },
  {
    title: 'nfsdcld is running',
    check: 'nfsdcld',
    verdict: 'wrong',
    make: nfsdcldRuns(),
    says: /nfsdcld is running \(process [0-9]+\)/,
    mend: /mask --now nfsdcld/,
  },
  {
    title: 'nfsdcld is running, and has the clients',
    check: 'nfsdcld',
    verdict: 'wrong',
    make: `${nfsdcldRuns()}
      rm -r ${state}/boot_time ${state}/v4clients; mkdir -p /var/lib/nfs/nfsdcld; echo > /var/lib/nfs/nfsdcld/main.sqlite`,
    says: /nfsdcld is running/,
    mend: /^systemctl stop nfs-server\.service && nfsd-userland-helper install --import && systemctl start nfs-server/,
  },
  {
    title: 'nfsdcld is running, and has clients of an earlier time',
    check: 'nfsdcld',
    verdict: 'wrong',
    make: `${nfsdcldRuns()}
      mkdir -p /var/lib/nfs/nfsdcld; echo > /var/lib/nfs/nfsdcld/main.sqlite`,
    says: /nfsdcld is running/,
    mend: /^systemctl mask --now nfsdcld/,
  },
  {
    title: 'nfsdcld will be started with the NFS server',
    check: 'nfsdcld',
    verdict: 'wrong',
    make: "rm /etc/systemd/system/nfsdcld.service; mkdir -p /usr/lib/systemd/system; printf '[Service]\\n' > /usr/lib/systemd/system/nfsdcld.service",
    says: /not running, but \/usr\/lib\/systemd\/system\/nfsdcld\.service will start it/,
    mended: true,
  },
  {
    title: 'nfsdcld will be started with the NFS server of a kernel that may call no helper',
    check: 'nfsdcld',
    verdict: 'wrong',
    make: `${kernelUnknown}; rm /etc/systemd/system/nfsdcld.service; mkdir -p /usr/lib/systemd/system; printf '[Service]\\n' > /usr/lib/systemd/system/nfsdcld.service`,
    says: /nfsdcld\.service will start it/,
    mend: /^nfsd-userland-helper install$/,
    mended: true,
  },
  {
    title: 'nfsdcld will be started with the NFS server, because nothing starts the service that would prevent it',
    check: 'nfsdcld',
    verdict: 'wrong',
    make: `${service(`sed -i s:/var/lib/nfs:${state}: $unit`)}; rm /etc/systemd/system/nfsdcld.service; mkdir -p /usr/lib/systemd/system; echo x > /usr/lib/systemd/system/nfsdcld.service`,
    says: /nfsdcld\.service will start it/,
    mended: true,
  },
  {
    title: 'the kernel without usermode client tracking runs without nfsdcld',
    check: 'nfsdcld',
    verdict: 'wrong',
    make: `rm ${parameter}`,
    says: /has no other tracker/,
    mend: /install --tracker=serve/,
    also: ['kernel-support', 'pipe', 'service'],
  },

  // the pipe
  {
    title: 'two programs hold the pipe',
    check: 'pipe',
    verdict: 'wrong',
    make: `${pipeHeldBy('serve')}; ${nfsdcldRuns(`3<> ${pipe}`)}`,
    says: /held by (?:nfsdcld|sleep) \(process [0-9]+\), (?:nfsdcld|sleep) .*neither knows all clients/s,
    also: ['nfsdcld'],
  },
  {
    title: 'nobody holds the pipe of the server',
    check: 'pipe',
    verdict: 'wrong',
    make: makePipe,
    says: /has a pipe, but no process holds it/,
  },
  {
    title: 'records could not be written that came by the pipe',
    check: 'pipe-clients',
    verdict: 'wrong',
    make: pipeHeldBy('serve', '"not_recorded":["626f62"]'),
    says: /records of 1 client can't be written/,
  },
  {
    title: 'a client of NFSv4.0 comes by the pipe',
    check: 'pipe-clients',
    verdict: 'doubtful',
    make: `${pipeHeldBy('serve')}; ${liveClient(3, 'ada', 0)}`,
    says: /1 NFSv4.0 client will lose locks at the second restart from now: "ada"/,
  },
  {
    title: 'the kernel was told a long list',
    check: 'pipe-clients',
    verdict: 'doubtful',
    make: pipeHeldBy('serve', '"named":10001'),
    says: /was told 10001 clients/,
  },

  // the program
  {
    title: 'the parameter was written with a newline',
    check: 'cltrack-prog',
    verdict: 'wrong',
    make: `printf '%s\\n\\n' ${program} > ${parameter}`,
    says: /ends with a newline.*printf %s/s,
    mended: true,
  },
  {
    title: 'the parameter has a space at its end',
    check: 'cltrack-prog',
    verdict: 'wrong',
    make: `printf '%s \\n' ${program} > ${parameter}`,
    says: /white space: '\/usr\/sbin\/nfsd-userland-helper '/,
    mended: true,
  },
  {
    title: 'the parameter is empty',
    check: 'cltrack-prog',
    verdict: 'wrong',
    make: `echo > ${parameter}`,
    says: /empty name switches/,
    mended: true,
    also: ['remembered'],
  },
  {
    title: 'the parameter names a program that is not there',
    check: 'cltrack-prog',
    verdict: 'wrong',
    make: `echo /sbin/nfsdcltrack.old > ${parameter}`,
    says: /'\/sbin\/nfsdcltrack\.old', which does not exist/,
    mended: true,
    also: ['remembered'],
  },
  {
    title: 'the parameter is no absolute path',
    check: 'cltrack-prog',
    verdict: 'wrong',
    make: `echo nfsd-userland-helper > ${parameter}`,
    says: /no absolute path/,
    mended: true,
    also: ['remembered'],
  },
  {
    title: 'nfsd is not loaded',
    check: 'cltrack-prog',
    verdict: 'unknown',
    make: 'rm -r /sys/module/nfsd',
    says: /not been told/,
  },
  {
    title: 'the program is not executable',
    check: 'executable',
    verdict: 'wrong',
    make: programIs('#!/bin/sh', '644'),
    says: /is not executable/,
    mend: /^chmod 755 \/usr\/sbin/,
  },
  {
    title: 'others than root may change the program',
    check: 'executable',
    verdict: 'wrong',
    make: programIs('#!/bin/sh\nexec REAL "$@"', '775'),
    says: /changed by users other than root/,
    mended: true,
  },
  {
    title: 'the program needs a PATH that the kernel does not pass',
    check: 'executable',
    verdict: 'wrong',
    make: programIs('#!/usr/bin/env no-such-interpreter'),
    says: /does not run with an empty environment: .*no-such-interpreter/,
  },
  {
    title: 'the program has no interpreter',
    check: 'executable',
    verdict: 'wrong',
    make: programIs('#!/opt/node/bin/node'),
    says: /can't be run: ENOENT/,
  },
  {
    title: 'the program is another one',
    check: 'executable',
    verdict: 'wrong',
    make: `rm ${program}; cp /bin/true ${program}`,
    says: /is another program/,
  },
  {
    title: 'the program hangs',
    check: 'executable',
    verdict: 'wrong',
    make: programIs('#!/bin/sh\nexec sleep 1000'),
    says: /does not answer/,
  },
  {
    title: 'the program can not start a server',
    check: 'executable',
    verdict: 'wrong',
    make: programIs('#!/bin/sh\nulimit -f 0; exec REAL "$@"'),
    says: /fails when it is run as the kernel runs it/,
  },
  {
    title: 'the program says yes, and records nothing',
    check: 'executable',
    verdict: 'wrong',
    make: programIs('#!/bin/sh\ncase $1 in --*) exec REAL "$@";; esac'),
    says: /reports success, but records nothing/,
  },
  {
    title: 'the program is of another version',
    check: 'executable',
    verdict: 'doubtful',
    make: programIs('#!/bin/sh\n[ $1 != --version ] || { echo 0.0.1; exit; }\nexec REAL "$@"'),
    says: /is version '0\.0\.1'/,
  },
  {
    title: 'nothing tells the kernel of the program after a reboot',
    check: 'remembered',
    verdict: 'wrong',
    make: 'rm /etc/modprobe.d/nfsd-userland-helper.conf',
    says: /nothing tells the kernel/,
    mended: true,
  },
  {
    title: 'nothing tells a kernel of the program, and this one is told of none',
    check: 'remembered',
    verdict: 'wrong',
    make: `rm -r /sys/module/nfsd /etc/modprobe.d/nfsd-userland-helper.conf`,
    says: /nothing tells the kernel/,
    mend: /^nfsd-userland-helper install$/,
    mended: true,
  },
  {
    title: 'after a reboot the kernel is told of another program',
    check: 'remembered',
    verdict: 'wrong',
    make: 'echo "options nfsd nfs4_disable_idmapping=0 cltrack_prog=/sbin/nfsdcltrack" > /etc/modprobe.d/zz.conf',
    says: /will call '\/sbin\/nfsdcltrack' \(\/etc\/modprobe\.d\/zz\.conf\)/,
  },

  // the tracker that this program replaces
  {
    title: 'the kernel took its own tracker',
    check: 'tracker',
    verdict: 'wrong',
    make: restartedWith('Using legacy client tracking operations.'),
    says: /fell back to its own tracker/,
    mend: /restart nfs-server/,
  },
  {
    title: 'the kernel took nfsdcld',
    check: 'tracker',
    verdict: 'wrong',
    make: restartedWith('Using nfsdcld client tracking operations.'),
    says: /uses it instead/,
  },
  ...(
    [
      [-110, /-110 is ETIMEDOUT: nfsdcld did not answer/],
      [-2, /-2 is ENOENT: the program that cltrack_prog names does not exist/],
      [-22, /-22 is EINVAL: .*container/],
      [-13, /-13 is EACCES/],
      [-5, /-5 is EIO\./],
      [62208, /62208 is how the helper ended: status 243/],
      [9, /runs without any tracker/],
    ] as const
  ).map(([status, says]): Fault => ({
    title: `the kernel has no tracker (${status})`,
    check: 'tracker',
    verdict: 'wrong',
    make: restartedWith(`Unable to initialize client recovery tracking! (${status})`),
    says,
  })),
  {
    title: 'the kernel took its own tracker at first, and took ours later',
    check: 'nfsdcld',
    verdict: 'wrong',
    make: "kernel_said 'NFSD: Using legacy client tracking operations.' 'NFSD: Using UMH upcall client tracking operations.'; rm /etc/systemd/system/nfsdcld.service; mkdir -p /usr/lib/systemd/system; echo x > /usr/lib/systemd/system/nfsdcld.service",
    says: /nfsdcld/,
  },
  {
    title: "the kernel's log has been overwritten",
    check: 'tracker',
    verdict: 'unknown',
    make: "kernel_said 'eth0: link up'",
    says: /names no tracker/,
    mend: /journalctl/,
  },
  {
    title: 'a process pretends to be the kernel',
    check: 'tracker',
    verdict: 'unknown',
    make: "printf '30,1,1,-;NFSD: Using UMH upcall client tracking operations.\\n' > /kmsg",
    says: /names no tracker/,
  },
  {
    title: "the kernel's nfsd file system is not mounted",
    check: 'nfsd-files',
    verdict: 'doubtful',
    make: 'rm /srv/nfsd/v4_end_grace',
    says: /no \/srv\/nfsd\/v4_end_grace/,
    mend: /^mount -t nfsd nfsd \/srv\/nfsd$/,
  },

  // where records are kept
  {
    title: 'the configuration has a mistake',
    check: 'configuration',
    verdict: 'wrong',
    make: 'echo "statedir = /srv" >> /etc/nfs.conf',
    says: /unknown key 'statedir': ignored/,
  },
  {
    title: 'the configuration leads elsewhere than at the start',
    check: 'configuration',
    verdict: 'wrong',
    make: `echo 'state-dir = /srv/../srv/state/../other' >> /etc/nfs.conf; mkdir -p /srv/other; cp -a ${state}/* /srv/other`,
    says: /has changed since the server started: the state directory would be '\/srv\/other', but until the next start it is '\/srv\/state'/,
    also: ['storage'],
  },
  {
    title: 'the state directory is missing',
    check: 'state-directory',
    verdict: 'wrong',
    make: `echo 'state-dir = /srv/state/sub' >> /etc/nfs.conf; ${noStart}`,
    says: /does not exist/,
    mended: true,
  },
  {
    title: 'the state directory is a file',
    check: 'state-directory',
    verdict: 'wrong',
    make: `umount ${state}; rmdir ${state}; echo > ${state}`,
    says: /is not a directory/,
    also: ['storage'],
  },
  {
    title: 'everybody may write to the state directory',
    check: 'state-way',
    verdict: 'wrong',
    make: `chmod 777 ${state}`,
    says: /every user can write to '\/srv\/state'.*remove them/s,
    mended: true,
  },
  {
    title: 'everybody may write to a directory above it',
    check: 'state-way',
    verdict: 'wrong',
    make: 'chmod 777 /srv',
    says: /every user can write to '\/srv', on the path/,
    mended: true,
  },
  {
    title: 'everybody may write to a directory that a link on the way leads through',
    check: 'state-way',
    verdict: 'wrong',
    make: `mkdir -p /opt/linked; chmod 777 /opt; ln -s ${state} /opt/linked/state; sed -i s:/srv/state:/opt/linked/state: /etc/nfs.conf`,
    says: /every user can write to '\/opt'/,
    mended: true,
    also: ['configuration'],
  },
  {
    title: 'a group may write to a directory above it',
    check: 'state-way',
    verdict: 'doubtful',
    make: 'chown :50 /srv; chmod 2775 /srv',
    says: /a group can write to '\/srv'/,
    mended: true,
  },
  {
    title: "the state directory is another service's, as statd's is",
    check: 'state-way',
    verdict: 'doubtful',
    make: `chown 106 ${state}`,
    says: /'\/srv\/state' belongs to another user \(106\).*not forge.*put older ones back/s,
    mend: /state-dir/,
  },
  {
    title: 'the directory above it belongs to somebody else',
    check: 'state-way',
    verdict: 'doubtful',
    make: 'chown 1000 /srv',
    says: /'\/srv' belongs to another user \(1000\)/,
  },
  {
    title: 'the directory above it belongs to somebody else, and lets no upcall pass, which has no capability',
    check: 'state-way',
    verdict: 'wrong',
    make: 'chown 1000 /srv; chmod 700 /srv',
    says: /upcalls can't pass '\/srv'/,
    mend: /^chmod o\+x \/srv$/,
  },
  {
    title: 'the run directory belongs to somebody else',
    check: 'run-directory',
    verdict: 'wrong',
    make: 'chown 1000 /run/nfsd-userland-helper',
    says: /'\/run\/nfsd-userland-helper' belongs to another user \(1000\).*can\s+remove these notes/s,
    mended: true,
  },
  {
    title: 'others may write to the run directory',
    check: 'run-directory',
    verdict: 'wrong',
    make: 'chmod 770 /run/nfsd-userland-helper',
    says: /is writable by others/,
    mended: true,
  },
  {
    title: 'a link is in the place of the run directory',
    check: 'run-directory',
    verdict: 'wrong',
    make: 'rm -rf /run/nfsd-userland-helper; ln -s /etc /run/nfsd-userland-helper',
    says: /'\/run\/nfsd-userland-helper' is not a directory/,
    mended: true,
  },
  {
    title: 'everybody may write to the directory above the run directory',
    check: 'run-directory',
    verdict: 'wrong',
    make: 'chmod 777 /run',
    says: /every user can write to '\/run', on the path to the run directory/,
    mended: true,
  },
  {
    title: 'the records belong to somebody else',
    check: 'state-directory',
    verdict: 'wrong',
    make: `chown 12 ${state}/v4clients`,
    says: /belongs to another user \(12\)/,
    mended: true,
  },
  {
    title: 'others may write records',
    check: 'state-directory',
    verdict: 'wrong',
    make: `chmod 770 ${state}/v4clients`,
    says: /writable by others/,
    mended: true,
  },
  {
    title: 'the disk is read-only',
    check: 'state-directory',
    verdict: 'wrong',
    make: `mount -o remount,ro ${state}`,
    says: /its file system is read-only/,
    mended: true,
  },
  {
    title: 'the records are immutable',
    check: 'state-directory',
    verdict: 'wrong',
    make: `chattr +i ${state}/v4clients`,
    says: /can't be written: EPERM/,
    mended: true,
  },
  {
    title: 'the records are in memory (tmpfs)',
    check: 'storage',
    verdict: 'wrong',
    make: movedTo('mount -t tmpfs none'),
    says: /is on tmpfs, mounted at '\/srv\/state'.*do not outlast/s,
  },
  {
    title: 'the records are in memory (ramfs)',
    check: 'storage',
    verdict: 'wrong',
    make: movedTo('mount -t ramfs none'),
    says: /is on ramfs/,
    also: ['room'],
  },
  {
    title: "the records are in a container's layer (overlay)",
    check: 'storage',
    verdict: 'wrong',
    make: `mkdir /elsewhere; sed -i s:/srv/state:/elsewhere: /etc/nfs.conf; cp -a ${state}/* /elsewhere; ${noStart}`,
    says: /is on overlay, mounted at '\/'/,
  },
  {
    title: 'the disk has no journal (ext4)',
    check: 'storage',
    verdict: 'wrong',
    make: anotherDisk('mkfs.ext4 -q -N 4096 -O ^has_journal'),
    says: /ext4, .*which has no journal/,
  },
  {
    title: 'the disk may reorder writes',
    check: 'storage',
    verdict: 'wrong',
    make: `mount -o remount,nobarrier ${state}`,
    says: /without write barriers/,
    mended: true,
  },
  {
    title: 'nothing makes the NFS server wait for the disk',
    check: 'mount-order',
    verdict: 'wrong',
    make: 'rm -r /etc/systemd/system/nfs-server.service.d',
    says: /nothing makes the NFS server wait/,
    mended: true,
  },
  {
    title: 'the NFS server waits for another disk',
    check: 'mount-order',
    verdict: 'wrong',
    make: "printf '[Unit]\\nRequiresMountsFor=/srv/state2 /srv\\n' > /etc/systemd/system/nfs-server.service.d/state.conf",
    says: /nothing makes the NFS server wait/,
  },
  {
    title: 'a disk of its own is mounted by who knows whom',
    check: 'mount-order',
    verdict: 'unknown',
    make: 'rm -r /run/systemd',
    says: /not run by systemd/,
  },
  {
    title: 'the service was installed for another state directory',
    check: 'service',
    verdict: 'wrong',
    make: service(''),
    says: /may not write to the state directory/,
  },
  {
    title: 'the service does not wait for the disk',
    check: 'service',
    verdict: 'wrong',
    make: service(`sed -i s:^ReadWritePaths=.*:ReadWritePaths=${state}: $unit`),
    says: /does not wait until the state directory is mounted/,
  },
  {
    title: 'the service starts when it likes',
    check: 'service',
    verdict: 'wrong',
    make: service(`sed -i s:/var/lib/nfs:${state}: $unit; sed -i /^Before=/d $unit`),
    says: /does not start before the NFS server/,
  },
  {
    title: 'nobody starts the service, and the kernel needs it',
    check: 'service',
    verdict: 'wrong',
    make: service(`sed -i s:/var/lib/nfs:${state}: $unit; rm ${parameter}`),
    says: /is not started with the NFS server/,
    mended: true,
    also: ['kernel-support', 'nfsdcld', 'pipe'],
  },
  {
    title: 'the kernel needs the service, and there is none',
    check: 'service',
    verdict: 'wrong',
    make: `rm ${parameter}`,
    says: /there is no nfsd-userland-helper.service/,
    also: ['kernel-support', 'nfsdcld', 'pipe'],
  },
  {
    title: 'there is no room',
    check: 'room',
    verdict: 'wrong',
    make: `fallocate -l 1M ${state}/fill; dd if=/dev/zero of=${state}/fill2 bs=64k status=none || true`,
    says: /KiB are free/,
    mend: /^du -xh \/srv\/state/,
  },
  {
    title: 'there are no inodes',
    check: 'room',
    verdict: 'wrong',
    make: anotherDisk('mkfs.ext4 -q -N 512'),
    says: /inodes are free.*1000 new clients/s,
  },
  {
    title: 'a record is damaged',
    check: 'records',
    verdict: 'wrong',
    make: `ln -s nonsense ${newestInstance}/bob`,
    says: /1 entry can't be understood: '.*\/bob' \(no record/,
    mend: /verify --repair/,
  },
  {
    title: 'a stranger lies among the records',
    check: 'records',
    verdict: 'doubtful',
    make: `touch ${state}/v4clients/README`,
    says: /1 entry does not belong.*README/,
  },
  {
    title: 'a record was left half-made by an upcall that was killed',
    check: 'records',
    verdict: 'doubtful',
    make: `ln -s x ${newestInstance}/%new-1-1; ln -s y ${state}/new_boot_time.12`,
    says: /2 entries do not belong/,
  },
  {
    title: 'something was set aside',
    check: 'records',
    verdict: 'doubtful',
    make: `ln -s nonsense ${newestInstance}/bob; env -i ${program} verify --repair --yes > /dev/null`,
    says: /1 entry was set aside earlier.*damaged\/.*bob/,
    mended: true,
  },
  {
    title: 'a file that is there for people says nothing',
    check: 'records',
    verdict: 'doubtful',
    make: `echo soon > ${state}/boot_time`,
    says: /1 file for people can't be understood: '\/srv\/state\/boot_time'.*They decide nothing/s,
    mend: /verify --repair/,
  },
  {
    title: "the current instance's directory was removed",
    check: 'records',
    verdict: 'wrong',
    make: `rm -r ${newestInstance}`,
    says: /missing: .*directory of the current server instance/,
  },

  // the server instance
  {
    title: 'the server was started, and that could not be recorded',
    check: 'instance',
    verdict: 'wrong',
    make: `mount -o remount,ro ${state}; upcall init || true; mount -o remount,rw ${state}; ${noStart}; for mark in /run/nfsd-userland-helper/*; do ln -sfn 1 $mark; done`,
    says: /not all that the NFS server did could be recorded/,
  },
  {
    title: 'what was recorded of the instance is damaged',
    check: 'instance',
    verdict: 'wrong',
    make: `rm ${state}/v4clients/format-2 ${state}/v4clients/*.full; echo soon > ${state}/boot_time`,
    says: /boot_time can't be understood/,
    also: ['records'],
  },
  {
    title: 'no start has been recorded yet',
    check: 'instance',
    verdict: 'doubtful',
    make: `rm -r ${state}/boot_time ${state}/v4clients`,
    says: /no server instance has been recorded yet/,
  },
  {
    title: 'clients were imported, and no start has been recorded yet',
    check: 'instance',
    verdict: 'doubtful',
    make: `rm ${state}/boot_time ${state}/v4clients/*.*`,
    says: /no server instance has been recorded yet\n.*After it 1 client may reclaim/,
  },
  {
    title: 'the kernel has left grace, and nobody told us',
    check: 'instance',
    verdict: 'wrong',
    make: `${gracePeriod}; echo Y > /srv/nfsd/v4_end_grace`,
    says: /grace is over, but instance [0-9]+ is still in grace/,
    mended: true,
  },
  {
    title: "the kernel's own tracker has left clients",
    check: 'v4recovery',
    verdict: 'wrong',
    make: `mkdir -p ${state}/v4recovery/3a7fa264b46821594e7ddb323157823b`,
    says: /has left clients in '\/srv\/state\/v4recovery'/,
    mended: true,
  },
  {
    title: "clients of the kernel's own tracker come over in this grace period",
    check: 'v4recovery',
    verdict: 'doubtful',
    make: `mkdir -p /var/lib/nfs/v4recovery/3a7fa264b46821594e7ddb323157823b; ${gracePeriod}`,
    says: /may reclaim in this grace period/,
  },

  // time
  {
    title: 'grace is shorter than a lease',
    check: 'grace-time',
    verdict: 'wrong',
    make: 'echo 10 > /srv/nfsd/nfsv4gracetime',
    says: /grace lasts 10 s, but a lease 90 s/,
    mend: /grace-time 90/,
  },
  {
    title: 'the NFS server is just starting, so that the kernel does not answer',
    check: 'grace-time',
    verdict: 'unknown',
    make: 'rm /srv/nfsd/nfsv4*; mkfifo /srv/nfsd/nfsv4gracetime /srv/nfsd/nfsv4leasetime',
    says: /just starting or stopping/,
  },
  {
    title: 'the clock is behind the last start',
    check: 'clock',
    verdict: 'doubtful',
    make: `NFSDCLTRACK_GRACE_START=$(( $(date +%s) + 90000 )); env -i NFSDCLTRACK_GRACE_START=$NFSDCLTRACK_GRACE_START ${program} init; upcall grace_done`,
    says: /ahead of the clock/,
  },
  {
    title: 'the clock is years after the last start',
    check: 'clock',
    verdict: 'doubtful',
    make: `env -i NFSDCLTRACK_GRACE_START=$(( $(date +%s) - 1000*86400 )) ${program} -f init 2> /dev/null; upcall grace_done`,
    says: /[0-9]+ days ago/,
  },
]

/** Doctor is one script, which the executable runs through Node. Only checks of the installed program itself differ. */
const faultsFor = ({ name }: Artefact): readonly Fault[] =>
  name === 'executable' ? faults : faults.filter(({ check }) => check === 'executable')

eachArtefact('doctor', (artefact) => {
  it('finds nothing wrong on a healthy machine', async () => {
    const [healthy] = await diagnose(artefact, '')
    assert.ok(healthy)
    assert.deepEqual([healthy.status, healthy.wrong], [0, []], healthy.text)
    assert.equal(healthy.text, '', 'nor anything doubtful, or that it can not see')
  })

  for (const { title, check, verdict, make, says, mend, mended, also } of faultsFor(artefact))
    it(`says that ${title}`, async () => {
      const [first, second] = await diagnose(artefact, make, mended === undefined ? undefined : check)
      assert.ok(first)
      const finding = first.of(check)
      assert.equal(finding.verdict, verdict, first.text)
      assert.match(`${finding.what}\n${finding.why ?? ''}`, says)
      assert.deepEqual(
        [...first.wrong].sort(),
        [...(verdict === 'wrong' ? [check] : []), ...(also ?? [])].sort(),
        first.text,
      )
      assert.equal(first.status, first.wrong.length > 0 ? 1 : 0)
      assert.ok(first.ms < 60_000)
      if (verdict === 'wrong') assert.ok(finding.mend !== null, 'what is wrong can be mended')
      if (mend !== undefined) assert.match(finding.mend ?? '', mend)
      if (mended !== undefined)
        assert.equal(second?.of(check).verdict, 'good', `after: ${finding.mend ?? ''}\n${second?.text ?? ''}`)
    })
})

forPeople('doctor', (artefact) => {
  it('finds nothing wrong where the server wants nfsdcld and the service that conflicts with it', async () => {
    const [prevented] = await diagnose(
      artefact,
      `${service(`sed -i s:/var/lib/nfs:${state}: $unit`)}
      mkdir -p /etc/systemd/system/nfs-server.service.wants /usr/lib/systemd/system
      ln -s ../nfsd-userland-helper.service /etc/systemd/system/nfs-server.service.wants/
      rm /etc/systemd/system/nfsdcld.service; echo x > /usr/lib/systemd/system/nfsdcld.service`,
    )
    assert.ok(prevented)
    assert.deepEqual([prevented.status, prevented.wrong], [0, []], prevented.text)
    assert.match(prevented.of('nfsdcld').what, /nfsd-userland-helper\.service keeps the NFS server from starting it/)
  })

  it('finds nothing wrong in a container: no systemd, no helper, and serve at the pipe', async () => {
    const [container] = await diagnose(
      artefact,
      `${pipeHeldBy('serve')}
      rm ${parameter} /etc/modprobe.d/nfsd-userland-helper.conf /etc/systemd/system/nfsdcld.service
      rm -r /run/systemd/system
      mkdir -p /usr/lib/systemd/system; echo x > /usr/lib/systemd/system/nfsdcld.service`,
    )
    assert.ok(container)
    assert.deepEqual([container.status, container.wrong], [0, []], container.text)
  })

  it('finds nothing wrong in a container under a kernel that names another helper: serve is asked first', async () => {
    const [container] = await diagnose(
      artefact,
      `${pipeHeldBy('serve')}
      printf '#!/bin/sh\\n' > /sbin/another; chmod 755 /sbin/another; printf /sbin/another > ${parameter}
      rm /etc/modprobe.d/nfsd-userland-helper.conf; rm -r /run/systemd/system`,
    )
    assert.ok(container)
    assert.deepEqual([container.status, container.wrong], [0, []], container.text)
  })

  it('finds nothing wrong in a container where the kernel names a file that only its host has', async () => {
    const [container] = await diagnose(
      artefact,
      `${pipeHeldBy('serve')}
      printf /host/sbin/another > ${parameter}
      rm /etc/modprobe.d/nfsd-userland-helper.conf; rm -r /run/systemd/system`,
    )
    assert.ok(container)
    assert.deepEqual([container.status, container.wrong], [0, []], container.text)
    assert.match(container.of('cltrack-prog').what, /took the pipe at which serve answers/)
  })

  it('tells people what is wrong, what follows, and what to type', async () => {
    const said = await toldToPeople(artefact, `printf '%s\\n\\n' ${program} > ${parameter}`)
    const told = `printf %s ${program} > ${parameter} && systemctl restart nfs-server.service`
    assert.ok(
      said.includes(`\nWRONG cltrack_prog ends with a newline\n      The kernel treats it as part of the name,`),
      said,
    )
    assert.ok(said.includes(`\n      > ${told}\n`), said)
    assert.match(said, /^good {2}the kernel offers usermode client tracking\n/)
    assert.match(said, /\n\n1 thing is wrong\.\n$/)
  })

  it('needs root, as the records do, and says so to other users', async () => {
    assert.match(
      await askedByNobody(artefact, 'doctor'),
      /^nfsd-userland-helper: error: doctor reads files that only root may read: run it as root\n135\n$/,
    )
    for (const [command = '', ...words] of [['selftest'], ['import', '/etc/passwd']])
      assert.equal(
        await askedByNobody(artefact, [command, ...words].join(' ')),
        `nfsd-userland-helper: error: ${command} reads files that only root may read: run it as root\n135\n`,
      )
    assert.match(
      await askedByNobody(artefact, 'list'),
      /^nfsd-userland-helper: error: '\/srv\/state\/v4clients' belongs to root, and only root may look at it\n135\n$/,
    )
    assert.match(
      await askedByNobody(artefact, 'list', 'chmod 700 /srv/state'),
      /^nfsd-userland-helper: error: lstat '\/srv\/state\/v4clients' failed: EACCES; run it as root\n135\n$/,
    )
  })

  it('says before a restart which clients will not reclaim, and why', async () => {
    const ask = (make: string): Promise<string> => commandOn(artefact, make, 'doctor --expect-recovery')
    assert.equal(
      await ask(`${pipeHeldBy('serve')}; ${liveClient(3, 'ada', 2)}`),
      '1 client will be able to reclaim after a restart, 0 will not.\n0\n',
    )
    assert.equal(
      await ask(
        `${pipeHeldBy('serve', '"not_recorded":["636964"]')}; ${liveClient(3, 'ada', 0)}; ${liveClient(4, 'bob', 0)}; ${liveClient(5, 'cid', 1)}; ${liveClient(6, 'dan', 1)}; ${liveClient(7, 'idle', 1)}; : > /srv/nfsd/clients/7/states`,
      ),
      [
        '"cid" will not reclaim: its record could not be written',
        '"bob" will not reclaim: it is not recorded: it uses NFSv4.0, and through the pipe the kernel does not report that it has reclaimed',
        '"dan" will not reclaim: it is not recorded',
        '"ada" will reclaim after the next restart, but not after the one that follows: it uses NFSv4.0',
        '2 clients will be able to reclaim after a restart, 3 will not.',
        '1\n',
      ].join('\n'),
    )
    assert.match(
      await ask(`${pipeHeldBy('serve')}; rm ${pipe}; mkfifo ${pipe}; ${liveClient(3, 'ada', 2)}`),
      /^No client can be expected to reclaim: no process holds the pipe: .*\.\n1\n$/,
    )
    assert.match(
      await ask(`${makePipe}; exec 9<> ${pipe}; ${liveClient(3, 'ada', 2)}`),
      /^No client can be expected to reclaim: the tracker is the pipe, held by .*: it does not use these records\.\n1\n$/,
    )
  })

  it('says before a restart that nobody will reclaim after a remove that failed on the disk', async () => {
    const refused = `mv ${state}/v4clients ${state}/away; : > ${state}/v4clients; upcall remove 7a6f65 || true; rm ${state}/v4clients; mv ${state}/away ${state}/v4clients`
    assert.match(
      await commandOn(
        artefact,
        `${pipeHeldBy('serve')}; ${liveClient(3, 'ada', 2)}; ${refused}`,
        'doctor --expect-recovery',
      ),
      /No client can be expected to reclaim: a server instance ran that could not be recorded, or only in part.*\n"ada" will not reclaim: no client may\n1\n$/s,
    )
  })

  for (const [what, make] of [
    ['that has no NFS server', kernelWithoutServer],
    ['of which nothing is known', kernelUnknown],
  ] as const)
    it(`proposes no tracker to a kernel ${what}, installed or not`, async () => {
      for (const more of ['', 'rm /etc/modprobe.d/nfsd-userland-helper.conf /etc/systemd/system/nfsdcld.service']) {
        const [diagnosis] = await diagnose(artefact, `${make}; ${more}`)
        assert.doesNotMatch(diagnosis?.text ?? '', /--tracker|restart nfs-server/)
      }
    })

  it('finds nothing wrong with nfsdcld if the kernel can use nothing else', async () => {
    const [only] = await diagnose(
      artefact,
      `rm ${parameter}; ${restartedWith('Using nfsdcld client tracking operations.')}; ${nfsdcldRuns()}`,
    )
    assert.deepEqual(only?.wrong, ['kernel-support'])
  })

  it('finds nothing wrong with a state directory whose name is no ASCII', async () => {
    const other = '/srv/Zustände'
    const [only] = await diagnose(
      artefact,
      `mkdir ${other}; mount --move ${state} ${other}
      sed -i s:${state}:${other}: /etc/nfs.conf /etc/systemd/system/nfs-server.service.d/state.conf; upcall init; upcall create 616461; upcall gracedone 0`,
    )
    assert.equal(only?.text, '')
  })

  it("finds nothing wrong with a sticky directory above: only root can remove root's files there", async () => {
    const [only] = await diagnose(artefact, 'chmod 1777 /srv')
    assert.equal(only?.of('state-way').verdict, 'good')
  })

  if (artefact.name === 'executable')
    it('finds nothing wrong with the executable if its Node is slow', async () => {
      const [only] = await diagnose(
        artefact,
        programIs('#!/bin/sh\n[ $1 != --help ] || exec sleep 1000\nexec REAL "$@"'),
      )
      assert.equal(only?.of('executable').verdict, 'good', only?.text)
    })
})
