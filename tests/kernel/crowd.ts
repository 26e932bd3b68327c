// Many recorded clients that never came: they are put into the store while no server runs.
import { writeFileSync } from 'node:fs'
import { join as path } from 'node:path'
import { recordLine, recordName } from '../../lib/rules/record.ts'
import type { ClientOwner } from '../../lib/upcall/owner.ts'
import type { Server } from './server.ts'
import type { Ground } from './story.ts'

export const nameOf = (number: number): string => `Linux NFSv4.1 host${String(number).padStart(7, '0')}`

/** Adds so many clients to the store, as if they had come. */
export async function plant(
  { directory, note }: Ground,
  { guest, tracker, stateDirectory }: Server,
  crowd: number,
): Promise<void> {
  const since = Date.now()
  if (tracker === 'nfsdcld') {
    const database = `${stateDirectory}/nfsdcld/main.sqlite`
    await guest.run(
      `
      table=$(sqlite3 ${database} "select printf('[rec-%016x]', current) from grace")
      sqlite3 ${database} "with recursive n(i) as (select 0 union all select i + 1 from n where i < ${crowd - 1})
        insert into $table (id) select cast(printf('Linux NFSv4.1 host%07d', i) as blob) from n"
      sync`,
      300,
    )
  } else {
    const records = path(directory, 'many-records')
    const recorded = Math.floor(Date.now() / 1000)
    const lines = Array.from({ length: crowd }, (_, number) => {
      const client = Buffer.from(nameOf(number)) as Uint8Array as ClientOwner
      return `${recordName(client)}\t${recordLine(client, { session: 'unknown', recorded })}\n`
    })
    writeFileSync(records, lines.join(''))
    // The current records are in the directory of the current start, which has the highest number.
    await guest.run(
      `
      cd ${stateDirectory}/v4clients
      cd "$(ls -d [0-9]*/ | sort -n | tail -n 1)"
      perl -ne 'chomp; my ($name, $line) = split /\\t/; symlink $line, $name or die "$name: $!"' ${records}
      sync`,
      300,
    )
  }
  note(`${crowd} records were planted in ${((Date.now() - since) / 1000).toFixed(0)} s`)
}
