// The messages that visitors read, and the status codes that clients act on.

// An error whose message is written for visitors.
export class Rejection extends Error {
  constructor (status, code, message, options) {
    super(message, options)
    Object.assign(this, { status, code })
  }
}

export const UNREACHABLE = [503, 'database_unavailable', 'The database cannot be reached. Try again in a moment.']
const NO_MODEL = [503, 'model_unavailable', 'The model of this gallery is not available, so nothing can be searched or labeled now. Ask the administrator to install it.']
const BUSY = [503, 'busy', 'The database is busy. Try again in a moment.']

// SQLSTATE → status, code, sentence. https://www.postgresql.org/docs/current/errcodes-appendix.html lists PostgreSQL's codes,
// and docs/reference/errors.md those of pg_clip.
const BY_SQLSTATE = {
  '22P03': [422, 'unreadable_image', 'This file is not a readable image. It may be damaged or incomplete.'],
  '54000': [413, 'image_too_large', 'This image has too many pixels or bytes. Save it in a smaller size.'],
  '22021': [400, 'invalid_text', 'The text contains a character that cannot be used.'],
  '22P02': [400, 'invalid_value', 'A value has the wrong form.'],
  '22003': [400, 'invalid_value', 'A number is too large.'],
  '23514': [400, 'invalid_value', 'A value is too long or not allowed.'],
  '42704': NO_MODEL,
  '55000': NO_MODEL,
  '58P01': NO_MODEL,
  'F0000': NO_MODEL,
  '25006': [503, 'read_only', 'The gallery can only be read at the moment. Try again later.'],
  '38000': [422, 'no_embedding', 'The model could not read this image or text.'],
  '53100': [507, 'disk_full', 'The database has no space for more photos.'],
  '53200': BUSY,
  '53300': BUSY,
  '57014': [504, 'timeout', 'The request took too long. Try it again, or with less.'],
  '57P01': UNREACHABLE,
  '57P02': UNREACHABLE,
  '57P03': UNREACHABLE
}

// Errors of Fastify. Its validation errors have the code FST_ERR_VALIDATION.
const BY_FASTIFY = {
  FST_ERR_VALIDATION: [400, 'invalid_request', 'The request has a missing, too long or invalid value.'],
  FST_ERR_CTP_INVALID_JSON_BODY: [400, 'invalid_request', 'The request is not valid JSON.'],
  FST_ERR_CTP_EMPTY_JSON_BODY: [400, 'invalid_request', 'The request is empty.'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [415, 'invalid_request', 'The request has the wrong content type.'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [400, 'invalid_request', 'The request is incomplete.'],
  FST_ERR_CTP_BODY_TOO_LARGE: [413, 'file_too_large', 'This file is too large. A photo can have at most 10 MB.']
}

const UNKNOWN = [500, 'internal', 'Something went wrong in the gallery. The administrator can find the cause in the log.']

function find (error) {
  if (error instanceof Rejection) return [error.status, error.code, error.message]
  // pg reports a lost connection without a SQLSTATE.
  if (error.code === 'ECONNRESET' || error.message.startsWith('Connection terminated')) return UNREACHABLE
  return BY_SQLSTATE[error.code] ?? BY_FASTIFY[error.code] ?? UNKNOWN
}

// Returns the status and the body of the answer to a request that failed with this error.
export function answer (error) {
  const [status, code, message] = find(error)
  return { status, body: { error: { code, message } } }
}

// Returns the sentence for a failure that the database recorded.
export const sentence = (sqlstate) => (BY_SQLSTATE[sqlstate] ?? UNKNOWN)[2]
