/**
 * The executable for other architectures, built here and run in an emulator: npm run test:architectures
 * [ARCHITECTURE...]
 *
 * They play the life of a server, on 64 and on 32 bits, and with the other byte order. On arm64, which is meant for
 * servers, they also run the contract tests of upcalls, except those that look inside the process, because that is the
 * emulator's.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { root } from '../support/artefacts.ts'

const contract = ['transitions', 'owners', 'bad-input', 'downcalls', 'settings', 'no-room'].map(
  (name) => `tests/contract/${name}.test.ts`,
)
const life = 'tests/story/main.ts'

const architectures = process.argv.length > 2 ? process.argv.slice(2) : ['arm64', 'armhf', 's390x']

for (const architecture of architectures) {
  run(architecture, 'lib/build/main.ts', `--arch=${architecture}`)
  run(architecture, life)
  if (architecture === 'arm64') run(architecture, '--test', '--test-concurrency=2', ...contract)
}

function run(architecture: string, ...words: readonly string[]): void {
  console.log(`${architecture}: ${words.join(' ')}`)
  const env = { ...process.env, EXECUTABLE_FOR: architecture, ARTEFACT: 'executable' }
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', ...words], {
    cwd: join(root),
    env,
    stdio: 'inherit',
  })
  if (status !== 0) process.exit(1)
}
