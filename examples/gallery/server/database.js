// The connections of the gallery.
import pg from 'pg'
import { Rejection, UNREACHABLE } from './errors.js'

const STATEMENT_TIMEOUT_MS = 15_000

// The first search of a connection does not wait for the model. Without a model, the page still shows the photos.
const PREWARM = "SELECT clip_prewarm(model) FROM clip_auto_embed_status WHERE relation = 'photo'"

export function open (connectionString = 'postgres://gallery_app@localhost/gallery', max = 8) {
  const pool = new pg.Pool({
    connectionString,
    max,
    connectionTimeoutMillis: 5000,
    idleTimeoutMillis: 10 * 60_000,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    application_name: 'gallery',
    onConnect: (client) => client.query(PREWARM).catch(() => {})
  })
  // An idle connection can fail, for example when the database restarts. The pool replaces it.
  pool.on('error', () => {})
  // A connection in use can fail between two statements. The next statement reports it.
  pool.on('connect', (client) => client.on('error', () => {}))

  // Errors here are about the server. The same SQLSTATE in a statement can have another cause.
  const connect = () => pool.connect().catch((cause) => { throw new Rejection(...UNREACHABLE, { cause }) })

  return {
    async query (text, values) {
      const client = await connect()
      try {
        return await client.query(text, values)
      } finally {
        // The connection stays after an error of a statement, with its model. The pool discards a broken connection.
        client.release()
      }
    },
    async transaction (work) {
      const client = await connect()
      try {
        await client.query('BEGIN')
        const result = await work(client)
        await client.query('COMMIT')
        return result
      } catch (error) {
        await client.query('ROLLBACK').catch(() => {})
        throw error
      } finally {
        client.release()
      }
    },
    close: () => pool.end()
  }
}
