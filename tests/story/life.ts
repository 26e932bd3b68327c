/** A longer life of one server and three clients, with the verdicts that the rule gives them. */
import type { Environment } from '../support/artefacts.ts'

export interface Upcall {
  readonly words: readonly string[]
  readonly env: Environment
  readonly due: number
  readonly meaning: string
  /** The clients that the kernel must be told about in advance (`allow_client`). */
  readonly allows?: string
  /** How many seconds the machine's clock is ahead while the helper runs. */
  readonly ahead: number
}

/** One step of the story: a sentence, then what the kernel asks. */
export interface Turn {
  readonly says: string
  readonly upcalls: readonly Upcall[]
}

interface Client {
  readonly name: string
  readonly session: 'Y' | 'N'
}
const ada: Client = { name: 'Linux NFSv4.0 ada/192.0.2.1', session: 'N' }
const bob: Client = { name: 'Linux NFSv4.1 bob', session: 'Y' }
const eve: Client = { name: 'Linux NFSv4.2 eve', session: 'Y' }

const hex = ({ name }: Client): string => Buffer.from(name).toString('hex')
const session = (client: Client): Environment => ({ NFSDCLTRACK_CLIENT_HAS_SESSION: client.session })

const upcall = (words: readonly string[], env: Environment, due: number, meaning: string): Upcall => ({
  words,
  env,
  due,
  meaning,
  ahead: 0,
})

const init = (bootTime: number): Upcall =>
  upcall(['init'], { NFSDCLTRACK_GRACE_START: String(bootTime) }, 0, 'the server starts')
const create = (client: Client, bootTime: number): Upcall =>
  upcall(['create', hex(client)], { ...session(client), NFSDCLTRACK_GRACE_START: String(bootTime) }, 0, 'recorded')
const reclaims = (client: Client): Upcall => upcall(['check', hex(client)], session(client), 0, 'may reclaim')
const cannot = (client: Client): Upcall => upcall(['check', hex(client)], session(client), 255, 'may not reclaim')
const remove = (client: Client): Upcall => upcall(['remove', hex(client)], {}, 0, 'forgotten')
const graceDone = (bootTime: number): Upcall => upcall(['gracedone', String(bootTime)], {}, 0, 'grace is over')
const staleGraceDone = (bootTime: number): Upcall =>
  upcall(['gracedone', String(bootTime)], {}, 140, 'not of this instance')

const hour = 3600

export function longerLife(now: number): readonly Turn[] {
  const [first, second, third, fast, fifth] = [now - 600, now - 400, now - 300, now + hour, now + 10]
  return [
    { says: 'A first start: nobody is known, so nobody may reclaim.', upcalls: [init(first), cannot(bob)] },
    {
      says: 'Clients come. One without a session never says that it is done, so grace takes its time.',
      upcalls: [create(ada, first), create(bob, first), graceDone(first), create(eve, first)],
    },
    {
      says: 'The server restarts. The NFSv4.0 client reclaims; its check is its record.',
      upcalls: [init(second), reclaims(ada)],
    },
    {
      says: 'It crashes before grace is over. Nobody may be lost: not who had reclaimed, not who had yet to.',
      upcalls: [init(third), reclaims(ada), reclaims(bob), create(bob, third)],
    },
    {
      says: 'Eve does not return. When grace ends she loses her claim, for others may take her locks now.',
      upcalls: [graceDone(third)],
    },
    { says: 'The server restarts while its clock is an hour fast.', upcalls: [{ ...init(fast), ahead: hour }] },
    {
      says: 'The clock steps back an hour, then the clients reclaim. That must count, whatever the time says.',
      upcalls: [reclaims(ada), reclaims(bob), create(bob, fast), cannot(eve), create(eve, fast), graceDone(fast)],
    },
    {
      says: 'So the next start is earlier than the one before. Whoever reclaimed is still known.',
      upcalls: [init(fifth), reclaims(ada), reclaims(eve), create(eve, fifth)],
    },
    {
      says: "Ada's lease expires: from here on a reclaim in her name is refused.",
      upcalls: [remove(ada), cannot(ada)],
    },
    { says: 'A grace end of the instance before arrives late, and changes nothing.', upcalls: [staleGraceDone(fast)] },
    {
      says: 'Bob asks, but grace ends before he says that he is done (RECLAIM_COMPLETE): his claim is lost.',
      upcalls: [reclaims(bob), graceDone(fifth), cannot(bob)],
    },
    {
      says: 'The same state in the words of 2010: who may reclaim is told in advance, in one downcall.',
      upcalls: [
        { ...upcall(['start'], {}, 0, 'the server starts'), allows: 'Linux\\040NFSv4.2\\040eve' },
        upcall(['create_client', 'Linux\\040NFSv4.1\\040bob'], session(bob), 0, 'recorded'),
        upcall(['expire_client', 'Linux\\040NFSv4.2\\040eve'], {}, 0, 'forgotten'),
        upcall(['grace_done'], {}, 0, 'grace is over'),
      ],
    },
  ]
}
