// Starts the gallery. DATABASE_URL, HOST and PORT configure it.
import { build } from './app.js'
import { open } from './database.js'
import { labelNew } from './photos.js'

const LABEL_INTERVAL_MS = 1000

const database = open(process.env.DATABASE_URL)
const app = build(database, { logger: { level: process.env.LOG_LEVEL ?? 'warn' } })

// Photos get a label soon after the worker has embedded them.
let labeling
const timer = setInterval(() => {
  labeling ??= labelNew(database)
    .catch((error) => app.log.warn({ code: error.code, reason: error.message }, 'could not label photos'))
    .finally(() => { labeling = undefined })
}, LABEL_INTERVAL_MS)

async function close () {
  clearInterval(timer)
  await app.close()
  await labeling
  await database.close()
}
// Ctrl-C in a terminal can arrive together with a SIGTERM.
let closing
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => { closing ??= close() })

const address = await app.listen({ host: process.env.HOST ?? '127.0.0.1', port: Number(process.env.PORT ?? 8080) })
console.log(`The gallery is at ${address}`)
