// Who is recorded, read from the helper's own store. Stories prefer to ask what a client may do; this is for the few
// that are about the records themselves.
import type { Server } from './server.ts'

/** Owners as text, sorted. The linux client's owners are: "Linux NFSv4.1 name", and for 4.0 with "/server address". */
export async function recorded(server: Server): Promise<string[]> {
  const nfsdcld = `${server.stateDirectory}/nfsdcld/main.sqlite`
  const names = decodeURIComponent(
    await server.guest.run(`
    for database in ${server.stateDirectory}/main.sqlite ${server.stateDirectory}/nfsdcltrack/main.sqlite; do
      [ ! -e $database ] || sqlite3 $database 'select cast(id as text) from clients'
    done
    [ ! -e ${nfsdcld} ] || sqlite3 ${nfsdcld} "select cast(id as text) from $(sqlite3 ${nfsdcld} "select printf('[rec-%016x]', current) from grace")"
    [ ! -d ${server.stateDirectory}/v4clients ] || find ${server.stateDirectory}/v4clients -path '*/v4clients/[0-9]*/*' -printf '%f\\n'`),
  )
  return names
    .split('\n')
    .filter((name) => name !== '')
    .sort()
}
