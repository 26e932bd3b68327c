/** `npm pack` and `npm install -g` deliver the program, and nothing that it does not need. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { removeSync } from 'fs-extra/esm'
import packageJson from '../../package.json' with { type: 'json' }
import { asKernel, bundle, newMachine, root as repository, scrap, settings } from '../support/artefacts.ts'

/** Without a network, and without the build scripts: what is built already is packed. */
const npm = (directory: string, ...words: readonly string[]): string =>
  execFileSync('npm', [...words, '--ignore-scripts', '--offline', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: directory,
    encoding: 'utf8',
  })

describe('the npm package', () => {
  const directory = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-npm-'))
  after(() => {
    removeSync(directory)
  })
  const [packed] = JSON.parse(npm(repository, 'pack', '--json', '--pack-destination', directory)) as [
    { readonly filename: string; readonly files: readonly { readonly path: string }[] },
  ]

  it('has the program, its licences and its pages, and no figures of benchmarks', () => {
    const files = packed.files.map(({ path }) => path)
    assert.deepEqual(files.filter((path) => !/^docs\/(?:man\/)?[\w.-]+\.md$/.test(path)).sort(), [
      'LICENSE',
      'README.md',
      'dist/copyright',
      'dist/nfsd-userland-helper.cjs',
      'dist/people.cjs',
      'dist/sqlite.cjs',
      'docs/pictures/start.svg',
      'package.json',
    ])
    assert.ok(files.includes('docs/man/nfsd-userland-helper.8.md'))
  })

  it('needs no other package: all is built in', () => {
    assert.deepEqual(
      Object.keys(packageJson).filter((key) => /dependencies$/i.test(key)),
      ['devDependencies'],
    )
  })

  it('installs without a network, in a few MB, and runs', async () => {
    const prefix = join(directory, 'prefix')
    npm(directory, 'install', '--global', '--prefix', prefix, join(directory, packed.filename))
    const modules = join(prefix, 'lib/node_modules')
    assert.deepEqual(readdirSync(modules), ['nfsd-userland-helper'])
    const sizes = (readdirSync(modules, { recursive: true }) as string[]).map(
      (path) => statSync(join(modules, path)).size,
    )
    assert.ok(sizes.reduce((sum, size) => sum + size, 0) < 3_500_000)
    const program = join(prefix, 'bin/nfsd-userland-helper')
    const words = (...said: readonly string[]): string => execFileSync(program, said, { encoding: 'utf8', cwd: '/' })
    assert.equal(words('--version').trim(), packageJson.version)
    assert.match(words('doctor', '--help'), /everything that recovery depends on/)
    const machine = newMachine()
    try {
      const command = [process.execPath, program]
      for (const verb of ['init', 'create', 'gracedone'])
        assert.equal(
          (
            await asKernel(
              { ...bundle, command },
              [...settings(machine), verb, ...({ create: ['616461'], gracedone: ['0'] }[verb] ?? [])],
              {},
            )
          ).status,
          0,
          verb,
        )
      assert.match(words('-s', machine.stateDir, '--config', '/dev/null', 'list'), / "ada"$/m)
    } finally {
      scrap(machine)
    }
  })
})
