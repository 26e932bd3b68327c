interface Room {
  readonly room: string
  readonly question: string
  readonly packages: readonly string[]
  readonly apart: readonly string[]
}
export const rooms: readonly Room[]
export const exceptions: readonly {
  readonly file: string
  readonly packages: readonly string[]
  readonly why: string
}[]
export function roomOf(path: string): Room | undefined
export const globals: readonly string[]
export function forbiddenGlobal(file: string, name: string): string | undefined
export function forbidden(file: string, imported: string): string | undefined
