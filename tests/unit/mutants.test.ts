import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { bundleForEngine } from '../../lib/build/bundles.ts'
import { mutated, mutations, type Mutant } from '../proof/mutants.ts'

const program = await bundleForEngine()

describe('the faults that the proofs must find', () => {
  for (const name of Object.keys(mutations) as Mutant[])
    it(`can be built into the program: ${name}`, () => {
      assert.notEqual(mutated(name, program), program)
    })
})
