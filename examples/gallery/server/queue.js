// The state of the queue: how many photos are embedded, which ones failed, and the retry.
import { sentence } from './errors.js'

// A failure without a key is about all photos. The failure of a removed photo stays until the next pass of a worker.
const FAILURES = `FROM clip_failures LEFT JOIN photo ON photo.id = (key->>'id')::bigint
 WHERE relation = 'photo' AND (key IS NULL OR photo.id IS NOT NULL)`

export async function status (database) {
  const [{ rows: [column] }, { rows: [progress] }, { rows: labels }, { rows: types }] = await Promise.all([
    database.query(`
      SELECT model, model_state AS "modelState", "rows"::int AS photos, embedded::int, pending::int, rate,
             seconds_left AS "secondsLeft", (SELECT count(*)::int ${FAILURES}) AS failed
        FROM clip_auto_embed_status WHERE relation = 'photo' AND target = 'embedding'`),
    database.query("SELECT count(*)::int AS workers FROM clip_progress WHERE relation = 'photo'"),
    database.query('SELECT l.name, count(p.label)::int AS photos FROM label AS l LEFT JOIN photo AS p ON p.label = l.name GROUP BY l.name, position ORDER BY position'),
    database.query('SELECT type, count(*)::int AS photos FROM photo GROUP BY type ORDER BY type')
  ])
  return { ...column, ...progress, labels, types }
}

export async function failures (database) {
  const { rows } = await database.query(`
    SELECT photo.id, photo.name, sqlstate, attempts::int, last_failed_at AS "lastFailedAt", retry_at AS "retryAt"
      ${FAILURES}
     ORDER BY last_failed_at DESC LIMIT 200`)
  return rows.map((row) => ({ ...row, reason: sentence(row.sqlstate) }))
}

export async function retry (database) {
  const { rows: [{ cleared }] } = await database.query('SELECT retry_photos()::int AS cleared')
  return cleared
}
