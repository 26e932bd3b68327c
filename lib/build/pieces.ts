/**
 * Cuts the executable's script into pieces. The first has what clients' upcalls use, and is read when the program is
 * built (image.ts). Each other piece is read when something in it is first needed. Which upcalls call a function
 * decides in which piece it is (rehearsal.ts). The sources do not depend on that.
 *
 * The value of the first piece is a function: the program. What is not a function, but a table or a class, is in the
 * first piece that uses it. What is in another piece is fetched where it is used: `$piece(NUMBER)[INDEX]`. All other
 * pieces get what they need of the first.
 */
import { build, transform } from 'esbuild'
import ts from 'typescript'
import { nodeCalls } from '../syscalls/node.ts'
import { oneLine } from '../text.ts'
import { forEngine } from './bundles.ts'
import { beforehand, rehearse } from './rehearsal.ts'
import { textAt } from './repository.ts'

const client = [
  'check',
  'create',
  'create of a new client in grace',
  'refusal',
  'create without a session',
  'check without a session',
  'remove',
] as const
const start = ['start', 'first start'] as const
const endOfGrace = ['end of grace'] as const
/**
 * The kinds of upcalls whose functions form one piece, unless an earlier piece has them. The second has what both a
 * start and an end of grace call: so neither reads what is the other's.
 */
const cuts = [[client], [start, endOfGrace], [start], [endOfGrace]]
/** The piece for everything else. */
const rest = cuts.length
/** The files that only `serve` uses, and their piece: `serve` runs for a long time, and an upcall never uses them. */
const served = /^(?:lib\/serve\/|lib\/upcall\/message\.ts|lib\/kernel\/pipe\.ts)/
const serving = rest + 1
const numbers = [...cuts.keys(), rest, serving]

/** A top-level statement of the whole script. */
interface Unit {
  readonly text: string
  /** The same text, changed to report when it is called. */
  readonly watched: string
  /** The module from which it comes. */
  readonly file: string
  readonly names: readonly string[]
  readonly kind: 'function' | 'value' | 'entry'
  readonly uses: readonly Use[]
  /** Names that are declared inside it, for its own use. */
  readonly own: readonly string[]
}

/** A name in a unit's text that another unit may have declared. */
interface Use {
  readonly name: string
  readonly begin: number
  /** `{ name }`, for `{ name: name }` */
  readonly isShort: boolean
}

/**
 * @param legible to keep names, for a person who looks for a mistake
 * @returns the scripts for the executable's engine: the program begins with the first, and the others are read by their
 * numbers
 */
export async function piecesForEngine({ legible }: { readonly legible: boolean }): Promise<string[]> {
  const { outputFiles, metafile } = await build({
    ...forEngine,
    entryPoints: ['bin/upcall.ts'],
    outdir: 'dist',
    format: 'esm',
    metafile: true,
  })
  Object.keys(metafile.inputs).forEach(assertHasNoVariable)
  const units = unitsOf(outputFiles[0]?.text ?? '')
  assertNoneHides(units)
  const pieces = cut(units, homesOf(units))
  return Promise.all(
    pieces.map(async (text) => (await transform(text, { minify: !legible, target: forEngine.target })).code),
  )
}

/**
 * The engine makes each of its own functions when it is first used. A check uses fifty, which takes a twelfth of its
 * time.
 * @returns a script that uses all those which the first piece names, so that the image has them
 */
export function askingBeforehand(piece: string): string {
  const named = new Set(piece.match(/[A-Za-z]\w*/g))
  return `const holders = [globalThis, host.calls, Object, String, Number, Math]
const iterators = [[][Symbol.iterator](), new Map().values(), new Set().values(), (function* () {})()]
for (const value of [[], '', 0, /x/, new Map(), new Set(), new Uint8Array(), () => 0, ...iterators])
  for (let holder = value; (holder = Object.getPrototypeOf(holder)) !== null;) holders.push(holder)
for (const name of [${[...named]
    .filter(isBuiltIn)
    .map((name) => `'${name}'`)
    .join()},Symbol.iterator])
  for (const holder of holders) Object.getOwnPropertyDescriptor(holder, name)
`
}

