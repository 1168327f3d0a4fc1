// Reads what a 64-bit Mach-O file requires of the Mac that loads it, without a Mac. Layouts: <mach-o/loader.h>,
// <mach-o/nlist.h> and the kernel's <kern/cs_blobs.h>.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const CPU = { 16777223: 'x64', 16777228: 'arm64' }
const LC = {
  symtab: 0x2,
  loadDylib: 0xc,
  loadWeakDylib: 0x80000018,
  reexportDylib: 0x8000001f,
  rpath: 0x8000001c,
  codeSignature: 0x1d,
  buildVersion: 0x32,
}
const SYSTEM = /^(\/System\/Library\/|\/usr\/lib\/)/
// The library ordinal of a symbol that is looked up in whatever is loaded.
const DYNAMIC_LOOKUP = 0xfe

/** `{ cpu, minimum, libraries, exports, dynamicLookups, signature? }` of the file. */
export function readMacho(path) {
  const file = readFileSync(path)
  if (file.readUInt32LE(0) !== 0xfeedfacf) throw new Error(`${path} is not a 64-bit Mach-O file`)
  const report = {
    cpu: CPU[file.readUInt32LE(4)],
    minimum: undefined,
    libraries: [],
    rpaths: [],
    exports: [],
    dynamicLookups: [],
  }
  const commands = file.readUInt32LE(16)
  for (let i = 0, at = 32; i < commands; i++) {
    const command = file.readUInt32LE(at)
    const size = file.readUInt32LE(at + 4)
    const text = () => cString(file, at + file.readUInt32LE(at + 8))
    if ([LC.loadDylib, LC.loadWeakDylib, LC.reexportDylib].includes(command)) report.libraries.push(text())
    else if (command === LC.rpath) report.rpaths.push(text())
    else if (command === LC.buildVersion) report.minimum = version(file.readUInt32LE(at + 12))
    else if (command === LC.symtab) readSymbols(file, at, report)
    else if (command === LC.codeSignature) report.signature = readSignature(file, file.readUInt32LE(at + 8))
    at += size
  }
  return report
}

/** What is wrong with the file as an addon for macOS `minimum` on `cpu`; empty when it may ship. */
export function machoProblems(path, { cpu, minimum, exported }) {
  const report = readMacho(path)
  const problems = []
  if (report.cpu !== cpu) problems.push(`is for ${report.cpu}, not ${cpu}`)
  if (report.minimum !== minimum) problems.push(`asks for macOS ${report.minimum}, not ${minimum}`)
  for (const library of report.libraries)
    if (!SYSTEM.test(library)) problems.push(`links ${library}, which is not the system's`)
  for (const path of report.rpaths) problems.push(`has the run path ${path}`)
  if (!report.exports.includes(exported)) problems.push(`does not export ${exported}`)
  if (report.dynamicLookups.length > 0)
    problems.push(`looks up ${report.dynamicLookups.join(', ')} in whatever is loaded`)
  // Apple silicon kills a process that maps an unsigned page; Intel Macs need no signature.
  if (!report.signature && cpu === 'arm64') problems.push('is not signed')
  if (report.signature?.pages === 0) problems.push('has a signature that covers no page')
  if (report.signature && report.signature.wrong.length > 0) {
    problems.push(
      `has a signature that is wrong for ${report.signature.wrong.length} of ${report.signature.pages} pages`,
    )
  }
  if (report.signature && !report.signature.whole)
    problems.push('has a signature that does not cover the file up to itself')
  return { report, problems }
}

function readSymbols(file, at, report) {
  const [symbols, count, strings] = [8, 12, 16].map((offset) => file.readUInt32LE(at + offset))
  for (let i = 0; i < count; i++) {
    const entry = symbols + 16 * i
    const type = file[entry + 4]
    // Debugger entries (N_STAB) and local symbols say nothing about linking.
    if (type & 0xe0 || !(type & 0x01)) continue
    const name = cString(file, strings + file.readUInt32LE(entry))
    if ((type & 0x0e) !== 0) report.exports.push(name)
    else if (file.readUInt16LE(entry + 6) >> 8 === DYNAMIC_LOOKUP) report.dynamicLookups.push(name)
  }
}

function readSignature(file, offset) {
  const blobs = file.readUInt32BE(offset + 8)
  for (let i = 0; i < blobs; i++) {
    const at = offset + file.readUInt32BE(offset + 12 + 8 * i + 4)
    if (file.readUInt32BE(at) !== 0xfade0c02) continue
    const [flags, hashes, , , pages, limit] = [12, 16, 20, 24, 28, 32].map((field) => file.readUInt32BE(at + field))
    const [hashSize, hashType, , pageShift] = file.subarray(at + 36, at + 40)
    if (hashType !== 2) throw new Error(`the signature's hash type is ${hashType}, not SHA-256`)
    const wrong = []
    for (let page = 0; page < pages; page++) {
      const start = page << pageShift
      const bytes = file.subarray(start, Math.min(start + (1 << pageShift), limit))
      const recorded = file.subarray(at + hashes + page * hashSize, at + hashes + (page + 1) * hashSize)
      if (!createHash('sha256').update(bytes).digest().equals(recorded)) wrong.push(page)
    }
    return {
      adHoc: (flags & 0x2) !== 0,
      pages,
      wrong,
      whole: limit === offset && pages === Math.ceil(limit / (1 << pageShift)),
    }
  }
  throw new Error('the signature holds no code directory')
}

const version = (packed) => `${packed >>> 16}.${(packed >>> 8) & 0xff}`
const cString = (file, at) => file.toString('latin1', at, file.indexOf(0, at))

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const path of process.argv.slice(2)) console.log(path, readMacho(path))
