// Structured clone over text, as far as messages need it.

type Tagged = { $date?: number; $bytes?: string; $undefined?: true }

export function encode(value: unknown): string {
  return JSON.stringify(outgoing(value))
}

function outgoing(value: unknown): unknown {
  if (value === undefined) return { $undefined: true }
  if (typeof value === 'function' || typeof value === 'symbol')
    throw new TypeError(`${String(value)} could not be cloned.`)
  if (value instanceof Date) return { $date: value.getTime() }
  if (value instanceof Uint8Array)
    return { $bytes: btoa(Array.from(value, (byte) => String.fromCharCode(byte)).join('')) }
  if (Array.isArray(value)) return value.map(outgoing)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, outgoing(inner)]))
}

export function decode(text: string): unknown {
  return incoming(JSON.parse(text))
}

function incoming(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(incoming)
  const { $date, $bytes, $undefined } = value as Tagged
  if ($undefined) return undefined
  if ($date !== undefined) return new Date($date)
  if ($bytes !== undefined) return Uint8Array.from(atob($bytes), (c) => c.charCodeAt(0))
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, incoming(inner)]))
}
