/** Numbers from repeated measurements. Pure. */

export interface Figures {
  readonly count: number
  readonly least: number
  readonly lowerQuartile: number
  readonly median: number
  readonly upperQuartile: number
}

export function figures(values: readonly number[]): Figures {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (part: number): number => {
    const place = part * (sorted.length - 1)
    const [below = Number.NaN, above = below] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]]
    return below + (above - below) * (place - Math.floor(place))
  }
  return { count: sorted.length, least: at(0), lowerQuartile: at(0.25), median: at(0.5), upperQuartile: at(0.75) }
}

/** Three digits, which is the precision of these measurements. */
export const short = (value: number): string =>
  value >= 100 ? String(Math.round(value)) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
