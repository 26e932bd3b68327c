/** The Debian package: installed, used, upgraded, removed and purged by dpkg, on a throw-away copy of this machine. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import packageJson from '../../package.json' with { type: 'json' }
import { artefacts, bundle, executable, root as repository, type Artefact } from '../support/artefacts.ts'
import { onScratchMachine } from './scratch-machine.ts'

/** A path that the throw-away machine sees too. */
function scratch(): string {
  ensureDirSync(join(repository, '.cache'))
  return mkdtempSync(join(repository, '.cache/package-'))
}

const pack = (artefact: Artefact, directory: string): string =>
  execFileSync(
    process.execPath,
    ['--import', 'tsx', join(repository, 'lib/build/deb.ts'), directory, ...(artefact === bundle ? ['--bundle'] : [])],
    { cwd: repository, encoding: 'utf8' },
  ).trim()

for (const artefact of artefacts())
  describe(`the Debian package (${artefact.name})`, () => {
    const directory = scratch()
    after(() => {
      removeSync(directory)
    })
    let deb = ''
    before(() => {
      deb = pack(artefact, directory)
    })

    // Debian 12 has no Node that is new enough, so the Node that runs the tests is linked there.
    const install = `dpkg ${artefact === bundle ? '--force-depends' : ''} --install`
    const node = artefact === bundle ? `[ -x /usr/bin/node ] || ln -s '${process.execPath}' /usr/bin/node` : ''

    // With an init script, because the modules of the machine that runs the tests are visible there.
    const nothingStarts = `printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d`

    it('installs a program that the kernel can run, and that knows it is packaged', async () => {
      const { status, output } = await onScratchMachine(`
        ${node}
        ${nothingStarts}
        rm -rf /var/lib/nfs /etc/nfs.conf /etc/nfs.conf.d
        ${install} '${deb}'
        dpkg --verify nfsd-userland-helper
        env -i /usr/sbin/nfsd-userland-helper -f init 0<&-
        cat /var/lib/nfs/new_boot_time
        /usr/sbin/nfsd-userland-helper --version
        systemd-analyze verify --man=no --recursive-errors=no nfs-server.service 2>&1 | grep nfsd-userland-helper || true
        echo ---
        /usr/sbin/nfsd-userland-helper install --dry-run`)
      assert.equal(status, 0, output)
      assert.match(
        output,
        new RegExp(
          `^\\d+\\n${packageJson.version}(?: \\(QuickJS-ng [\\d.]+\\))?\\n---\\nDry run: nothing was changed\\. .*:\\n${artefact === executable ? 'unchanged +/etc/systemd/system/nfs-server\\.service\\.wants/.*\\n' : ''}installed +/etc/systemd/system/nfsdcld\\.service\\nThe package manager keeps the files of the package\\.$`,
          'm',
        ),
      )
    })

    if (artefact === executable)
      it('does what the kernel asks on a machine without Node, and tells a person what is missing', async () => {
        const { status, output } = await onScratchMachine(`
          rm -rf /var/lib/nfs /etc/nfs.conf /etc/nfs.conf.d
          rm -f /usr/bin/node* /usr/local/bin/node*
          ${nothingStarts}
          dpkg --install '${deb}'
          for words in init 'create 616461' 'gracedone 0' init 'check 616461'; do
            env -i NFSDCLTRACK_CLIENT_HAS_SESSION=Y /usr/sbin/nfsd-userland-helper $words 0<&- 1>&- 2>&-
          done
          PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/nfsd-userland-helper -f status || echo "ended with $?"
          /usr/sbin/nfsd-userland-helper -f --help || echo "ended with $?"`)
        assert.equal(status, 0, output)
        for (const word of ['status', '--help'])
          assert.match(
            output,
            new RegExp(
              `'${word}'; help and commands for people need Node, which is not on this machine: install the package nodejs\nended with 218$`,
              'm',
            ),
          )
      })

    it('keeps a configuration file that was changed when it is upgraded or removed, and leaves nothing when it is purged', async () => {
      const { status, output } = await onScratchMachine(`
        ${node}
        ${nothingStarts}
        mkdir -p /var/lib/nfs/v4clients
        ${install} '${deb}'
        printf '[nfsd-userland-helper]\\nstate-dir = /srv/state\\n' > /etc/nfs.conf
        /usr/sbin/nfsd-userland-helper install
        test -e /etc/systemd/system/nfs-server.service.d/nfsd-userland-helper.conf
        echo '# mine' >> /etc/modprobe.d/nfsd-userland-helper.conf
        ${install} '${deb}' < /dev/null
        tail -n 1 /etc/modprobe.d/nfsd-userland-helper.conf
        dpkg --remove nfsd-userland-helper
        tail -n 1 /etc/modprobe.d/nfsd-userland-helper.conf
        ! [ -e /usr/sbin/nfsd-userland-helper ]
        dpkg --purge nfsd-userland-helper
        test -d /var/lib/nfs/v4clients
        rm /usr/sbin/policy-rc.d
        echo '--- left:'
        find /etc /usr /var -xdev -name '*nfsd-userland-helper*' ! -path '/var/log/*'
        (cd /mnt && find . -type f ! -path './var/lib/dpkg/*' ! -path './var/log/*' ! -path './var/cache/*' ! -path ./etc/nfs.conf ! -path ./etc/ld.so.cache)
        ! dpkg --status nfsd-userland-helper 2> /dev/null`)
      assert.equal(status, 0, output)
      assert.equal(output.match(/^# mine$/gm)?.length, 2, output)
      assert.doesNotMatch(output, /warning: while removing/, output)
      assert.equal(output.split('--- left:\n')[1]?.trim(), '', output)
    })

    if (artefact === executable)
      it('has an init script for machines without systemd, which is started at once if no server runs, and at each boot', async () => {
        const { status, output } = await onScratchMachine(`
          # Of this machine's own only.
          serving() { for id in $(pidof nfsd-userland-helper); do [ "$(readlink /proc/$id/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ] || echo $id; done; }
          trap 'sh /etc/init.d/nfsd-userland-helper stop 2> /dev/null || true' EXIT
          rm -rf /var/lib/nfs /etc/nfs.conf /etc/nfs.conf.d
          mkdir -p /var/lib/nfs /run/rpc_pipefs/nfsd
          mount -t tmpfs none /sys/module
          mkdir -p /sys/module/nfsd/parameters
          # No init runs here that would say so.
          printf '#!/bin/sh\\nexit 0\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
          ${install} '${deb}' > /dev/null 2>&1
          ls /etc/rc2.d | sed -n 's/^S[0-9]*nfsd-userland-helper$/starts/p'
          ls /etc/rc0.d | sed -n 's/^K[0-9]*nfsd-userland-helper$/ends/p'
          first=$(serving)
          [ -n "$first" ]
          /etc/init.d/nfsd-userland-helper status
          ${install} '${deb}' > /dev/null 2>&1
          [ -n "$(serving)" ] && [ "$(serving)" != "$first" ] && echo exchanged
          sed -i 's/tracker=auto/tracker=helper/' /etc/default/nfsd-userland-helper
          /etc/init.d/nfsd-userland-helper restart
          [ -z "$(serving)" ] && echo by choice not
          sed -i 's/tracker=helper/tracker=auto/' /etc/default/nfsd-userland-helper
          /etc/init.d/nfsd-userland-helper restart
          dpkg --remove nfsd-userland-helper > /dev/null 2>&1
          [ -z "$(serving)" ] && echo ended
          /etc/init.d/nfsd-userland-helper start && echo removed, and no fault
          dpkg --purge nfsd-userland-helper > /dev/null 2>&1
          ! ls /etc/rc?.d/*nfsd-userland-helper /etc/init.d/nfsd-userland-helper /etc/default/nfsd-userland-helper 2> /dev/null`)
        assert.equal(status, 0, output)
        assert.equal(
          output,
          'starts\nends\nnfsd-userland-helper serves the pipe\nexchanged\nby choice not\nended\nremoved, and no fault\n',
        )
      })

    if (artefact === executable)
      it('makes its init script use the tracker that install was given', async () => {
        const { status, output } = await onScratchMachine(`
          rm -rf /var/lib/nfs /etc/nfs.conf /etc/nfs.conf.d
          ${nothingStarts}
          ${install} '${deb}' > /dev/null 2>&1
          rm -f /usr/lib/systemd/systemd /lib/systemd/systemd
          PATH='${dirname(process.execPath)}':$PATH nfsd-userland-helper install --tracker=helper | grep /etc/
          grep ^tracker /etc/default/nfsd-userland-helper
          PATH='${dirname(process.execPath)}':$PATH nfsd-userland-helper install | grep /etc/ || true
          grep ^tracker /etc/default/nfsd-userland-helper`)
        assert.equal(status, 0, output)
        assert.match(output, /^updated +\/etc\/default\/nfsd-userland-helper$/m)
        assert.deepEqual(output.match(/^tracker=.*/gm), ['tracker=helper', 'tracker=auto'])
      })

    if (artefact === executable)
      it('keeps nfsdcld if that has a database, until install is told otherwise, and restores it when it is removed', async () => {
        const { status, output } = await onScratchMachine(`
          rm -rf /var/lib/nfs /etc/nfs.conf /etc/nfs.conf.d
          mkdir -p /var/lib/nfs/nfsdcld
          echo whatever > /var/lib/nfs/nfsdcld/main.sqlite
          ${nothingStarts}
          started=/etc/systemd/system/nfs-server.service.wants/nfsd-userland-helper.service
          mask=/etc/systemd/system/nfsdcld.service
          dpkg --install '${deb}' 2>&1 | grep nfsdcld
          ! [ -L $started ]
          ! [ -L $mask ]
          PATH='${dirname(process.execPath)}':$PATH nfsd-userland-helper install --no-import > /dev/null || true
          readlink $started $mask
          dpkg --install '${deb}' 2>&1 | grep nfsdcld || true
          readlink $started $mask
          dpkg --remove nfsd-userland-helper > /dev/null
          ! [ -L $mask ]
          dpkg --purge nfsd-userland-helper > /dev/null 2>&1
          ! [ -L $started ]`)
        assert.equal(status, 0, output)
        assert.match(output, /^nfsd-userland-helper: nfsdcld has a database, and keeps its place\./m)
        assert.equal(output.match(/keeps its place/g)?.length, 1, output)
        assert.equal(output.match(/^\/dev\/null$/gm)?.length, 2, output)
      })

    it('has no fault that lintian finds, except those that are explained', () => {
      const { stdout, stderr, status } = spawnSync(
        'lintian',
        [
          '--allow-root',
          '--no-tag-display-limit',
          '--display-info',
          '--pedantic',
          '--fail-on',
          'error,warning,info,pedantic',
          deb,
        ],
        { encoding: 'utf8' },
      )
      assert.deepEqual({ found: stdout.trim(), status }, { found: '', status: 0 }, stderr)
      const overrides = readFileSync(
        join(repository, `lib/build/debian/lintian-overrides-${artefact.name}`),
        'utf8',
      ).split('\n')
      for (const [at, line] of overrides.entries())
        if (line.startsWith('nfsd-userland-helper:') && !(overrides[at - 1] ?? '').startsWith('nfsd-userland-helper:'))
          assert.match(overrides[at - 1] ?? '', /^# /, `${line}: why?`)
    })

    it('names every file of /etc as a conffile, belongs to root, and needs no more than it says', () => {
      const listed = execFileSync('dpkg-deb', ['--contents', deb], { encoding: 'utf8' })
      const inEtc = [...listed.matchAll(/ \.(\/etc\/.*[^/])$/gm)].map(([, path]) => path)
      assert.deepEqual(
        execFileSync('dpkg-deb', ['--info', deb, 'conffiles'], { encoding: 'utf8' }).trim().split('\n'),
        inEtc,
      )
      assert.deepEqual(
        listed
          .trim()
          .split('\n')
          .filter((line) => !/^[-dl].{9} root\/root /.test(line)),
        [],
      )
      const field = (name: string): string =>
        execFileSync('dpkg-deb', ['--field', deb, name], { encoding: 'utf8' }).trim()
      const node = 'nodejs (>= 18.19)'
      assert.deepEqual(
        [field('Depends'), field('Recommends')],
        artefact === bundle ? [node, 'nfs-kernel-server'] : ['', `${node}, nfs-kernel-server`],
      )
      assert.ok(Number(field('Installed-Size')) < 5120, 'a few MB')
    })

    it('has the licence of everything that is linked in', () => {
      const copyright = execFileSync(
        '/bin/sh',
        ['-c', `dpkg-deb --fsys-tarfile '${deb}' | tar -xO ./usr/share/doc/nfsd-userland-helper/copyright`],
        { encoding: 'utf8' },
      )
      for (const name of [
        'quickjs-ng',
        'musl',
        'glibc',
        ...['@noble/hashes', 'fs-extra', 'node-sqlite3-wasm', 'proper-lockfile', 'yargs', 'yargs-parser'].map(
          (name) => `node_modules/${name}`,
        ),
      ])
        assert.match(copyright, new RegExp(`^Files: ${name}/\\*$`, 'm'))
      const named = new Set(
        [...copyright.matchAll(/^Files: .*\n(?:(?!License:).*\n)+License: (.*)$/gm)].map(([, license]) => license),
      )
      const told = new Set([...copyright.matchAll(/^License: (.*)\n /gm)].map(([, license]) => license))
      assert.deepEqual(named, told)
    })
  })

describe('the Debian packages', () => {
  it('have the version of the program in their changelog', () => {
    assert.match(
      readFileSync(join(repository, 'lib/build/debian/changelog'), 'utf8'),
      new RegExp(`^nfsd-userland-helper \\(${packageJson.version}\\) `),
    )
    assert.ok(existsSync(join(repository, 'LICENSE')))
  })
})
