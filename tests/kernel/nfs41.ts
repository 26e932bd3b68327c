// The smallest NFSv4.1 client that a server takes seriously (RFC 8881): one connection, one session with one slot,
// and only the operations by which a client is recorded and reclaims.
import { createConnection, type Socket } from 'node:net'

export const NFS4_OK = 0
export const NFS4ERR_DELAY = 10008
export const NFS4ERR_RECLAIM_BAD = 10034

/** Seconds. Two hundred that come at once wait minutes for the last of their upcalls. */
const patience = 300

export interface Owner {
  /** EXCHANGE_ID, CREATE_SESSION, and GETATTR of the root. */
  readonly connect: () => Promise<void>
  /** OPEN with CLAIM_PREVIOUS of a file in the root: the server's status. */
  readonly reclaims: (file: string) => Promise<number>
  /** RECLAIM_COMPLETE: the server's status. Only a client that has sent it is recorded. */
  readonly completes: () => Promise<number>
  readonly disconnect: () => void
}

const word = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}
const opaque = (bytes: Buffer) => Buffer.concat([word(bytes.length), bytes, Buffer.alloc(-bytes.length & 3)])
const text = (value: string) => opaque(Buffer.from(value))
const xdr = (...parts: (number | Buffer)[]) =>
  Buffer.concat(parts.map((part) => (typeof part === 'number' ? word(part) : part)))

const channel = (requests: number) => xdr(0, 8192, 8192, 1024, 8, requests, 0)
const authSys = xdr(1, opaque(xdr(0, text('storm'), 0, 0, 0)))
const authNone = xdr(0, 0)

/** The verifier tells one life of a client from the next. It stays: the storm survives its server's restart. */
const verifier = Buffer.from('onelife!')

export function owner(port: number, name: string): Owner {
  let socket: Socket | undefined
  let received = Buffer.alloc(0)
  let answer: { resolve: (reply: Buffer) => void; reject: (error: Error) => void } | undefined
  let xid = 0
  let clientId = Buffer.alloc(8)
  let session = Buffer.alloc(16)
  let sequence = 0

  /** One call at a time. Returns the results of the operations, after the compound's own status. */
  const compound = async (...operations: Buffer[]): Promise<{ status: number; results: Buffer }> => {
    const reply = await new Promise<Buffer>((resolve, reject) => {
      const late = setTimeout(() => {
        reject(new Error(`${name}: the server has not answered for ${patience} s`))
      }, patience * 1000)
      answer = {
        resolve: (bytes) => {
          clearTimeout(late)
          resolve(bytes)
        },
        reject: (error) => {
          clearTimeout(late)
          reject(error)
        },
      }
      const call = xdr(++xid, 0, 2, 100003, 4, 1, authSys, authNone, text(''), 1, operations.length, ...operations)
      socket?.write(xdr(0x80000000 | call.length, call))
    })
    // xid, REPLY, MSG_ACCEPTED, the server's verifier, SUCCESS, then COMPOUND4res.
    const verifierEnds = 12 + 8 + reply.readUInt32BE(16)
    if (reply.readUInt32BE(8) !== 0 || reply.readUInt32BE(verifierEnds) !== 0)
      throw new Error(`${name}: the RPC was not accepted`)
    const status = reply.readUInt32BE(verifierEnds + 4)
    const tagEnds = verifierEnds + 12 + ((reply.readUInt32BE(verifierEnds + 8) + 3) & ~3)
    return { status, results: reply.subarray(tagEnds + 4) }
  }
  const inSession = async (...operations: Buffer[]): Promise<number> =>
    (await compound(xdr(53, session, ++sequence, 0, 0, 0), ...operations)).status
  const must = async (what: string, call: ReturnType<typeof compound>): Promise<Buffer> => {
    const { status, results } = await call
    if (status !== NFS4_OK) throw new Error(`${name}: ${what}: status ${status}`)
    return results
  }

  return {
    connect: async () => {
      received = Buffer.alloc(0)
      socket = createConnection(port, '127.0.0.1')
      socket.on('data', (bytes) => {
        received = Buffer.concat([received, bytes])
        const length = received.length < 4 ? Infinity : received.readUInt32BE(0) & 0x7fffffff
        if (received.length < 4 + length) return
        const reply = received.subarray(4, 4 + length)
        received = received.subarray(4 + length)
        answer?.resolve(reply)
      })
      const lost = (error?: Error) => {
        answer?.reject(error ?? new Error(`${name}: the server closed the connection`))
      }
      socket.on('error', lost)
      socket.on('close', () => {
        lost()
      })

      const exchanged = await must('EXCHANGE_ID', compound(xdr(42, verifier, text(name), 0, 0, 0)))
      clientId = Buffer.from(exchanged.subarray(8, 16))
      const created = await must(
        'CREATE_SESSION',
        compound(xdr(43, clientId, exchanged.subarray(16, 20), 0, channel(1), channel(1), 0x40000000, 1, 0)),
      )
      session = Buffer.from(created.subarray(8, 24))
      sequence = 0
      // Newer kernels close connections that have shown access to no file, if there are more than 64 of them.
      const looked = await inSession(word(24), xdr(9, 1, 2))
      if (looked !== NFS4_OK) throw new Error(`${name}: GETATTR: status ${looked}`)
    },
    reclaims: (file) => inSession(word(24), xdr(15, text(file)), xdr(18, 0, 1, 0, clientId, text('storm'), 0, 1, 0)),
    completes: () => inSession(xdr(58, 0)),
    disconnect: () => {
      socket?.destroy()
    },
  }
}
