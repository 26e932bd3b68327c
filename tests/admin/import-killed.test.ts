/**
 * An import that dies anywhere: at every call that changes the state directory, and at its end. Whoever was recorded
 * before may reclaim as before, nobody may who is in neither, and the import repeated lets everybody in.
 */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { inForeground, newMachine, scrap, settings, type Artefact, type Machine } from '../artefacts.ts'
import { done, eachArtefact, hex, mayNotReclaim } from '../contract/server.ts'
import { changing, fired, trace, type Call } from '../proof/trace.ts'
import { plant, readTree } from '../proof/trees.ts'

const source = ['ada', 'bob', 'cid']
const everybody = [...source, 'old', 'eve']

const upcall = async (artefact: Artefact, machine: Machine, words: string[]): Promise<number | string> =>
  (await inForeground(artefact, [...settings(machine), ...words], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })).status

async function mayReclaim(artefact: Artefact, machine: Machine): Promise<string[]> {
  await upcall(artefact, machine, ['init'])
  const allowed: string[] = []
  for (const owner of everybody) {
    const status = await upcall(artefact, machine, ['check', hex(owner)])
    assert.ok(status === done || status === mayNotReclaim, `check ${owner}: ${status}`)
    if (status === done) allowed.push(owner)
  }
  return allowed
}

interface Before { readonly name: string; readonly upcalls: readonly string[][]; readonly may: readonly string[]; readonly wholly: boolean }

const befores: readonly Before[] = [
  { name: 'where nothing was', upcalls: [], may: [], wholly: true },
  { name: 'into a first instance in its grace', upcalls: [['init'], ['create', hex('old')]], may: [], wholly: true },
  { name: 'into a full instance', upcalls: [['init'], ['create', hex('old')], ['grace_done']], may: ['old'], wholly: false },
  { name: 'into a server stopped in grace', upcalls: [['init'], ['create', hex('old')], ['grace_done'], ['init']], may: ['old'], wholly: false },
]

eachArtefact('an import killed', (artefact) => {
  for (const { name, upcalls, may, wholly } of befores)
    it(`${name}: nobody is let in who must not be, nobody is lost, and a repeat completes it`, async () => {
      const template = newMachine()
      const from = join(template.dir, 'clients.json')
      writeFileSync(from, JSON.stringify({
        format: 'nfsd-userland-helper clients', version: 1,
        clients: source.map((owner) => ({ owner_hex: hex(owner), session: true, recorded: 1 })),
      }))
      for (const words of upcalls) assert.equal(await upcall(artefact, template, words), done)
      const before = readTree(template.stateDir)
      const words = ['import', '--yes', from]
      const on = async <T>(work: (machine: Machine) => Promise<T>): Promise<T> => {
        const machine = newMachine()
        try {
          if (before.size > 0) plant(before, machine.stateDir)
          return await work(machine)
        } finally {
          scrap(machine)
        }
      }
      const whole = await on(async (machine) => ({ traced: await trace(artefact, [...settings(machine), ...words], {}), dir: machine.dir }))
      assert.equal(whole.traced.status, done, whole.traced.stderr)
      const last = whole.traced.calls.filter((call) => call.name === 'exit_group').slice(-1)
      const points: Call[] = [...changing(whole.traced.calls, join(whole.dir, 'state')), ...last]
      assert.ok(points.length > source.length + 1, 'the calls were seen')
      // Node is slow to start, and makes the same calls.
      for (const call of artefact.name === 'executable' ? points : points.filter((_, at) => at % 3 === 1))
        await on(async (machine) => {
          const fault = { call, what: 'signal=SIGKILL' }
          const dead = await trace(artefact, [...settings(machine), ...words], {}, fault)
          const label = `killed at ${call.name} ${call.paths.join(' ')}`
          assert.ok(fired(dead, fault, whole.dir, machine.dir), `${label}: the kill did not come there`)
          await on(async (copy) => {
            plant(readTree(machine.stateDir), copy.stateDir)
            const allowed = await mayReclaim(artefact, copy)
            const fromSource = allowed.filter((owner) => source.includes(owner))
            assert.deepEqual(allowed.filter((owner) => !source.includes(owner)), may, label)
            if (wholly) assert.ok([0, source.length].includes(fromSource.length), `${label}: ${fromSource.join()}`)
          })
          assert.equal(await upcall(artefact, machine, words), done, `${label}, then repeated`)
          assert.deepEqual(await mayReclaim(artefact, machine), [...source, ...may], `${label}, then repeated`)
        })
      scrap(template)
    })
})
