/** What every command is given: where things are, and access to the system. */
import type { Settings } from '../../settings/settings.ts'
import type { Calls } from '../../syscalls/calls.ts'

export interface Context extends Settings {
  readonly calls: Calls
  /** Where rpc_pipefs is mounted, or would be. @throws Failed, if the configuration can't be read */
  readonly pipefs: () => string
}
