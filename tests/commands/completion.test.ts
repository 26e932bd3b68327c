/** Completion by the shells' TAB key, in an interactive shell on a terminal of its own. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import { done, forPeople } from '../contract/server.ts'
import { artefacts } from '../support/artefacts.ts'
import { say } from './scratch.ts'

const home = mkdtempSync(join(tmpdir(), 'completion-'))
after(() => {
  removeSync(home)
})
mkdirSync(join(home, 'state-one'))
writeFileSync(join(home, 'file-two'), '')

/** Prints a prompt when it reads keys. ^G shows the current line. */
const prompt = 'READY'

function inBash(script: string, typed: string): Promise<string> {
  writeFileSync(join(home, 'completion.bash'), script)
  writeFileSync(
    join(home, 'bashrc'),
    `source completion.bash
show() { printf 'LINE<%s>\\n' "$READLINE_LINE"; READLINE_LINE=; }; bind -x '"\\C-g": show'; bind 'set bell-style none'; PS1=${prompt}\n`,
  )
  return typedInto(`bash --noprofile --rcfile ${join(home, 'bashrc')} -i`, typed)
}

function inZsh(script: string, typed: string): Promise<string> {
  ensureDirSync(join(home, 'functions'))
  writeFileSync(join(home, 'functions/_nfsd-userland-helper'), script)
  writeFileSync(
    join(home, '.zshrc'),
    `unsetopt zle_bracketed_paste prompt_sp; setopt no_auto_menu no_beep
fpath=(${home}/functions $fpath); autoload -Uz compinit; compinit -u -d ${home}/dump
show() { print -r -- "LINE<$BUFFER>"; BUFFER=; }; zle -N show; bindkey '^G' show; bindkey '^I' expand-or-complete; PS1=${prompt}\n`,
  )
  return typedInto('zsh -i', typed)
}

/** Types a line and TAB into a shell, to which script(1) gives a terminal. @returns the line afterwards. */
function typedInto(shell: string, typed: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('script', ['-q', '-c', shell, '/dev/null'], {
      cwd: home,
      env: { HOME: home, ZDOTDIR: home, TERM: 'dumb', PATH: process.env['PATH'] ?? '' },
      stdio: ['pipe', 'pipe', 'ignore'],
      timeout: 600_000,
      killSignal: 'SIGKILL',
    })
    let seen = ''
    let asked = false
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      seen += text
      if (!asked && seen.includes(prompt)) {
        asked = true
        child.stdin.write(`${typed}\t\x07`)
      }
      const line = /LINE<([^>]*)>/.exec(seen)?.[1]
      if (line === undefined) return
      child.kill()
      resolve(line)
    })
    child.once('error', reject)
    child.once('close', () => {
      reject(new Error(`the shell showed no line: ${seen}`))
    })
  })
}

forPeople('completion', (artefact) => {
  it('is printed for each shell, and is the same from both artefacts', async () => {
    for (const shell of ['bash', 'zsh']) {
      const { status, stdout } = await say(artefact, 'completion', shell)
      assert.equal(status, done)
      for (const other of artefacts()) assert.equal((await say(other, 'completion', shell)).stdout, stdout)
      assert.equal(spawnSync(shell, ['-n'], { input: stdout }).status, 0)
    }
  })
})

for (const [shell, complete] of [
  ['bash', inBash],
  ['zsh', inZsh],
] as const)
  describe(`the TAB key in ${shell}`, () => {
    const [artefact] = artefacts()
    const completed = async (typed: string): Promise<string> => {
      assert.ok(artefact !== undefined)
      return (await complete((await say(artefact, 'completion', shell)).stdout, typed)).trimEnd()
    }
    const cases: readonly (readonly [typed: string, line: string])[] = [
      ['selft', 'selftest'],
      ['gracedo', 'gracedone'],
      ['uninst', 'uninstall'],
      ['install --dr', 'install --dry-run'],
      ['completion z', 'completion zsh'],
      ['--foreg', '--foreground'],
      ['-s state-', '-s state-one/'],
      ['-s state-one unin', '-s state-one uninstall'],
      ['install --root st', 'install --root state-one/'],
      ['--config file', '--config file-two'],
      ['export --to nfsdcltr', 'export --to nfsdcltrack'],
      ['export --to json -o file', 'export --to json -o file-two'],
      ['import file', 'import file-two'],
      ['verify --rep', 'verify --repair'],
    ]
    for (const [typed, line] of cases)
      it(`completes '${typed}'`, async () => {
        assert.equal(await completed(`nfsd-userland-helper ${typed}`), `nfsd-userland-helper ${line}`)
      })

    it('offers nothing that does not exist', async () => {
      assert.equal(await completed('nfsd-userland-helper install --frob'), 'nfsd-userland-helper install --frob')
    })
  })
