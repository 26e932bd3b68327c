// A machine with a bad battery: its clock is wrong when the server starts, and is corrected later.
import { claimHeld, claimHeldAgain, threeHolders, type Story } from '../story.ts'

const story = (name: string, fault: string, wrong: string, right: string): Story => ({
  name,
  title: `Locks survive a clock that is ${fault} when the service starts and is corrected before the clients reclaim`,
  tell: async (stage) => {
    const { guest, server } = stage
    await server.start()
    await server.endGrace()
    const clients = await threeHolders(stage)
    // Nobody may reclaim before the clock is corrected, however slow the machine is.
    await Promise.all(clients.map((client) => client.cutOff()))
    await server.stop()
    await guest.run(`date --set '${wrong}'`)
    await server.start({ grace: 60 })
    await guest.run(`date --set '${right}'`)
    await Promise.all(clients.map((client) => client.heal()))
    await claimHeld(stage, 'with the clock corrected', clients)
    await server.endGrace()
    await server.restart({ grace: 60 })
    await claimHeldAgain(stage, 'after the next restart', clients)
  },
})

export const clockAhead = story('clock', 'an hour fast', '1 hour', '1 hour ago')
export const clockBehind = story('clock-behind', 'a day slow', '1 day ago', '1 day')
