import tseslint from 'typescript-eslint'
import { walls } from './lib/build/walls.js'

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', '.cache/'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
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
      // Prettier wraps the code; this is for comments. What stands in quotation marks is not cut.
      'max-len': [
        'error',
        { code: 120, ignoreStrings: true, ignoreTemplateLiterals: true, ignoreRegExpLiterals: true, ignoreUrls: true },
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
    },
  },
  {
    files: ['lib/**/*.ts', 'bin/**/*.ts'],
    plugins: { house: { rules: { walls: walls(import.meta.dirname) } } },
    rules: { 'house/walls': 'error' },
  },
  {
    files: ['lib/**/*.ts', 'bin/**/*.ts'],
    ignores: ['lib/build/**', 'lib/build/**'],
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
  { files: ['**/*.js', '**/*.cjs'], ...tseslint.configs.disableTypeChecked },
  { files: ['**/*.cjs'], languageOptions: { parserOptions: { projectService: false } } },
)
