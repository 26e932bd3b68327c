// A prompt in a guest. Each line is a shell script that the guest runs as root; an empty line or end of file leaves.
import { createInterface } from 'node:readline/promises'
import type { Guest } from './guest.ts'

export async function look(guest: Guest): Promise<void> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr, prompt: `${guest.name}# ` })
  prompt.prompt()
  for await (const line of prompt) {
    if (line.trim() === '') break
    try {
      process.stderr.write((await guest.attempt(`exec 2>&1\n${line}`)).output)
    } catch (error) {
      process.stderr.write(`${String(error)}\n`)
    }
    prompt.prompt()
  }
  prompt.close()
}
