import perfectionist from 'eslint-plugin-perfectionist'
import tseslint from 'typescript-eslint'
import { walls } from './lib/build/walls.js'

/** A regular expression can't be broken, nor can an address. */
const maxLen = { code: 120, ignoreRegExpLiterals: true, ignoreUrls: true }

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', '.cache/'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { perfectionist },
    rules: {
      'no-duplicate-imports': 'error',
      // Node's modules, then packages, then this project's files, the farthest first.
      'perfectionist/sort-imports': [
        'error',
        {
          type: 'alphabetical',
          order: 'asc',
          groups: ['builtin', 'external', ['parent', 'sibling', 'index']],
          newlinesBetween: 'ignore',
          // Or the comment at the top of a file would move with the first import.
          partitionByComment: true,
        },
      ],
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            {
              from: 'package',
              name: ['describe', 'it', 'test', 'suite', 'before', 'after', 'beforeEach', 'afterEach'],
              package: 'node:test',
            },
          ],
        },
      ],
      // Prettier wraps what it can. A title of a test is a sentence and stays one, and what a test expects of a program
      // stands as it is printed: not so in lib/, below.
      'max-len': ['error', { ...maxLen, ignoreStrings: true, ignoreTemplateLiterals: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
    },
  },
  {
    files: ['lib/**/*.ts', 'bin/**/*.ts'],
    plugins: { house: { rules: { walls: walls(import.meta.dirname) } } },
    rules: { 'house/walls': 'error', 'max-len': ['error', maxLen] },
  },
  {
    files: ['lib/**/*.ts', 'bin/**/*.ts'],
    ignores: ['lib/build/**'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: 'MemberExpression[property.name=/^to(Sorted|Reversed|Spliced)$/]',
          message: 'Node 18 does not have it.',
        },
      ],
    },
  },
  {
    files: ['tests/**/*.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector:
            'CallExpression[callee.object.name="assert"][callee.property.name="match"] > CallExpression[callee.property.name="said"]',
          message: 'What a running process has said may not have been read yet: await its says().',
        },
      ],
    },
  },
  { files: ['**/*.js', '**/*.cjs'], ...tseslint.configs.disableTypeChecked },
  { files: ['**/*.cjs'], languageOptions: { parserOptions: { projectService: false } } },
)
