// What `install` puts in place, with a real udevd, real loads of the real module, and a server that starts afterwards.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { helperParameter } from '../../../lib/kernel/nfsd-module.ts'
import type { Guest } from '../guest.ts'
import { repository } from '../image.ts'
import type { Story } from '../story.ts'

const installed = '/usr/sbin/nfsd-userland-helper'
const lsb = join(repository, 'udev/init.d/lsb-init.sh')
/** Seconds. Node starts slowly in an emulator, and doctor runs the program several times. */
const patience = 240
const kernelsOwn = '/sbin/nfsdcltrack'

const startUdev = '/lib/systemd/systemd-udevd --daemon; udevadm settle'
/**
 * A new udevd reads the rules anew. The old one is ended by a signal, because a message of `udevadm control` may be
 * lost, and its status is still 0: udevd 252 asks for the sender's credentials only after it has accepted
 * (SO_PASSCRED), and ignores a message that was sent before that.
 */
const endUdev = 'kill $(pidof systemd-udevd); while pidof systemd-udevd > /dev/null; do sleep 0.1; done'

/** The parameter as sysfs shows it: its value and a newline. With a newline in the value there would be two. */
const named = (program: string): string => `${program}\n`

export const moduleLoad: Story = {
  name: 'module-load',
  title: 'Once installed, the helper is what nfsd runs, however nfsd came to be loaded',
  alone: async ({ boot, claim, helper }) => {
    const guest = await boot({ name: 'module-load', disks: [] })
    await guest.run(`
      rm -rf /etc/nfs.conf /etc/nfs.conf.d /var/lib/nfs/v4clients /var/lib/nfs/*boot_time
      ! grep -q '^nfsd ' /proc/modules
      ${startUdev}`)
    const load = async (words: string): Promise<string> => {
      await unload(guest)
      await guest.run(`modprobe ${words} nfsd; udevadm settle`)
      return parameter(guest)
    }
    const instances = () => guest.run('ls /var/lib/nfs/v4clients | grep -E "[.](partial|full)$"')
    const withoutConfiguration = '--config=/dev/null'

    await claim('before the installation the kernel has its own idea of a helper', async () => {
      assert.equal(await load(''), named(kernelsOwn))
    })
    await claim('install, run as root, names the helper at once when no server runs', async () => {
      const said = await guest.run(`'${helper.program}' install`, patience)
      assert.match(said, /^installed +\/usr\/sbin\/nfsd-userland-helper$/m)
      assert.match(said, /^done: printf %s/m)
      assert.match(said, /^good +the kernel calls '\/usr\/sbin\/nfsd-userland-helper'$/m, 'doctor has the last word')
      assert.equal(await parameter(guest), named(installed))
    })
    await claim("udev names it when the module is loaded without modprobe's configuration", async () => {
      await guest.run(`${endUdev}; ${startUdev}`)
      assert.equal(await load(withoutConfiguration), named(installed))
    })
    await claim('udev names it at the coldplug, when the module was there before udev', async () => {
      await guest.run(`printf %s ${kernelsOwn} > ${helperParameter}`)
      await guest.run('udevadm trigger --type=subsystems --action=add; udevadm settle')
      assert.equal(await parameter(guest), named(installed))
    })
    await claim('udevadm test reads the rule without complaint, and would write the parameter', async () => {
      const said = await guest.run('udevadm test --action=add /sys/module/nfsd 2>&1')
      assert.match(said, /Reading rules file: \/etc\/udev\/rules\.d\/60-nfsd-userland-helper\.rules/)
      assert.doesNotMatch(said, /60-nfsd-userland-helper\.rules:\d+.*(?:[Ii]nvalid|[Uu]nknown|ignor|[Ff]ailed)/)
      assert.match(said, /60-nfsd-userland-helper\.rules:\d+ ATTR/)
    })
    await claim('without the rule udev names nothing: it was the rule', async () => {
      await guest.run(`mv /etc/udev/rules.d/60-nfsd-userland-helper.rules /root/; ${endUdev}; ${startUdev}`)
      assert.equal(await load(withoutConfiguration), named(kernelsOwn))
    })
    await claim('modprobe names it where there is no udev', async () => {
      await guest.run(endUdev)
      assert.equal(await load(''), named(installed))
    })
    await claim('the init script names it where there is neither', async () => {
      await unload(guest)
      await guest.run(`mv /etc/modprobe.d/nfsd-userland-helper.conf /root/
        sh '${lsb}' start; sh '${lsb}' status`)
      assert.equal(await parameter(guest), named(installed))
      await guest.run(`printf %s ${kernelsOwn} > ${helperParameter}`)
      assert.equal((await guest.attempt(`sh '${lsb}' status`)).status, 3)
      await guest.run(`sh '${lsb}' restart`)
      assert.equal(await parameter(guest), named(installed))
    })
    await claim('a server that starts now runs it, and it records its instance', async () => {
      await guest.run(`mount -t nfsd nfsd /proc/fs/nfsd; ip link set lo up; dmesg --clear; rpc.nfsd -N 3 1`, 120)
      assert.match(await guest.run('dmesg --notime'), /Using UMH upcall client tracking operations/)
      assert.match(await instances(), /^\d+\.partial\n$/)
    })
    await claim('under a running server nobody is told anything: that takes effect at its next start', async () => {
      await guest.run(`printf %s ${kernelsOwn} > ${helperParameter}`)
      assert.match(await guest.run(`${installed} install`, patience), /^not while 1 nfsd threads run.*: printf/m)
      assert.equal(await parameter(guest), named(kernelsOwn))
    })
    await claim(
      'uninstall takes all of it away, gives the kernel its own idea back, and keeps the records',
      async () => {
        await guest.run('rpc.nfsd 0', 120)
        await guest.run(
          `mv /root/60-nfsd-userland-helper.rules /etc/udev/rules.d/; mv /root/nfsd-userland-helper.conf /etc/modprobe.d/`,
        )
        await guest.run(`printf %s ${installed} > ${helperParameter}; ${installed} uninstall`, patience)
        assert.equal(await parameter(guest), named(kernelsOwn))
        assert.equal(
          await guest.run(
            'find /etc /usr/sbin /usr/lib/nfsd-userland-helper /usr/share/man /usr/share/zsh /usr/share/bash-completion -name "*nfsd-userland-helper*" 2> /dev/null || true',
          ),
          '',
        )
        assert.match(await instances(), /^\d+\.partial\n$/)
      },
    )
  },
}

const parameter = (guest: Guest): Promise<string> => guest.run(`cat ${helperParameter}`)

async function unload(guest: Guest): Promise<void> {
  await guest.run(`! mountpoint -q /proc/fs/nfsd || umount /proc/fs/nfsd
    ! grep -q '^nfsd ' /proc/modules || modprobe -r nfsd`)
}
