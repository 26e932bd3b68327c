/**
 * The file system, imported once, by name: a default or a namespace import makes the bundle copy a hundred names each
 * time the program starts. Lint says which rooms may come here.
 */
import {
  accessSync, chmodSync, chownSync, closeSync, constants, existsSync, fchmodSync, fstatSync, fsyncSync, linkSync, lstatSync, mkdirSync,
  mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, realpathSync, renameSync, rmdirSync, statfsSync,
  statSync, symlinkSync, unlinkSync, writeFileSync, writeSync,
} from 'node:fs'

export const fs = {
  accessSync, chmodSync, chownSync, closeSync, constants, existsSync, fchmodSync, fstatSync, fsyncSync, linkSync, lstatSync, mkdirSync,
  mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, realpathSync, renameSync, rmdirSync, statfsSync,
  statSync, symlinkSync, unlinkSync, writeFileSync, writeSync,
}
