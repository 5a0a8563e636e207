// Screenshots for people, in test/output. GALLERY_IMAGE=FILE also writes the one of the documentation.
import assert from 'node:assert/strict'
import { mkdirSync, statSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { drop, samples, search, gallery as fixture, truncated } from './fixture.js'

const output = new URL('output/', import.meta.url).pathname
let gallery

before(async () => {
  mkdirSync(output, { recursive: true })
  gallery = await fixture()
  await gallery.reset()
})
after(() => gallery.stop())

const images = (page) => page.waitForFunction(() => [...document.querySelectorAll('img[src^="/photos/"]')].slice(0, 12).every((image) => image.complete && image.naturalWidth > 0))

test('the image of the documentation is small', async () => {
  const path = process.env.GALLERY_IMAGE ?? `${output}gallery.png`
  const page = await gallery.page({ viewport: { width: 1280, height: 900 } })
  await search(page, 'musical instrument')
  await images(page)
  await page.evaluate(() => document.activeElement.blur())
  await page.screenshot({ path })
  assert.ok(statSync(path).size < 300_000)
})

test('desktop, light and dark', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const page = await gallery.page({ colorScheme })
    const shot = async (name) => {
      await images(page)
      await page.mouse.move(0, 0)
      await page.screenshot({ path: `${output}${colorScheme}-${name}.png` })
    }
    await page.waitForSelector('.card')
    await shot('start')
    await search(page, 'musical instrument')
    await page.waitForSelector('.divider')
    await shot('search')
    await page.click('.photo >> nth=3')
    await page.waitForSelector('#details-labels meter')
    await shot('details')
    await page.click('#details-similar')
    await page.waitForFunction(() => document.getElementById('result-title').textContent.startsWith('More like'))
    await shot('similar')
    await page.click('nav >> text=Labels')
    await page.waitForSelector('#label-counts meter')
    await shot('labels')
    if (colorScheme === 'light') {
      await drop(page, '#drop .drop-upload', [
        { name: 'copy of guitar.png', bytes: samples.get('guitar') }, { name: 'damaged.png', bytes: truncated },
        { name: 'page.html', bytes: Buffer.from('<html>'), type: 'text/html' }])
      await page.waitForSelector('#uploads .rejected')
      await page.waitForSelector('#failure-count:not([hidden])')
    }
    await page.click('nav >> text=Duplicates')
    await page.waitForSelector('.group')
    await shot('duplicates')
    await page.click('nav >> text=Failures')
    await page.waitForSelector('#failure-list li')
    await shot('failures')
    await page.context().close()
  }
})

test('phone', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const page = await gallery.page({ colorScheme, viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 })
    await search(page, 'something to wear')
    await images(page)
    await page.screenshot({ path: `${output}phone-${colorScheme}.png` })
    await page.click('.photo >> nth=0')
    await page.waitForSelector('#details-labels meter')
    await page.screenshot({ path: `${output}phone-${colorScheme}-details.png` })
    await page.context().close()
  }
})
