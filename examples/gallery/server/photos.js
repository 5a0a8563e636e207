// All statements of the gallery. Values are parameters, also inside of a filter.
import { Rejection } from './errors.js'
import { imageType } from './images.js'

export const MAX_FILE_BYTES = 10 * 1024 * 1024
export const MAX_PHOTOS = Number(process.env.GALLERY_MAX_PHOTOS ?? 10_000)
export const MAX_TOTAL_BYTES = 2 * 1024 * 1024 * 1024
export const MAX_RESULTS = 240
export const PAGE = 48
const MAX_GROUPS = 100
const TEMPLATES = ['{}', 'a picture of a {}', 'a photo of a {}']

// Advisory locks. They serialize the uploads, so that the limits hold, and the changes of labels.
const STORE_LOCK = 5613001
const LABEL_LOCK = 5613002

const COLUMNS = `id, name, type, width, height, bytes, label, certainty, added_at AS "addedAt",
  embedding IS NOT NULL AS embedded`

// The condition for the parameters $1 (label), $2 (type) and $3 (a part of the name). NULL stands for no condition.
// quote_literal(NULL) is NULL, and concat_ws leaves NULL out.
const FILTER = `nullif(concat_ws(' AND ',
  'label = ' || quote_literal($1::text),
  'type = ' || quote_literal($2::text),
  'strpos(lower(name), lower(' || quote_literal($3::text) || ')) > 0'), '')`

const filterValues = ({ label, type, name }) => [label || null, type || null, name || null]

// Returns the type of an uploaded file, or throws.
export function requireImage (bytes) {
  if (!Buffer.isBuffer(bytes) || bytes.length === 0) throw new Rejection(400, 'empty_file', 'This file is empty.')
  const type = imageType(bytes)
  if (!type) throw new Rejection(415, 'wrong_type', 'This is not an image that the gallery can show. Use JPEG, PNG, WebP, GIF or BMP.')
  return type
}

// Control characters have no place in a name, and NUL cannot be stored.
const clean = (name) => name.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, ' ').trim().slice(0, 200)

// Stores a photo. A background worker of the database embeds it after the commit.
export async function store (database, name, file) {
  const type = requireImage(file)
  return database.transaction(async (client) => {
    const { rows: [size] } = await client.query('SELECT width, height FROM clip_image_info($1)', [file])
    await client.query('SELECT pg_advisory_xact_lock($1)', [STORE_LOCK])
    const { rows: [photo] } = await client.query(`
      INSERT INTO photo (name, type, width, height, file)
      SELECT $1, $2, $3, $4, $5::bytea
        FROM (SELECT count(*) AS photos, coalesce(sum(bytes), 0) AS bytes FROM photo) AS now
       WHERE now.photos < $6 AND now.bytes + octet_length($5::bytea) <= $7
      RETURNING ${COLUMNS}`, [clean(name) || 'untitled', type, size.width, size.height, file, MAX_PHOTOS, MAX_TOTAL_BYTES])
    if (!photo) throw new Rejection(507, 'gallery_full', 'The gallery is full. Remove some photos first.')
    return photo
  })
}

// Newest first, and after the photo with the id `before`: new photos do not move the pages.
export async function list (database, { before, ...filter }) {
  const { rows } = await database.query(`
    SELECT ${COLUMNS} FROM photo
     WHERE ($1::text IS NULL OR label = $1) AND ($2::text IS NULL OR type = $2)
       AND ($3::text IS NULL OR strpos(lower(name), lower($3)) > 0)
       AND ($4::bigint IS NULL OR id < $4)
     ORDER BY id DESC LIMIT $5`, [...filterValues(filter), before ?? null, PAGE + 1])
  const photos = rows.slice(0, PAGE)
  return { photos, next: rows.length > PAGE ? photos.at(-1).id : null }
}

// A search returns all its rows in one answer, and the page shows them step by step. So no row is repeated or left out.
// `relevance` is the number of standard deviations by which a photo is nearer than the average photo.
export async function searchText (database, text, filter) {
  const { rows } = await database.query(`
    SELECT ${COLUMNS}, distance, (typical.mean - distance) / typical.deviation AS relevance
      FROM clip_search('photo', $4, $5, filter => ${FILTER}) JOIN photo ON id = key,
           clip_typical_distance('photo', $4) AS typical
     ORDER BY distance, id`, [...filterValues(filter), text, MAX_RESULTS])
  return rows
}

