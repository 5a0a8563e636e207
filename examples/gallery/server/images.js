// The types of images that the gallery accepts. They are decided from the first bytes, never from a name or a header.

const starts = (bytes, text, offset = 0) => bytes.toString('latin1', offset, offset + text.length) === text

const SIGNATURES = [
  ['image/png', (bytes) => starts(bytes, '\x89PNG\r\n\x1a\n')],
  ['image/jpeg', (bytes) => starts(bytes, '\xff\xd8\xff')],
  ['image/gif', (bytes) => starts(bytes, 'GIF87a') || starts(bytes, 'GIF89a')],
  ['image/webp', (bytes) => starts(bytes, 'RIFF') && starts(bytes, 'WEBP', 8)],
  ['image/bmp', (bytes) => starts(bytes, 'BM') && bytes.length > 26 && bytes.readUInt32LE(6) === 0]
]

// Returns the media type of an image, or undefined for all other files. All browsers display these types.
export function imageType (bytes) {
  return SIGNATURES.find(([, matches]) => matches(bytes))?.[0]
}
