/** The texts that are installed, as they are in the repository. They become part of the program when it is built. */
import page5 from '../../../dist/man/nfsd-userland-helper.5'
import page8 from '../../../dist/man/nfsd-userland-helper.8'
import lsb from '../../../udev/init.d/lsb-init.sh'
import initSettings from '../../../udev/init.d/nfsd-userland-helper.conf'
import openrc from '../../../udev/init.d/openrc-init.sh'
import modprobe from '../../../udev/modprobe.d/nfsd-userland-helper.conf'
import udevRule from '../../../udev/rules.d/60-nfsd-userland-helper.rules'
import dropIn from '../../../udev/systemd/nfs-server.conf'
import service from '../../../udev/systemd/nfsd-userland-helper.service'
import tmpfiles from '../../../udev/tmpfiles.d/nfsd-userland-helper.conf'

export interface Texts {
  readonly udevRule: string
  readonly modprobe: string
  readonly tmpfiles: string
  readonly dropIn: string
  readonly service: string
  readonly lsb: string
  readonly openrc: string
  readonly initSettings: string
  readonly page8: string
  readonly page5: string
}

export const embedded: Texts = {
  udevRule,
  modprobe,
  tmpfiles,
  dropIn,
  service,
  lsb,
  openrc,
  initSettings,
  page8,
  page5,
}
