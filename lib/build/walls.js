/**
 * The rules of rooms.js as a rule of ESLint. It covers every kind of import, types and require() included, and globals
 * that give access to the system without one.
 */
import { dirname, relative, resolve } from 'node:path'
import { forbidden, forbiddenGlobal, globals } from './rooms.js'

export const walls = (root) => ({
  meta: { type: 'problem', schema: [] },
  create: (context) => {
    const file = relative(root, context.filename)
    const check = (node, source) => {
      if (typeof source !== 'string') return
      const imported = source.startsWith('.') ? relative(root, resolve(root, dirname(file), source)) : source
      const why = forbidden(file, imported)
      if (why !== undefined) context.report({ node, message: `${why} (lib/build/rooms.js)` })
    }
    const checkGlobal = (node, name) => {
      const why = globals.includes(name) ? forbiddenGlobal(file, name) : undefined
      if (why !== undefined) context.report({ node, message: `${why} (lib/build/rooms.js)` })
    }
    const bySource = (node) => {
      if (node.source) check(node, node.source.value)
    }
    return {
      'Program:exit': (node) => {
        // Names that the file does not declare. One of the globals belongs to the language itself.
        const { through, set } = context.sourceCode.getScope(node)
        for (const { identifier } of [...through, ...(set.get('globalThis')?.references ?? [])])
          checkGlobal(identifier, identifier.name)
      },
      MemberExpression: (node) => {
        checkGlobal(node, `${node.object.name}.${node.property.name}`)
      },
      NewExpression: (node) => {
        if (node.arguments.length === 0) checkGlobal(node, `new ${node.callee.name}()`)
      },
      ImportDeclaration: bySource,
      ExportNamedDeclaration: bySource,
      ExportAllDeclaration: bySource,
      ImportExpression: bySource,
      TSImportType: (node) => {
        check(node, (node.source ?? node.argument?.literal)?.value)
      },
      CallExpression: (node) => {
        if (node.callee.name === 'require' || node.callee.property?.name === 'getBuiltinModule')
          check(node, node.arguments[0]?.value)
      },
    }
  },
})
