/**
 * Carries out requests when they come, and again if the storage refused them (unfinished.ts says why). A retry is right
 * at any time, because every transition may be repeated, but only in the instance in which the request was made.
 */
import { perform, performTogether } from '../events/perform.ts'
import { lookAt } from '../store/state-directory.ts'
import type { Asked, ClientRequest } from '../upcall/request.ts'
import type { Server } from './server.ts'
import { isStorageFailure } from './unfinished.ts'

/** The current instance; undefined, if there is none, or the disk can't be read. */
export function currentInstance(server: Server): number | undefined {
  try {
    return server.withWorld(server.nfsd, ({ state }) => {
      const { instance } = lookAt(state)
      return 'start' in instance ? instance.start : undefined
    })
  } catch {
    return undefined
  }
}

/**
 * Carries out requests. @returns the outcome of each: undefined, or why it failed. If none could be tried, the reason
 * is the outcome of all
 */
export function attempt(
  server: Server,
  requests: readonly ClientRequest[],
  first: number | 'again',
): readonly unknown[] {
  try {
    server.instance.assure(first)
    return server.withWorld(server.nfsd, performTogether, requests)
  } catch (thrown) {
    return requests.map(() => thrown)
  }
}

/** So many requests are retried together, with one barrier. Messages that come meanwhile wait no longer than that. */
const mostTogether = 64

/**
 * Retries what the storage refused, but not in another instance that an upcall has begun meanwhile: there it would
 * record a client that has not come back, or end a grace period that is not over.
 * @returns whether to go on: the storage works again, and more is left
 */
export function tryAgain(server: Server): boolean {
  const { unfinished, log } = server
  const requests = unfinished.next(mostTogether)
  if (requests.length === 0) return false
  if (isNotAssured(server)) {
    unfinished.postpone()
    return false
  }
  const current = currentInstance(server)
  const due: Asked[] = []
  for (const request of requests)
    if (unfinished.isOfAnother(request, current)) {
      server.settled(request)
      log.warning(`${request.event}, which had failed, is not tried again: another server instance has begun`)
    } else due.push(request)
  let works = due.length < requests.length
  const outcomes = outcomesOf(server, due)
  for (const request of due) {
    const outcome = outcomes.get(request)
    if (outcome !== undefined && isStorageFailure(outcome)) {
      unfinished.putOff(request)
      continue
    }
    works = true
    server.settled(request)
    log.notice(`${request.event}, which had failed, is done`)
  }
  if (works) unfinished.hasten()
  else unfinished.postpone()
  server.keepUnfinished()
  const goesOn = works && unfinished.count() > 0
  if (!goesOn) server.tellStatus()
  return goesOn
}

/** Carries out requests of different clients, and an end of grace. @returns why those that failed did */
function outcomesOf(server: Server, requests: readonly Asked[]): ReadonlyMap<Asked, unknown> {
  const ofClients = requests.filter((request) => request.event === 'create' || request.event === 'remove')
  const failures = attempt(server, ofClients, 'again')
  const outcomes = new Map<Asked, unknown>(ofClients.map((request, at) => [request, failures[at]]))
  // Last, so that a kill in between leaves no client without its record in a full instance.
  for (const request of requests)
    if (request.event === 'grace-done')
      outcomes.set(
        request,
        outcomeOf(() => {
          server.withWorld(server.nfsd, (world) => {
            perform(world, request)
          })
        }),
      )
  return outcomes
}

const isNotAssured = ({ instance }: Server): boolean =>
  outcomeOf(() => {
    instance.assure('again')
  }) !== undefined

function outcomeOf(work: () => void): unknown {
  try {
    work()
    return undefined
  } catch (thrown) {
    return thrown
  }
}
