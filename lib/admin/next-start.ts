/** Who may reclaim when this server starts the next time, if nothing else happens before: what moves to others. */
import { mayReclaim, type Client, type Survey } from './survey.ts'

export const reclaimableAtNextStart = ({ clients }: Survey): readonly Client[] => clients.filter(mayReclaim)
