import { execFileSync } from 'node:child_process'

/** A tar of what a directory holds. */
export function tarOfDirectory(dir) {
  return execFileSync('tar', ['--create', '--file=-', '-C', dir, '.'], { maxBuffer: 1 << 28 })
}

/** A tar of files and symbolic links by any names. */
export function tarOf(entries) {
  const blocks = entries.map(({ name, link = '', data = '' }) => {
    const header = Buffer.alloc(512)
    header.write(name, 0, 100)
    for (const [at, text] of [
      [100, '0000644'],
      [108, '0000000'],
      [116, '0000000'],
      [136, '00000000000'],
    ])
      header.write(text, at)
    header.write(data.length.toString(8).padStart(11, '0'), 124)
    header.write(' '.repeat(8), 148)
    header.write(link ? '2' : '0', 156)
    header.write(link, 157, 100)
    header.write('ustar\u000000', 257)
    const sum = header.reduce((sum, byte) => sum + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\u0000 `, 148)
    return Buffer.concat([header, Buffer.from(data), Buffer.alloc(-data.length & 511)])
  })
  return Buffer.concat([...blocks, Buffer.alloc(1024)])
}
