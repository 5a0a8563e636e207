// The routes of the gallery.
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import { Rejection, answer } from './errors.js'
import * as photos from './photos.js'
import * as queue from './queue.js'

const MAX_JSON_BYTES = 16 * 1024
// Each upload is in memory until it is stored, so this bounds the memory: 4 × 10 MiB.
const MAX_UPLOADS = 4
const REQUEST_TIMEOUT_MS = 30_000

const PAGE_FILES = [
  ['index.html', 'text/html; charset=utf-8'],
  ['style.css', 'text/css; charset=utf-8'],
  ['favicon.svg', 'image/svg+xml'],
  ...['main', 'api', 'elements', 'grid', 'details', 'upload', 'panels', 'queue'].map((name) => [`${name}.js`, 'text/javascript; charset=utf-8'])
]

const HEADERS = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; " +
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin'
}

const id = { type: 'string', pattern: '^[1-9][0-9]{0,17}$' }
const filter = {
  label: { type: 'string', maxLength: 40 },
  type: { type: 'string', maxLength: 20 },
  name: { type: 'string', maxLength: 200 }
}
const query = (properties, required = []) => ({ schema: { querystring: { type: 'object', properties, required, additionalProperties: false } } })
const params = { schema: { params: { type: 'object', properties: { id } } } }
const labelList = {
  type: 'object',
  required: ['labels'],
  properties: {
    labels: { type: 'array', minItems: 2, maxItems: 30, uniqueItems: true, items: { type: 'string', minLength: 1, maxLength: 40, pattern: '^[^\\u0000-\\u001f]*\\S[^\\u0000-\\u001f]*$' } }
  }
}

// A page of another site cannot write here: browsers send these headers, and the page cannot change them.
function requireSameOrigin (request) {
  if (request.method === 'GET' || request.method === 'HEAD') return
  const site = request.headers['sec-fetch-site'] ?? 'same-origin'
  const origin = request.headers.origin
  const own = !origin || (URL.canParse(origin) && new URL(origin).host === request.headers.host)
  if (!own || !['same-origin', 'none'].includes(site)) throw new Rejection(403, 'other_site', 'Another site cannot change this gallery.')
}

// Limits the uploads that are received at the same time.
function uploadSlots () {
  let free = MAX_UPLOADS
  return async (request, reply) => {
    if (free === 0) throw new Rejection(503, 'busy', 'Too many files arrive at the same time. Try again in a moment.')
    free--
    reply.raw.once('close', () => { free++ })
  }
}

export function build (database, { logger = false } = {}) {
  const app = Fastify({
    logger,
    bodyLimit: MAX_JSON_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: 2 * REQUEST_TIMEOUT_MS,
    forceCloseConnections: true,
    ajv: { customOptions: { removeAdditional: false } }
  })
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (request, body, done) => done(null, body))

  app.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS)
    requireSameOrigin(request)
  })
  app.setErrorHandler((error, request, reply) => {
    const { status, body } = answer(error)
    if (status >= 500) request.log.error({ code: error.code, reason: error.cause?.message ?? error.message }, 'request failed')
    if (status === 503) reply.header('retry-after', '2')
    // The client may still be sending a file that is too large.
    if (status === 413) reply.header('connection', 'close')
    reply.code(status).header('cache-control', 'no-store').send(body)
  })
  app.setNotFoundHandler(() => { throw new Rejection(404, 'no_page', 'This address does not exist.') })

  for (const [name, type] of PAGE_FILES) {
    const content = readFileSync(new URL(`../public/${name}`, import.meta.url))
    app.get(name === 'index.html' ? '/' : `/${name}`, (request, reply) => reply.type(type).header('cache-control', 'no-cache').send(content))
  }

  app.get('/photos/:id', params, async (request, reply) => {
    const photo = await photos.read(database, request.params.id)
    return reply.type(photo.type).headers({
      'content-security-policy': "default-src 'none'; sandbox",
      'content-disposition': 'inline',
      // The file of an id never changes.
      'cache-control': 'private, max-age=86400, immutable'
    }).send(photo.file)
  })

  app.register(async (api) => {
    api.addHook('onRequest', async (request, reply) => { reply.header('cache-control', 'no-store') })
    const upload = { bodyLimit: photos.MAX_FILE_BYTES, onRequest: uploadSlots() }

    api.get('/status', () => queue.status(database))
    api.get('/photos', query({ ...filter, before: id }), (request) => photos.list(database, request.query))
    api.post('/photos', { ...upload, ...query({ name: { type: 'string', maxLength: 1000 } }, ['name']) }, async (request, reply) => {
      reply.code(201)
      return { photo: await photos.store(database, request.query.name, request.body) }
    })
    api.delete('/photos/:id', params, async (request, reply) => {
      await photos.remove(database, request.params.id)
      return reply.code(204).send()
    })
    api.get('/photos/:id/labels', params, async (request) => ({ labels: await photos.classify(database, request.params.id) }))
    api.get('/photos/:id/similar', { schema: { ...params.schema, ...query(filter).schema } },
      (request) => photos.searchSimilar(database, request.params.id, request.query))

    const words = { type: 'string', minLength: 1, maxLength: 300 }
    api.get('/search', query({ ...filter, q: words }, ['q']), async ({ query: { q, ...rest } }) => ({ photos: await photos.searchText(database, q, rest) }))
    api.post('/search/image', { ...upload, ...query(filter) }, async (request) => ({ photos: await photos.searchImage(database, request.body, request.query) }))

    const distance = { type: 'number', minimum: 0, maximum: 0.2, default: 0.01 }
    api.get('/duplicates', query({ distance }), async (request) => ({ groups: await photos.duplicates(database, request.query.distance) }))
    api.put('/labels', { schema: { body: labelList } }, async (request) => ({ labeled: await photos.setLabels(database, request.body.labels.map((name) => name.trim())) }))

    api.get('/failures', async () => ({ failures: await queue.failures(database) }))
    api.post('/failures/retry', async () => ({ cleared: await queue.retry(database) }))
  }, { prefix: '/api' })

  return app
}
