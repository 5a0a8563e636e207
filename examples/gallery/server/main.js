// Starts the gallery. DATABASE_URL, HOST and PORT configure it.
import pg from 'pg'
import { build } from './app.js'
import { labelNew } from './photos.js'

const LABEL_INTERVAL_MS = 1000

const pool = new pg.Pool({
  connectionString: process.env.DATABASE_URL ?? 'postgres://gallery_app@localhost/gallery',
  max: 8,
  connectionTimeoutMillis: 5000,
  idleTimeoutMillis: 10 * 60_000,
  statement_timeout: 15_000,
  application_name: 'gallery',
  // The first search of a connection does not wait for the model. Without a model, the page still shows the photos.
  onConnect: (client) => client.query("SELECT clip_prewarm(model) FROM clip_auto_embed_status WHERE relation = 'photo'").catch(() => {})
})
// An idle connection can fail, for example when the database restarts. The pool replaces it.
pool.on('error', () => {})

const app = build(pool, { logger: { level: process.env.LOG_LEVEL ?? 'warn' } })

// Photos get a label soon after the worker has embedded them.
let labeling
const timer = setInterval(() => {
  labeling ??= labelNew(pool)
    .catch((error) => app.log.warn({ code: error.code, reason: error.message }, 'could not label photos'))
    .finally(() => { labeling = undefined })
}, LABEL_INTERVAL_MS)

async function stop () {
  clearInterval(timer)
  await app.close()
  await labeling
  await pool.end()
}
process.once('SIGINT', stop)
process.once('SIGTERM', stop)

const address = await app.listen({ host: process.env.HOST ?? '127.0.0.1', port: Number(process.env.PORT ?? 8080) })
console.log(`The gallery is at ${address}`)