/** Whether the table of calls, or an object of the language as Node has it, has such a name. */
const isBuiltIn = (name: string): boolean => builtIn.some((holder) => name in (Object(holder) as object))
const values = [[], '', 0, /x/, new Map(), new Set(), new Uint8Array(), () => 0, [].values()]
const builtIn: readonly unknown[] = [nodeCalls(), globalThis, Object, String, Number, Math, ...values]

/** @throws for a module with a variable: another piece would get the value that it had when that piece was read */
function assertHasNoVariable(path: string): void {
  const own = /^(?:export )?let .*/m.exec(textAt(path))
  if (own !== null) throw new Error(`${path} can't be cut into pieces of the program: ${own[0]}`)
}

/**
 * esbuild gives nothing inside a function the name of something outside.
 * @throws if it does: the name would be taken for the one outside
 */
function assertNoneHides(units: readonly Unit[]): void {
  const outside = new Set(units.flatMap(({ names }) => names))
  const hiding = units.flatMap(({ own }) => own).find((name) => outside.has(name))
  if (hiding !== undefined) throw new Error(`${hiding} hides another name of the program`)
}

function unitsOf(script: string): Unit[] {
  const source = ts.createSourceFile('script.js', script, ts.ScriptTarget.ES2022, true)
  let file = ''
  return source.statements.flatMap((statement): Unit[] => {
    // esbuild writes a module's path in a comment before it.
    file = /^\/\/ (\S+)$/m.exec(script.slice(statement.getFullStart(), statement.getStart()))?.[1] ?? file
    return unitsIn(statement).map((unit) => ({ ...unit, file }))
  })
}

function unitsIn(statement: ts.Statement): Omit<Unit, 'file'>[] {
  if (ts.isVariableStatement(statement))
    return statement.declarationList.declarations.map((declaration) => {
      const { initializer: value } = declaration
      return value !== undefined && (ts.isArrowFunction(value) || ts.isFunctionExpression(value))
        ? functionUnit(declaration, value.body, 'var ')
        : valueUnit(declaration, boundBy(declaration.name), 'var ')
    })
  if (ts.isFunctionDeclaration(statement) && statement.body) return [functionUnit(statement, statement.body)]
  if (ts.isClassDeclaration(statement)) return [valueUnit(statement, [statement.name?.text ?? ''])]
  return [{ ...valueUnit(statement, []), kind: 'entry' }]
}

function valueUnit(node: ts.Node, names: readonly string[], before = ''): Omit<Unit, 'file'> {
  const text = `${before}${node.getText()};`
  return { text, watched: text, names, kind: 'value', uses: usesIn(node, before.length), own: declaredIn(node) }
}

function functionUnit(node: ts.NamedDeclaration, body: ts.ConciseBody, before = ''): Omit<Unit, 'file'> {
  const name = node.name?.getText() ?? ''
  const unit = valueUnit(node, [name], before)
  const shift = before.length - node.getStart()
  const [begin, end] = [body.getStart() + shift, body.getEnd() + shift]
  const [head, inside, tail] = [unit.text.slice(0, begin), unit.text.slice(begin, end), unit.text.slice(end)]
  const seen = `$seen('${name}')`
  return {
    ...unit,
    kind: 'function',
    watched: head + (ts.isBlock(body) ? `{ ${seen}; ${inside.slice(1)}` : `(${seen}, ${inside})`) + tail,
  }
}

const boundBy = (name: ts.BindingName): string[] =>
  ts.isIdentifier(name)
    ? [name.text]
    : name.elements.flatMap((element) => (ts.isOmittedExpression(element) ? [] : boundBy(element.name)))

function declaredIn(node: ts.Node): string[] {
  const found: string[] = []
  const look = (at: ts.Node): void => {
    if (ts.isVariableDeclaration(at) || ts.isParameter(at)) found.push(...boundBy(at.name))
    else if (at !== node && ts.isFunctionDeclaration(at)) found.push(at.name?.text ?? '')
    ts.forEachChild(at, look)
  }
  ts.forEachChild(node, look)
  return found
}

