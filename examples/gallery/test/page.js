// The page in Chromium: uploads, searches, filters, labels, duplicates and progress.
import assert from 'node:assert/strict'
import { afterEach, before, beforeEach, describe, test } from 'node:test'
import { drop, names, samples, search, gallery as fixture, title } from './fixture.js'

describe('the page', () => {
  let gallery, page
  before(async () => {
    gallery = await fixture()
    await gallery.reset()
  })
  beforeEach(async () => { page = await gallery.page() })
  afterEach(() => gallery.close(page))

  const file = (name, sample = name) => ({ name: `${name}.png`, bytes: samples.get(sample) })
  const chosen = ({ name, bytes }) => ({ name, mimeType: 'image/png', buffer: bytes })

  test('search by words, and show more', async () => {
    await search(page, 'musical instrument')
    const first = await names(page)
    assert.equal(first.length, 48)
    for (const name of ['musical keyboard', 'saxophone', 'trumpet', 'violin', 'guitar', 'drum']) assert.ok(first.slice(0, 6).includes(name), name)
    // Unrelated photos follow a divider.
    const before = await page.$$eval('.divider', ([divider]) => [...divider.parentElement.children].indexOf(divider))
    assert.ok(before >= 6 && before <= 12, `${before} close photos`)
    const all = new Set(first)
    for (let pages = 2; pages <= 5; pages++) {
      await page.click('#more')
      await page.waitForFunction((count) => document.querySelectorAll('#grid .card').length === count, 48 * pages)
      // The keyboard continues at the first new photo.
      assert.equal(await page.evaluate(() => [...document.querySelectorAll('.photo')].indexOf(document.activeElement)), 48 * (pages - 1))
    }
    for (const name of await names(page)) all.add(name)
    assert.equal(all.size, 240)
    assert.ok(await page.isHidden('#more'))
  })

  test('the list shows all photos once', async () => {
    for (let shown = 48; shown < 320; shown = Math.min(320, shown + 48)) {
      await page.click('#more')
      await page.waitForFunction((count) => document.querySelectorAll('#grid .card').length > count, shown)
    }
    assert.equal(new Set(await names(page)).size, 320)
    assert.ok(await page.isHidden('#more'))
  })

  test('search by an image, chosen or dropped', async () => {
    await page.setInputFiles('#image-input', chosen(file('my violin', 'violin')))
    await title(page, 'Photos like my violin.png')
    assert.equal((await names(page))[0], 'violin')
    assert.match(await page.getAttribute('#query-image', 'src'), /^blob:/)
    await drop(page, '#drop .drop-search', [file('my pizza', 'pizza')])
    await title(page, 'Photos like my pizza.png')
    assert.equal((await names(page))[0], 'pizza')
    // Dropping in order to search adds nothing.
    assert.match(await page.textContent('#queue-text'), /^320 photos/)
  })

  test('filters, the address, and the Back button', async () => {
    await page.selectOption('#filter-label', 'food')
    await title(page, 'Filtered photos')
    assert.deepEqual(new Set(await page.$$eval('#grid .chip', (chips) => chips.map((chip) => chip.textContent))), new Set(['food']))
    await search(page, 'something red')
    assert.match(page.url(), /q=something\+red.*|label=food/)
    assert.deepEqual(new Set(await page.$$eval('#grid .chip', (chips) => chips.map((chip) => chip.textContent))), new Set(['food']))
    await page.fill('#filter-name', 'APPLE')
    await page.waitForFunction(() => document.querySelectorAll('#grid .card').length < 5)
    assert.ok((await names(page)).every((name) => name.includes('apple')))
    await page.goBack()
    await title(page, 'Filtered photos')
    await page.reload()
    await title(page, 'Filtered photos')
    await page.waitForFunction(() => document.getElementById('filter-label').value === 'food')
    await page.click('#clear')
    await title(page, 'All photos')
  })

  test('more like this, from a card and from the details', async () => {
    await search(page, 'guitar')
    await page.click('[aria-label="More like guitar"]')
    await title(page, 'More like guitar')
    const similar = await names(page)
    assert.ok(!similar.includes('guitar'))
    assert.ok(similar.slice(0, 3).includes('violin'), similar.slice(0, 3).join())
    await page.click('[aria-label="Details of violin"]')
    await page.waitForSelector('#details-labels meter')
    assert.match(await page.textContent('#details-facts'), /72 × 72 pixels · PNG · 2 kB · added/)
    assert.match(await page.textContent('#details-labels'), /music \d+ %/)
    await page.click('#details-similar')
    await title(page, 'More like violin')
  })

  test('labels are replaced, and lead to their photos', async () => {
    await page.click('nav >> text=Labels')
    await page.waitForFunction(() => document.getElementById('label-list').value.includes('food'))
    await page.fill('#label-list', 'something to eat, animal\nvehicle, other, animal')
    await page.click('text=Label all photos')
    await page.waitForFunction(() => document.getElementById('label-result').textContent === '320 photos labeled.')
    assert.deepEqual(await page.$$eval('#label-counts a', (links) => links.map((link) => link.textContent)), ['something to eat', 'animal', 'vehicle', 'other'])
    const counts = await page.$$eval('#label-counts span', (found) => found.map((span) => Number(span.textContent)))
    assert.equal(counts.reduce((sum, one) => sum + one), 320)
    await page.click('#label-counts >> text=vehicle')
    await title(page, 'Filtered photos')
    assert.ok((await names(page)).includes('ambulance'))
    await page.click('nav >> text=Labels')
    await page.fill('#label-list', 'only one')
    await page.click('text=Label all photos')
    await page.waitForFunction(() => /2 to 30 labels/.test(document.getElementById('label-result').textContent))
  })

  test('several dropped files are embedded and labeled, and their progress is shown', async () => {
    await gallery.workers(false)
    try {
      const files = Array.from({ length: 40 }, (_, i) => file(`upload ${i}`, 'guitar'))
      await drop(page, '#drop .drop-upload', [...files, { name: 'notes.txt', bytes: Buffer.from('text') }, { name: 'drawing.svg', bytes: Buffer.from('<svg/>') }])
      assert.ok(await page.isHidden('#drop'))
      await page.waitForFunction(() => document.getElementById('uploads-title').textContent === '40 photos added, 2 files not added')
      await page.waitForFunction(() => document.getElementById('queue-text').textContent.startsWith('Embedding: 40 photos to do'))
      assert.deepEqual(await page.$eval('#queue-progress', ({ value, max, hidden }) => ({ value, max, hidden })), { value: 320, max: 360, hidden: false })
      assert.equal(await page.$$eval('#grid .chip.waiting', (chips) => chips.length), 40)
    } finally {
      await gallery.workers(true)
    }
    assert.equal(await page.$$eval('#uploads .rejected', (items) => items.filter((item) => item.textContent.includes('Use JPEG, PNG')).length), 2)
    await page.waitForFunction(() => document.getElementById('queue-text').textContent.startsWith('360 photos, all searchable'))
    await page.waitForFunction(() => document.querySelectorAll('#grid .chip.waiting').length === 0)
    assert.match((await names(page))[0], /^upload \d+$/)
    await page.waitForFunction(() => document.getElementById('live').textContent !== '')
  })

  test('duplicates are grouped and can be removed', async () => {
    await page.click('nav >> text=Duplicates')
    await page.waitForSelector('.group')
    assert.equal(await page.$$eval('.group', (groups) => groups.length), 1)
    const cards = await page.$$eval('.group .name', (found) => found.map((name) => name.textContent))
    assert.equal(cards[0], 'guitar')
    assert.equal(cards.length, 41)
    await page.click('[aria-label="Remove upload 7"]')
    await page.click('#confirm >> text=Keep')
    assert.equal(await page.$$eval('.group .card', (found) => found.length), 41)
    await page.click('[aria-label="Remove upload 7"]')
    await page.click('#confirm >> text=Remove >> nth=-1')
    await page.waitForFunction(() => document.querySelectorAll('.group .card').length === 40)
  })

  test('more than a hundred files are not taken at once', async () => {
    await page.setInputFiles('#upload-input', Array.from({ length: 101 }, (_, i) => ({ name: `${i}.txt`, mimeType: 'text/plain', buffer: Buffer.from('x') })))
    await page.waitForSelector('text=1 file left out: at most 100 files at a time.')
    await page.waitForFunction(() => document.getElementById('uploads-title').textContent === '100 files not added')
  })
})
