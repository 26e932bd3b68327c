/**
 * The columns of help. cliui as a module breaks a full line anywhere, even in the middle of a word. As CommonJS it
 * breaks between words, but needs several more packages for that.
 */
import { cliui } from '../../../node_modules/cliui/build/lib/index.js'
import { stripAnsi } from '../../../node_modules/cliui/build/lib/string-utils.js'

const wrap = (text, width) =>
  text
    .split('\n')
    .flatMap((line) => [...pieces(line, width)])
    .join('\n')

function* pieces(line, width) {
  let rest = line
  while (rest.length > width) {
    const space = rest.lastIndexOf(' ', width)
    const end = rest.slice(0, Math.max(space, 0)).trim() === '' ? width : space
    yield rest.slice(0, end)
    rest = rest.slice(end).replace(/^ /, '')
  }
  yield rest
}

export default (options) => cliui(options, { stringWidth: (text) => [...text].length, stripAnsi, wrap })
