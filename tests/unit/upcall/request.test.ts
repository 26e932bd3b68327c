import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Failed } from '../../../lib/failure.ts'
import { parseRequest } from '../../../lib/upcall/request.ts'
import { isVerb, verbs, type Verb } from '../../../lib/upcall/verbs.ts'

const topDirectory = '/var/lib/nfs/v4recovery'
const recDirectory = `${topDirectory}/3a7fa264b46821594e7ddb323157823b`

describe('an upcall', () => {
  it('is the same in both dialects', () => {
    for (const [thread, linux, threadWord, linuxWord] of [
      ['start', 'init', undefined, undefined],
      ['create_client', 'create', 'ada', '616461'],
      ['expire_client', 'remove', 'ada', '616461'],
    ] as const)
      assert.deepEqual(
        parseRequest(thread, threadWord === undefined ? [] : [threadWord], {}),
        parseRequest(linux, linuxWord === undefined ? [] : [linuxWord], {}),
      )
  })

  it('as recorded from a real kernel is understood', () => {
    assert.deepEqual(parseRequest('init', [], { NFSDCLTRACK_GRACE_START: '1795328616' }).request, {
      event: 'start',
      kernelBootTime: '1795328616',
    })
    const { request, ignored } = parseRequest('check', ['61'], {
      NFSDCLTRACK_CLIENT_HAS_SESSION: 'N',
      NFSDCLTRACK_LEGACY_RECDIR: recDirectory,
    })
    assert.deepEqual(request, {
      event: 'check',
      owner: Uint8Array.of(0x61),
      session: 'no session',
      legacyRecord: recDirectory,
    })
    assert.deepEqual(ignored, [])
    assert.deepEqual(parseRequest('gracedone', ['1795328616'], { NFSDCLTRACK_LEGACY_TOPDIR: topDirectory }).request, {
      event: 'grace-done',
      kernelBootTime: '1795328616',
      legacyTop: topDirectory,
    })
  })

  for (const [told, meant] of [
    [`${topDirectory}/`, topDirectory],
    [`${topDirectory}//`, topDirectory],
    ['/', '/'],
  ] as const)
    it(`takes ${told} for the directory ${meant}`, () => {
      const { request } = parseRequest('gracedone', ['5'], { NFSDCLTRACK_LEGACY_TOPDIR: told })
      assert.ok(request.event === 'grace-done')
      assert.equal(request.legacyTop, meant)
    })

  it('without environment variables is understood: each is optional', () => {
    for (const verb of Object.keys(verbs) as Verb[]) {
      const { takes } = verbs[verb]
      const words = takes === 'nothing' ? [] : [takes === 'boot-time' ? '5' : '61']
      assert.deepEqual(
        parseRequest(verb, words, {}),
        parseRequest(verb, words, { NFSDCLTRACK_GRACE_START: '', HOME: '/' }),
      )
    }
  })

  it('reports the variables that it can not understand, and treats them as absent', () => {
    const { request, ignored } = parseRequest('create', ['61'], {
      NFSDCLTRACK_CLIENT_HAS_SESSION: 'y',
      NFSDCLTRACK_GRACE_START: '0x10',
    })
    assert.deepEqual(ignored.toSorted(), ['NFSDCLTRACK_CLIENT_HAS_SESSION', 'NFSDCLTRACK_GRACE_START'])
    assert.deepEqual(request, parseRequest('create', ['61'], {}).request)
  })

  for (const path of [
    'relative/3a7fa264b46821594e7ddb323157823b',
    `${topDirectory}/../v4recovery/3a7fa264b46821594e7ddb323157823b`,
    `${recDirectory}/`,
    recDirectory.toUpperCase(),
    `${topDirectory}/etc`,
    '/3a7fa264b46821594e7ddb323157823b',
  ])
    it(`${path} is not taken for the directory of the kernel's own tracker`, () => {
      assert.deepEqual(parseRequest('check', ['61'], { NFSDCLTRACK_LEGACY_RECDIR: path }).ignored, [
        'NFSDCLTRACK_LEGACY_RECDIR',
      ])
    })

  for (const word of ['', ' 5', '5 ', '05', '+5', '-5', '0x5', '5e1', '5.0', '9223372036854775808', '∞'])
    it(`a boot time of ${JSON.stringify(word)} is refused`, () => {
      assert.throws(() => parseRequest('gracedone', [word], {}), Failed)
    })

  it('has one of the known verbs, and never a property name that every object has', () => {
    for (const word of ['constructor', '__proto__', 'toString', 'INIT', '']) assert.ok(!isVerb(word), word)
  })
})