/** Every name except those of properties. */
function usesIn(node: ts.Node, shift: number): Use[] {
  const found: Use[] = []
  const look = (at: ts.Node): void => {
    if (ts.isIdentifier(at))
      found.push({
        name: at.text,
        begin: at.getStart() - node.getStart() + shift,
        isShort: ts.isShorthandPropertyAssignment(at.parent),
      })
    else
      ts.forEachChild(at, (child) => {
        const { name, propertyName } = at as { readonly name?: ts.Node; readonly propertyName?: ts.Node }
        const isProperty =
          (child === name && !ts.isVariableDeclaration(at) && !ts.isShorthandPropertyAssignment(at)) ||
          child === propertyName
        if (!isProperty || !ts.isIdentifier(child)) look(child)
      })
  }
  look(node)
  return found
}

/**
 * The number of each unit's piece. If no upcall has called a function, but a table was made with it, the function is in
 * the table's piece.
 */
function homesOf(units: readonly Unit[]): Map<Unit, number> {
  const last = units.findLastIndex(({ kind }) => kind === 'entry')
  const script = units.map(({ watched }, at) => (at === last ? `$begins(); ${watched}` : watched)).join('\n')
  const calledIn = rehearse(script)
  const isCalled = ({ names: [name = ''] }: Unit, kinds: readonly string[]): boolean =>
    kinds.some((kind) => calledIn.get(kind)?.has(name) === true)
  const homes = new Map<Unit, number>()
  const byUse: Unit[] = []
  for (const unit of units) {
    const first = cuts.findIndex((all) => all.every((kinds) => isCalled(unit, kinds)))
    if (unit.kind === 'value' || (first < 0 && isCalled(unit, [beforehand]))) byUse.push(unit)
    homes.set(unit, unit.kind === 'entry' ? 0 : first >= 0 ? first : served.test(unit.file) ? serving : rest)
  }
  // Most often, what uses a value comes after it.
  for (let changed = true; changed;) {
    changed = false
    for (const unit of [...byUse].reverse())
      for (const user of units)
        if (
          (homes.get(user) ?? 0) < (homes.get(unit) ?? 0) &&
          user.uses.some(({ name }) => unit.names.includes(name))
        ) {
          homes.set(unit, homes.get(user) ?? 0)
          changed = true
        }
  }
  return homes
}

function cut(units: readonly Unit[], homes: ReadonlyMap<Unit, number>): string[] {
  const homeOf = new Map(units.flatMap((unit) => unit.names.map((name) => [name, homes.get(unit) ?? 0])))
  /** The names that each piece uses of other pieces, each once. */
  const usedBy = numbers.map((number) => {
    const uses = units.filter((unit) => homes.get(unit) === number).flatMap((unit) => unit.uses)
    return [...new Set(uses.map(({ name }) => name))].filter((name) => (homeOf.get(name) ?? number) !== number)
  })
  const givenBy = numbers.map((number) => [...new Set(usedBy.flat())].filter((name) => homeOf.get(name) === number))
  const list = (names: readonly string[] = []): string => `[${names.join(', ')}]`

  return numbers.map((number) => {
    const text = units
      .filter((unit) => homes.get(unit) === number)
      .map((unit) => (unit === units.at(-1) ? `return () => { ${asking(unit, number)} };` : asking(unit, number)))
      .join('\n')
    const ofFirst = (of: number): string[] => (usedBy[of] ?? []).filter((name) => homeOf.get(name) === 0)
    if (number > 0)
      return `globalThis.piece = ($piece, ${list(ofFirst(number))}) => {\n${text}\nreturn ${list(givenBy[number])};\n}`
    const cases = numbers.slice(1).map((other) => `case ${other}: return ${list(ofFirst(other))};`)
    return `(() => {
var $others = [];
var $shared = (number) => { switch (number) { ${cases.join('\n')} } };
var $piece = (number) => $others[number] ??= globalThis.host.read(number)($piece, $shared(number));
${text}
})();`
  })

  function asking({ text, uses }: Unit, number: number): string {
    let asked = ''
    let at = 0
    for (const { name, begin, isShort } of uses) {
      const home = homeOf.get(name) ?? number
      if (home === number || home === 0) continue
      asked += oneLine`
        ${text.slice(at, begin)}${isShort ? `${name}: ` : ''}$piece(${home})[${givenBy[home]?.indexOf(name) ?? ''}]
      `
      at = begin + name.length
    }
    return asked + text.slice(at)
  }
}
