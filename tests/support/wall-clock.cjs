/** Loaded before Node's bundle, sets its wall clock to `WALL_CLOCK` seconds since 1970. It runs on. */
const RealDate = Date
const ahead = Number(process.env.WALL_CLOCK) * 1000 - RealDate.now()
const now = () => RealDate.now() + ahead
globalThis.Date = class Date extends RealDate {
  constructor(...when) {
    if (when.length > 0) super(...when)
    else super(now())
  }
  static now() {
    return now()
  }
}
