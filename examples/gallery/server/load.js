// Loads the images of a directory, or the sample images of pg_clip, into the gallery:
//
//   node server/load.js DIRECTORY
//   node server/load.js …/emoji.tsv
import { createReadStream } from 'node:fs'
import { readFile, readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { open } from './database.js'
import { answer } from './errors.js'
import { MAX_FILE_BYTES, store } from './photos.js'

const SUFFIX = /\.(jpe?g|png|webp|gif|bmp)$/i

async function * directory (path) {
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath ?? entry.path, entry.name)
    if (!entry.isFile() || !SUFFIX.test(entry.name)) continue
    if ((await stat(file)).size > MAX_FILE_BYTES) {
      console.error(`${file}: larger than 10 MB, left out`)
      continue
    }
    yield [basename(entry.name).replace(SUFFIX, ''), await readFile(file)]
  }
}

// Each line has a name, a tab, and the bytes in the text format of COPY.
async function * samples (path) {
  for await (const line of createInterface({ input: createReadStream(path) })) {
    const [name, bytes] = line.split('\t')
    yield [name, Buffer.from(bytes.replace('\\\\x', ''), 'hex')]
  }
}

const source = process.argv[2]
const database = open(process.env.DATABASE_URL, 1)
let loaded = 0
for await (const [name, bytes] of (await stat(source)).isDirectory() ? directory(source) : samples(source)) {
  try {
    await store(database, name, bytes)
    loaded++
  } catch (error) {
    const { status, body } = answer(error)
    if (status >= 500) throw error
    console.error(`${name}: ${body.error.message}`)
  }
}
console.log(`${loaded} photos`)
await database.close()
