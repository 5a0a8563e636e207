// The page in Chromium when something is wrong: failures, a missing model, a missing database, hostile names.
import assert from 'node:assert/strict'
import { afterEach, before, beforeEach, describe, test } from 'node:test'
import { drop, names, samples, search, gallery as fixture, truncated, until } from './fixture.js'

describe('the page in trouble', () => {
  let gallery, page
  before(async () => {
    gallery = await fixture()
    await gallery.reset()
  })
  beforeEach(async () => { page = await gallery.page() })
  afterEach(() => gallery.close(page))

  const upload = (...files) => drop(page, '#drop .drop-upload', files)
  const uploaded = (text) => page.waitForFunction((wanted) => document.getElementById('uploads-title').textContent === wanted, text)
  const banner = (text) => page.waitForFunction((wanted) => {
    const element = document.getElementById('banner')
    return !element.hidden && element.textContent.includes(wanted)
  }, text)
  const setDatabase = (setting) => gallery.maintenance.query(`ALTER DATABASE ${gallery.database} ${setting}`)

  test('hostile names are shown as they are', async () => {
    const hostile = ['<img src=x onerror=alert(1)>', '"><script>alert(2)</script>', "Robert'); DROP TABLE photo;--", '&lt;b&gt; ${alert(3)} {{4}}', 'javascript:alert(5)']
    let alerts = 0
    page.on('dialog', (dialog) => { alerts++; dialog.dismiss() })
    await upload(...hostile.map((name) => ({ name: `${name}.png`, bytes: samples.get('pizza') })), { name: '<b>damaged</b>.png', bytes: truncated })
    await uploaded('6 photos added')
    await page.waitForFunction(() => document.querySelectorAll('#grid .name').length >= 48)
    await until(async () => (await names(page))[0].includes('damaged'), 'the new photos')
    assert.deepEqual(new Set((await names(page)).slice(0, 6)), new Set([...hostile, '<b>damaged</b>']))
    await page.fill('#filter-name', "Robert'); DROP")
    await page.waitForFunction(() => document.querySelectorAll('#grid .card').length === 1)
    await page.click('.photo')
    assert.equal(await page.textContent('#details-name'), hostile[2])
    await page.click('#details-remove')
    assert.equal(await page.textContent('#confirm-text'), `Remove “${hostile[2]}” from the gallery?`)
    await page.click('#confirm >> text=Remove >> nth=-1')
    await page.waitForFunction(() => document.querySelectorAll('#grid .card').length === 0)
    await page.click('nav >> text=Duplicates')
    await page.waitForSelector('.group')
    await page.click('nav >> text=Failures')
    await page.waitForSelector('#failure-list >> text=<b>damaged</b>')
    assert.equal(await page.$$eval('main b, main script, main img[src="x"], #uploads b, dialog b', (found) => found.length), 0)
    await page.click('nav >> text=Photos')
    await search(page, '<img src=x onerror=alert(6)>')
    assert.equal(alerts, 0)
  })

  test('a damaged photo is listed, tried again and removed', async () => {
    await page.waitForFunction(() => document.getElementById('failure-count').textContent === '1')
    await page.click('nav >> text=Failures')
    await page.waitForSelector('text=This file is not a readable image. It may be damaged or incomplete.')
    await page.waitForSelector('text=SQLSTATE 22P03')
    const failed = () => gallery.admin.query('SELECT first_failed_at::text FROM clip_failures').then(({ rows }) => rows[0]?.first_failed_at)
    const first = await failed()
    await page.click('#retry')
    await until(async () => { const now = await failed(); return now && now !== first }, 'the second attempt')
    await page.waitForSelector('#failure-list li')
    await page.click('#failure-list >> text=Remove')
    await page.click('#confirm >> text=Remove >> nth=-1')
    await page.waitForSelector('text=No photo has failed.')
    assert.ok(await page.isHidden('#retry'))
    await page.waitForFunction(() => document.getElementById('failure-count').hidden)
  })

  test('a retry embeds a photo when its cause is gone', async () => {
    await gallery.workers(false)
    await upload({ name: 'too large for now.png', bytes: samples.get('guitar') })
    await uploaded('1 photo added')
    await setDatabase("SET clip.max_image_pixels = '1000'")
    await gallery.workers(true)
    await page.click('nav >> text=Failures')
    await page.waitForSelector('text=This image has too many pixels or bytes.', { timeout: 20_000 })
    await setDatabase("SET clip.max_image_pixels = '50000000'")
    // A worker has the settings with which it started.
    await gallery.workers(false)
    await gallery.workers(true)
    await page.click('#retry')
    await page.waitForSelector('text=No photo has failed.', { timeout: 20_000 })
    await page.waitForFunction(() => document.getElementById('queue-text').textContent.includes('all searchable'))
    await page.click('nav >> text=Photos')
    await search(page, 'guitar')
    assert.ok((await names(page)).slice(0, 3).includes('too large for now'))
  })

  test('a missing model stops the search, and nothing else', async () => {
    await setDatabase("SET clip.model_path = '/nowhere'")
    try {
      await gallery.reconnect()
      // A running worker keeps the settings of its start.
      await gallery.workers(false)
      await gallery.workers(true)
      await page.fill('#words', 'a missing model')
      await page.press('#words', 'Enter')
      await banner('The model of this gallery is not available')
      await page.reload()
      await page.waitForFunction(() => document.getElementById('queue-text').textContent.includes('is not available: nothing can be searched'))
      assert.equal((await names(page)).length, 0)
      const answer = await fetch(`${gallery.base}/api/search?q=cat`)
      assert.deepEqual([answer.status, answer.headers.get('retry-after'), (await answer.json()).error.code], [503, '2', 'model_unavailable'])
      await page.goto(gallery.base)
      await page.waitForSelector('.card')
      await upload({ name: 'later.png', bytes: samples.get('guitar') })
      await uploaded('1 photo added')
      await page.click('nav >> text=Failures')
      // The launcher of the workers looks once per minute.
      await page.waitForSelector('#failures-text >> text=The model of this gallery is not available', { timeout: 90_000 })
    } finally {
      await setDatabase('RESET clip.model_path')
      await gallery.reconnect()
      await gallery.workers(false)
      await gallery.workers(true)
    }
    await page.click('nav >> text=Failures')
    await page.click('#retry')
    await page.waitForFunction(() => document.getElementById('queue-text').textContent.includes('all searchable'), undefined, { timeout: 30_000 })
  })

  test('the database is not reachable', async () => {
    await setDatabase('ALLOW_CONNECTIONS false')
    try {
      await gallery.reconnect()
      await until(async () => (await fetch(`${gallery.base}/api/photos`)).status === 503, 'an error')
      const { error } = await (await fetch(`${gallery.base}/api/photos`)).json()
      assert.equal(error.code, 'database_unavailable')
      await page.fill('#words', 'nothing')
      await page.press('#words', 'Enter')
      await banner('The database cannot be reached. Try again in a moment.')
    } finally {
      await setDatabase('ALLOW_CONNECTIONS true')
    }
    await page.press('#words', 'Enter')
    await page.waitForFunction(() => document.getElementById('result-title').textContent === 'Photos of “nothing”')
    assert.ok(await page.isHidden('#banner'))
  })

  test('a request that takes too long ends', async () => {
    const { admin } = gallery
    await admin.query('BEGIN')
    await admin.query('LOCK TABLE photo IN ACCESS EXCLUSIVE MODE')
    try {
      await page.fill('#words', 'slow')
      await page.press('#words', 'Enter')
      await banner('The request took too long.')
      assert.equal((await fetch(`${gallery.base}/api/photos`)).status, 504)
    } finally {
      await admin.query('ROLLBACK')
    }
  })

  test('an upload that was interrupted can be repeated', async () => {
    await page.route('**/api/photos?name=*', (route) => route.abort())
    await upload({ name: 'interrupted.png', bytes: samples.get('guitar') })
    await uploaded('1 file not added')
    await page.waitForSelector('text=The gallery does not answer. Check the connection, and try again.')
    await page.unroute('**/api/photos?name=*')
    await page.click('#uploads >> text=Try again >> nth=-1')
    await uploaded('1 photo added')
    // A file of more than 10 MB is not sent.
    await upload({ name: 'big.png', size: 10 * 1024 * 1024 + 1 })
    await page.waitForSelector('text=This file is too large. A photo can have at most 10 MB.')
  })
})
