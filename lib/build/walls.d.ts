import type { Rule } from 'eslint'
export function walls(root: string): Rule.RuleModule
