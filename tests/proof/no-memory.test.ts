/**
 * No memory at one allocation of an upcall and all later ones, for each allocation: no status 0, a line, and a state
 * from which the next upcall goes on. A start that has changed anything has left its mark.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { server } from '../contract/server.ts'
import { inGrace, starve, starvedProgram, starvedUpcalls } from '../contract/starved.ts'
import { artefacts, executable } from '../support/artefacts.ts'

describe('an upcall that gets no more memory, at each allocation', { skip: !artefacts().includes(executable) }, () => {
  const directory = starvedProgram()
  for (const upcall of starvedUpcalls)
    it(upcall.title, async () => {
      const s = server(executable, '/dev/shm')
      await inGrace(s)
      assert.ok((await starve(s, directory, upcall, 1)) > 50)
    })
})
