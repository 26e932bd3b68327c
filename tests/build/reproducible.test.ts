/**
 * Two builds of the same sources give the same bytes, also in another directory, at another time, and with another
 * umask and home directory.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { copySync, ensureDirSync, removeSync } from 'fs-extra/esm'
import { engineSources } from '../../lib/build/sources.ts'
import { toolchain } from '../../lib/build/toolchain.ts'
import { artefacts, bundle, executable, root } from '../support/artefacts.ts'

/** What the build and the packages have made below dist/, by path, except files for other architectures. */
function madeIn(dist: string): Map<string, Buffer> {
  const files = [...readdirSync(dist), ...readdirSync(join(dist, 'man')).map((name) => `man/${name}`)].filter((path) =>
    /\.(?:cjs|deb|[58])$|copyright$|helper$/.test(path),
  )
  return new Map(files.sort().map((path) => [path, readFileSync(join(dist, path))]))
}

describe('a build', () => {
  ensureDirSync(join(root, '.cache'))
  const place = mkdtempSync(join(root, '.cache/reproducible-'))
  after(() => {
    removeSync(place)
  })
  const packages = artefacts().map((artefact) => (artefact === bundle ? ['--bundle'] : []))

  it('and its packages give the same bytes when they are made again elsewhere', () => {
    const other = join(place, 'another place, another name')
    for (const name of readdirSync(root))
      if (!['node_modules', 'dist', '.cache', '.git'].includes(name)) copySync(join(root, name), join(other, name))
    // As links, because it is large and only read.
    execFileSync('cp', ['-al', join(root, 'node_modules'), join(other, 'node_modules')])
    const env: NodeJS.ProcessEnv = { ...process.env, TZ: 'Asia/Kathmandu', LC_ALL: 'C.UTF-8', HOME: other }
    if (existsSync(executable.command.at(-1) ?? '')) {
      const sources = join(place, 'the engine')
      copySync(engineSources(join(root, '.cache/engine'), () => undefined).directory, sources)
      env['QUICKJS_SOURCE'] = sources
      const tools = toolchain({ sanitized: false, cache: join(root, '.cache/engine'), progress: () => undefined })
      env['MUSL_DEV'] = tools.library.root
    }
    const build = (...words: readonly string[]): void => {
      const { status, stderr } = spawnSync(
        '/bin/sh',
        ['-c', 'umask 077; exec "$@"', 'sh', process.execPath, '--import', 'tsx', ...words],
        { cwd: other, env, encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] },
      )
      assert.equal(status, 0, stderr)
    }
    build('lib/build/man.ts', 'docs/man', 'dist/man')
    build('lib/build/main.ts')
    for (const words of packages) {
      build('lib/build/deb.ts', 'dist', ...words)
      execFileSync(process.execPath, ['--import', 'tsx', 'lib/build/deb.ts', 'dist', ...words], {
        cwd: root,
        stdio: 'ignore',
      })
    }
    const [first, second] = [madeIn(join(root, 'dist')), madeIn(join(other, 'dist'))]
    assert.ok(first.size >= 7)
    assert.deepEqual([...second.keys()], [...first.keys()])
    assert.deepEqual(
      [...first].filter(([path, bytes]) => !bytes.equals(second.get(path) ?? Buffer.alloc(0))).map(([path]) => path),
      [],
      'other bytes, if the first build is of these sources',
    )
  })
})
