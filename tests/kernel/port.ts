// A TCP port of this machine that nothing listens on.
import { createServer } from 'node:net'

export async function freePort(): Promise<number> {
  const asking = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => asking.once('listening', resolve))
  const address = asking.address()
  await new Promise((resolve) => asking.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no free port')
  return address.port
}
