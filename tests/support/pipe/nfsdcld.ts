/** The tracker of nfs-utils at an acted pipe. */
import { spawn } from 'node:child_process'

export interface Daemon {
  readonly pid: number
  /** Ends it by a SIGTERM, and waits until it is gone. */
  readonly stop: () => Promise<void>
  /** SIGKILL. */
  readonly kill: () => Promise<void>
}

/** @param pipes what stands for rpc_pipefs. @param storage the directory of its database, which must be there. */
export function runNfsdcld(pipes: string, storage: string): Daemon {
  const child = spawn('/usr/sbin/nfsdcld', ['-F', '-p', pipes, '-s', storage], { cwd: '/', env: {}, stdio: 'ignore' })
  const gone = new Promise<void>((resolve, reject) =>
    child.once('error', reject).once('exit', () => {
      resolve()
    }),
  )
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal)
    await gone
  }
  return { pid: child.pid ?? 0, stop: () => end('SIGTERM'), kill: () => end('SIGKILL') }
}