export async function searchImage (database, file, filter) {
  requireImage(file)
  const { rows } = await database.query(`
    SELECT ${COLUMNS}, distance
      FROM clip_search_image('photo', $4, $5, filter => ${FILTER}) JOIN photo ON id = key
     ORDER BY distance, id`, [...filterValues(filter), file, MAX_RESULTS])
  return rows
}

export async function searchSimilar (database, id, filter) {
  const { rows: [photo] } = await database.query(`SELECT ${COLUMNS} FROM photo WHERE id = $1`, [id])
  if (!photo) throw missing()
  if (!photo.embedded) throw new Rejection(409, 'not_embedded', 'This photo has no embedding yet, so it cannot be compared.')
  const { rows } = await database.query(`
    SELECT ${COLUMNS}, distance
      FROM clip_search_vector('photo', (SELECT embedding FROM photo WHERE id = $4), $5,
             filter => concat_ws(' AND ', format('id <> %s', $4::bigint), ${FILTER})) JOIN photo ON id = key
     ORDER BY distance, id`, [...filterValues(filter), id, MAX_RESULTS])
  return { photo, photos: rows }
}

const missing = () => new Rejection(404, 'no_photo', 'This photo is not in the gallery any more.')

export async function read (database, id) {
  const { rows: [photo] } = await database.query('SELECT type, file FROM photo WHERE id = $1', [id])
  if (!photo) throw missing()
  return photo
}

export async function remove (database, id) {
  const { rowCount } = await database.query('DELETE FROM photo WHERE id = $1', [id])
  if (rowCount === 0) throw missing()
}

// Groups of photos whose embeddings are nearly identical, the oldest photo of a group first.
export async function duplicates (database, distance) {
  const { rows } = await database.query(`
    SELECT group_number, jsonb_agg(to_jsonb(p) ORDER BY p.id) AS photos
      FROM clip_duplicate_groups('photo', max_distance => $1)
      JOIN (SELECT id AS number, id::text, name, type, width, height, bytes, label, certainty, true AS embedded FROM photo) AS p
        ON p.number = (key->>'id')::bigint
     GROUP BY group_number ORDER BY group_number LIMIT $2`, [distance, MAX_GROUPS])
  return rows.map((row) => row.photos)
}

export async function labels (database) {
  const { rows } = await database.query('SELECT name FROM label ORDER BY position')
  return rows.map((row) => row.name)
}

const MODEL = "(SELECT model FROM clip_auto_embed_status WHERE relation = 'photo' AND target = 'embedding')"

export async function classify (database, id) {
  const { rows } = await database.query(`
    SELECT c.label, c.probability
      FROM photo CROSS JOIN LATERAL clip_classify(embedding, $2, $3, ${MODEL}) AS c
     WHERE id = $1`, [id, await labels(database), TEMPLATES])
  return rows
}

async function labelRows (client) {
  const { rowCount } = await client.query(`
    UPDATE photo SET label = best.label, certainty = best.probability
      FROM (SELECT id, c.label, c.probability
              FROM photo CROSS JOIN LATERAL (
                   SELECT label, probability FROM clip_classify(embedding, $1, $2, ${MODEL}) LIMIT 1) AS c
             WHERE embedding IS NOT NULL AND photo.label IS NULL) AS best
     WHERE photo.id = best.id`, [await labels(client), TEMPLATES])
  return rowCount
}

// Labels the photos that were embedded since the last call, and returns their number.
export async function labelNew (database) {
  const { rows: [{ found }] } = await database.query('SELECT EXISTS (SELECT FROM photo WHERE label IS NULL AND embedding IS NOT NULL) AS found')
  return !found ? 0 : database.transaction(async (client) => {
    await client.query('SELECT pg_advisory_xact_lock($1)', [LABEL_LOCK])
    return labelRows(client)
  })
}

// Replaces the labels, and labels all photos again.
export async function setLabels (database, names) {
  return database.transaction(async (client) => {
    await client.query('SELECT pg_advisory_xact_lock($1)', [LABEL_LOCK])
    await client.query('DELETE FROM label')
    await client.query('INSERT INTO label (name, position) SELECT * FROM unnest($1::text[]) WITH ORDINALITY', [names])
    await client.query('UPDATE photo SET label = NULL, certainty = NULL WHERE label IS NOT NULL')
    return labelRows(client)
  })
}
