// The server: status codes, limits, types, headers, pages of results.
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { before, describe, test } from 'node:test'
import { samples, gallery as fixture, until } from './fixture.js'

describe('the server', () => {
  let gallery
  before(async () => {
    gallery = await fixture()
    await gallery.reset()
  })

  const call = (path, options) => fetch(`${gallery.base}${path}`, options)
  const get = async (path) => (await call(path)).json()
  const send = (path, body, headers = { 'content-type': 'application/octet-stream' }) => call(path, { method: 'POST', body, headers })
  const named = (name) => `/api/photos?name=${encodeURIComponent(name)}`

  // Asserts the status, the code and a sentence, and that no detail of the database leaks.
  async function rejects (response, status, code) {
    const { error } = await response.json()
    assert.deepEqual([response.status, error.code], [status, code])
    assert.match(error.message, /^[A-Z].*\.$/)
    assert.doesNotMatch(error.message, /SQLSTATE|relation|column|syntax|at .*\.js/i)
  }

  test('rejected uploads have a status and a sentence', async () => {
    const png = samples.get('pizza')
    await rejects(await send(named('a'), ''), 400, 'empty_file')
    await rejects(await send('/api/photos', png), 400, 'invalid_request')
    await rejects(await send(named('a'), '<svg xmlns="http://www.w3.org/2000/svg"/>'), 415, 'wrong_type')
    await rejects(await send(named('a.png'), '<html><script>alert(1)</script>'), 415, 'wrong_type')
    await rejects(await send(named('a'), '%PDF-1.7'), 415, 'wrong_type')
    await rejects(await send(named('a'), 'hello', { 'content-type': 'text/plain' }), 415, 'invalid_request')
    await rejects(await send(named('a'), '{"a": 1}', { 'content-type': 'application/json' }), 400, 'empty_file')
    await rejects(await send(named('a'), png.subarray(0, 20)), 422, 'unreadable_image')
    await rejects(await send(named('x'.repeat(1001)), png), 400, 'invalid_request')
    await rejects(await send('/api/search/image', Buffer.from('GIF89a')), 422, 'unreadable_image')
  })

  test('a file with too many pixels or bytes is rejected', async () => {
    const huge = Buffer.from(samples.get('pizza'))
    huge.writeUInt32BE(20_000, 16)
    huge.writeUInt32BE(20_000, 20)
    // The checksum of the header, over its type and its content.
    huge.writeUInt32BE(crc(huge.subarray(12, 29)), 29)
    await rejects(await send(named('huge'), huge), 413, 'image_too_large')
    const status = await new Promise((resolve, reject) => {
      const sent = request(`${gallery.base}${named('big')}`, { method: 'POST', headers: { 'content-type': 'application/octet-stream', 'content-length': 10 * 1024 * 1024 + 1 } },
        (response) => { response.resume(); resolve(response.statusCode) })
      sent.on('error', reject)
      sent.write('x')
    })
    assert.equal(status, 413)
  })

  function crc (bytes) {
    let value = ~0
    for (const byte of bytes) {
      value ^= byte
      for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (0xedb88320 & -(value & 1))
    }
    return ~value >>> 0
  }

  test('more than four uploads at the same time are put off', async () => {
    const open = Array.from({ length: 4 }, () => {
      const sent = request(`${gallery.base}${named('slow')}`, { method: 'POST', headers: { 'content-type': 'application/octet-stream', 'content-length': 100 } })
      sent.on('error', () => {})
      sent.write('x')
      return sent
    })
    await until(async () => (await send('/api/search/image', samples.get('pizza'))).status === 503, 'a rejected upload')
    const late = await send(named('late'), samples.get('pizza'))
    assert.equal(late.headers.get('retry-after'), '2')
    await rejects(late, 503, 'busy')
    open.forEach((sent) => sent.destroy())
    await until(async () => (await send('/api/search/image', samples.get('pizza'))).status === 200, 'a free slot')
  })

  test('SQL in search words and filters is text', async () => {
    for (const words of ["'; DROP TABLE photo; --", "a cat' OR '1'='1", '$$; SELECT 1', '%_\\']) {
      const text = encodeURIComponent(words)
      assert.equal((await get(`/api/search?q=${text}`)).photos.length, 240)
      assert.deepEqual((await get(`/api/search?q=cat&name=${text}`)).photos, [])
      assert.deepEqual((await get(`/api/search?q=cat&label=${text}`)).photos, [])
      assert.deepEqual((await get(`/api/photos?name=${text}`)).photos, [])
    }
    assert.equal((await get('/api/status')).photos, 320)
  })

  test('invalid requests are rejected before the database sees them', async () => {
    await rejects(await call('/api/search'), 400, 'invalid_request')
    await rejects(await call('/api/search?q='), 400, 'invalid_request')
    await rejects(await call(`/api/search?q=${'x'.repeat(301)}`), 400, 'invalid_request')
    await rejects(await call('/api/search?q=a&order=1'), 400, 'invalid_request')
    await rejects(await call('/api/search?q=a%00b'), 400, 'invalid_text')
    await rejects(await call("/photos/1'--"), 400, 'invalid_request')
    await rejects(await call('/photos/999999'), 404, 'no_photo')
    await rejects(await call('/api/photos/999999/similar'), 404, 'no_photo')
    await rejects(await call('/api/photos/999999', { method: 'DELETE' }), 404, 'no_photo')
    await rejects(await call('/api/duplicates?distance=3'), 400, 'invalid_request')
    await rejects(await call('/../server/main.js'), 404, 'no_page')
    const labels = (list) => call('/api/labels', { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ labels: list }) })
    await rejects(await labels(['one']), 400, 'invalid_request')
    await rejects(await labels(['one', ' ']), 400, 'invalid_request')
    await rejects(await labels(Array.from({ length: 31 }, (_, i) => `label ${i}`)), 400, 'invalid_request')
  })

  test('another site cannot write', async () => {
    for (const headers of [{ origin: 'https://example.org' }, { 'sec-fetch-site': 'cross-site' }, { origin: 'null' }]) {
      await rejects(await call('/api/failures/retry', { method: 'POST', headers }), 403, 'other_site')
    }
    assert.equal((await call('/api/failures/retry', { method: 'POST', headers: { origin: gallery.base, 'sec-fetch-site': 'same-origin' } })).status, 200)
  })

  test('the bytes of a photo have their real type, and a browser keeps to it', async () => {
    const bytes = samples.get('guitar')
    const answer = await send(named('evil.html'), bytes, { 'content-type': 'application/octet-stream' })
    assert.equal(answer.status, 201)
    const { photo } = await answer.json()
    assert.deepEqual([photo.type, photo.width, photo.height, photo.bytes], ['image/png', 72, 72, bytes.length])
    const response = await call(`/photos/${photo.id}`)
    assert.equal(response.headers.get('content-type'), 'image/png')
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff')
    assert.match(response.headers.get('content-security-policy'), /sandbox/)
    assert.deepEqual(Buffer.from(await response.arrayBuffer()), bytes)
    assert.equal((await call(`/api/photos/${photo.id}`, { method: 'DELETE' })).status, 204)
    const page = await call('/')
    assert.match(page.headers.get('content-security-policy'), /default-src 'none'; script-src 'self';/)
    assert.doesNotMatch(page.headers.get('content-security-policy'), /unsafe/)
  })

  test('pages of the list have each photo once, also while photos are added', async () => {
    const found = []
    let next
    do {
      const page = await get(`/api/photos${next ? `?before=${next}` : ''}`)
      found.push(...page.photos.map((photo) => photo.id))
      next = page.next
      if (next) await send(named('added in between'), samples.get('pizza'))
    } while (next)
    assert.equal(found.length, 320)
    assert.equal(new Set(found).size, 320)
  })

  test('a filter that few photos match does not shorten the result', async () => {
    const { rows: [{ wanted }] } = await gallery.admin.query("SELECT count(*)::int AS wanted FROM photo WHERE label = 'food' AND embedding IS NOT NULL")
    const { photos } = await get('/api/search?q=a%20vehicle&label=food')
    assert.equal(photos.length, wanted)
    assert.ok(photos.every((photo) => photo.label === 'food'))
  })

  test('the gallery is full', async () => {
    const answers = []
    while (answers.length < 150 && answers.at(-1) !== 507) answers.push((await send(named('one more'), samples.get('pizza'))).status)
    assert.ok(answers.slice(0, -1).every((status) => status === 201), answers.join())
    await rejects(await send(named('one more'), samples.get('pizza')), 507, 'gallery_full')
    assert.equal((await get('/api/status')).photos, 440)
  })
})
