// The page for everybody: with a keyboard only, on a phone, with a screen reader, in both color schemes.
import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { gallery as fixture, names, samples, search, title } from './fixture.js'

const VIEWS = ['Photos', 'Duplicates', 'Labels', 'Failures']

// Runs in the page. Returns the texts whose contrast is below WCAG's 4.5, or 3 for large texts.
function lowContrast () {
  const parse = (color) => color.match(/[\d.]+/g).map(Number)
  const channel = (value) => value <= 10.3 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b)
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor)
      if (color.length === 3 || color[3] === 1) return color
    }
    return [255, 255, 255]
  }
  const found = []
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement
    if (!walker.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || element.closest('noscript, option, .hidden, .skip')) continue
    const style = getComputedStyle(element)
    const [one, two] = [luminance(parse(style.color)), luminance(background(element))].sort((a, b) => b - a)
    const size = parseFloat(style.fontSize)
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700)
    const ratio = (one + 0.05) / (two + 0.05)
    if (ratio < (large ? 3 : 4.5)) found.push(`${walker.currentNode.data.trim()}: ${ratio.toFixed(1)}`)
  }
  return found
}

// Runs in the page. Returns the controls without a name.
function unnamed () {
  return [...document.querySelectorAll('a, button, input, select, textarea, progress, meter, img, dialog')].filter((element) => {
    const label = element.getAttribute('aria-label') || element.getAttribute('aria-labelledby') || element.labels?.[0]?.textContent || element.textContent
    return element.tagName === 'IMG' ? !element.hasAttribute('alt') : !label?.trim()
  }).map((element) => element.outerHTML)
}

const focused = (page) => page.evaluate(() => {
  const element = document.activeElement
  const style = getComputedStyle(element)
  const ring = element.matches(':focus-visible') && (style.outlineStyle !== 'none' || getComputedStyle(element.closest('.file') ?? element).outlineStyle !== 'none')
  return { name: element.getAttribute('aria-label') ?? (element.id || element.textContent.trim()), ring }
})

describe('access', () => {
  let gallery
  before(async () => {
    gallery = await fixture()
    await gallery.reset()
  })

  test('the keyboard is enough', async () => {
    const page = await gallery.page()
    const tab = async (wanted, most = 20) => {
      for (let presses = 0; presses < most; presses++) {
        await page.keyboard.press('Tab')
        const { name, ring } = await focused(page)
        assert.ok(ring, `${name} shows no focus`)
        if (name.startsWith(wanted)) return
      }
      assert.fail(`${wanted} was not reached: ${(await focused(page)).name}`)
    }
    // The first stop skips the navigation.
    await tab('Skip to the photos', 1)
    await page.keyboard.press('Enter')
    await tab('words', 1)
    await page.keyboard.type('guitar')
    await page.keyboard.press('Enter')
    await title(page, 'Photos of “guitar”')
    await tab('image-input', 2)
    await tab('Details of guitar')
    await page.keyboard.press('Enter')
    await page.waitForSelector('#details[open]')
    // The focus stays in the dialog, and Escape returns it.
    for (let i = 0; i < 6; i++) {
      await page.keyboard.press('Tab')
      assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest('dialog') !== null))
    }
    await page.keyboard.press('Escape')
    await page.waitForSelector('#details:not([open])', { state: 'attached' })
    assert.equal((await focused(page)).name, 'Details of guitar')
    await tab('More like guitar', 1)
    await page.keyboard.press('Enter')
    await title(page, 'More like guitar')
    await page.waitForFunction(() => document.activeElement.id === 'result-title')
    await page.keyboard.press('Shift+Tab')
    await page.evaluate(() => document.querySelector('.brand').focus())
    for (const view of VIEWS.slice(1)) {
      await tab(view, 3)
      await page.keyboard.press('Enter')
      await page.waitForSelector(`#${view.toLowerCase()}:not([hidden])`)
      assert.equal(await page.getAttribute('[aria-current]', 'data-view'), view.toLowerCase())
    }
    await tab('upload-input', 2)
    await gallery.close(page)
  })

  test('landmarks and names', async () => {
    const page = await gallery.page()
    for (const role of ['banner', 'navigation', 'main', 'search']) assert.equal(await page.getByRole(role).count(), 1, role)
    assert.equal(await page.getByRole('heading', { level: 1 }).count(), 1)
    assert.ok(await page.getAttribute('html', 'lang'))
    for (const view of VIEWS) {
      await page.click(`nav >> text=${view}`)
      assert.deepEqual(await page.evaluate(unnamed), [])
    }
    await gallery.close(page)
  })

  test('a screen reader hears the results', async () => {
    const page = await gallery.page()
    const hears = (text) => page.waitForFunction((wanted) => document.querySelector('[aria-live]').textContent === wanted, text)
    await search(page, 'cat')
    await hears('Photos of “cat”: 240 results')
    await page.click('#more')
    await hears('48 more photos shown')
    await page.fill('#filter-name', 'no such name')
    await hears('No photo matches.')
    await gallery.close(page)
  })

  for (const colorScheme of ['light', 'dark']) {
    test(`contrast, ${colorScheme}`, async () => {
      const page = await gallery.page({ colorScheme })
      await page.setInputFiles('#upload-input', [
        { name: 'copy.png', mimeType: 'image/png', buffer: samples.get('guitar') }, { name: 'text.txt', mimeType: 'text/plain', buffer: Buffer.from('x') }])
      await page.waitForSelector('#uploads .rejected')
      await page.waitForSelector('#uploads .done')
      for (const view of VIEWS) {
        await page.click(`nav >> text=${view}`)
        if (view === 'Duplicates') await page.waitForSelector('.group')
        if (view === 'Labels') await page.waitForSelector('#label-counts meter')
        assert.deepEqual(await page.evaluate(lowContrast), [], view)
      }
      await page.click('nav >> text=Photos')
      await page.click('.photo')
      await page.waitForSelector('#details[open]')
      assert.deepEqual(await page.evaluate(lowContrast), [])
      await gallery.close(page)
    })
  }

  test('a phone of 360 pixels', async () => {
    const page = await gallery.page({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true })
    const fits = async (what) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 360), `${what} is wider than the screen`)
    await gallery.admin.query("INSERT INTO photo (name, type, width, height, file) VALUES (repeat('W', 200), 'image/png', 1, 1, '')")
    await page.reload()
    await page.waitForFunction(() => document.getElementById('failure-count').textContent === '1')
    for (const view of VIEWS) {
      await page.tap(`nav >> text=${view}`)
      await page.waitForSelector(`#${view.toLowerCase()}:not([hidden])`)
      await fits(view)
    }
    await page.waitForSelector('#failure-list li')
    await fits('a long name')
    await page.tap('nav >> text=Photos')
    await search(page, 'something to wear')
    assert.equal((await names(page))[0], 'jeans')
    // Fingers need targets of at least 24 pixels.
    const small = await page.$$eval('main button, main a, main select, main input:not([type=file]), nav a', (targets) => targets
      .filter((target) => target.checkVisibility()).map((target) => [target.textContent, target.getBoundingClientRect()])
      .filter(([, { width, height }]) => width < 24 || height < 24).map(([text]) => text))
    assert.deepEqual(small, [])
    await page.tap('.photo')
    await page.waitForSelector('#details-labels meter')
    const box = await page.locator('#details').boundingBox()
    assert.ok(box.x >= 0 && box.x + box.width <= 360, JSON.stringify(box))
    await page.tap('#details .close')
    await gallery.close(page)
  })
})
