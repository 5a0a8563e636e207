// The gallery of the tests: a new database with the sample images, a server, and Chromium.
//
// DATABASE_URL names a superuser of a server that has pg_clip preloaded. gallery_app must be able to log in without a password.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { chromium } from 'playwright-core'

const path = (name) => fileURLToPath(new URL(name, import.meta.url))
const SAMPLES = path('../../emoji.tsv')
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'

export const samples = new Map(readFileSync(SAMPLES, 'utf8').trimEnd().split('\n').map((line) => {
  const [name, bytes] = line.split('\t')
  return [name, Buffer.from(bytes.replace('\\\\x', ''), 'hex')]
}))

const LABELS = ['smiling face', 'animal', 'plant', 'food', 'vehicle', 'building', 'clothing', 'tool', 'music', 'sport', 'weather', 'symbol']

// A PNG whose header is intact and whose pixels are missing: the upload succeeds, and the worker fails.
export const truncated = samples.get('pizza').subarray(0, 600)

function address (database, user) {
  if (!process.env.DATABASE_URL) throw new Error('Set DATABASE_URL to a superuser of a server with pg_clip.')
  const url = new URL(process.env.DATABASE_URL)
  url.pathname = `/${database}`
  if (user) Object.assign(url, { username: user, password: '' })
  return url.href
}

export async function connect (database, user) {
  const client = new pg.Client({ connectionString: address(database, user) })
  client.on('error', () => {})
  await client.connect()
  return client
}

function runNode (script, args, env) {
  return spawn(process.execPath, [path(script), ...args], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
}

async function startServer (url) {
  const child = runNode('../server/main.js', [], {
    DATABASE_URL: `${url}?statement_timeout=5000`, GALLERY_MAX_PHOTOS: '440', PORT: '0', LOG_LEVEL: 'silent'
  })
  const exited = once(child, 'exit')
  const [line] = await once(child.stdout, 'data')
  return { child, exited, base: String(line).match(/http:\S+/)[0] }
}

// Waits until the condition returns a value that is not false.
export async function until (condition, what, seconds = 30) {
  const end = Date.now() + seconds * 1000
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`)
    await pause(50)
  }
}

async function create () {
  const database = `gallery_test_${process.pid}`
  const maintenance = await connect('postgres')
  const { rows: [{ superuser }] } = await maintenance.query("SELECT current_setting('is_superuser')::boolean AS superuser")
  if (!superuser) throw new Error('DATABASE_URL must name a superuser.')
  await maintenance.query(`CREATE DATABASE ${database}`)
  const setup = await connect(database)
  await setup.query(readFileSync(path('../schema.sql'), 'utf8'))
  await setup.end()
  // A new session has the settings of the database.
  const admin = await connect(database)
  const url = address(database, 'gallery_app')
  const loader = runNode('../server/load.js', [SAMPLES], { DATABASE_URL: url })
  loader.stdout.resume()
  const [code] = await once(loader, 'exit')
  if (code !== 0) throw new Error('server/load.js failed')
  return { database, maintenance, admin, ...await startServer(url) }
}

async function open () {
  const { database, maintenance, admin, child, exited, base } = await create()
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] })
  const isSettled = async () => (await admin.query(`
    SELECT NOT EXISTS (SELECT FROM photo WHERE label IS NULL) AND NOT EXISTS (SELECT FROM clip_failures) AS settled`)).rows[0].settled
  return {
    admin,
    base,
    database,
    maintenance,
    // Removes the traces of other tests.
    async reset () {
      await admin.query('DELETE FROM photo WHERE id NOT IN (SELECT id FROM photo ORDER BY id LIMIT 320)')
      // The failures of deleted photos disappear.
      await admin.query('SELECT retry_photos()')
      await admin.query('DELETE FROM label')
      await admin.query(`INSERT INTO label (name, position) SELECT * FROM unnest($1::text[]) WITH ORDINALITY`, [LABELS])
      await admin.query('UPDATE photo SET label = NULL WHERE label <> ALL ($1)', [LABELS])
      await until(isSettled, 'embedded and labeled photos')
    },
    async page (options = {}) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', ...options })
      const page = await context.newPage()
      page.setDefaultTimeout(20_000)
      page.problems = []
      page.on('pageerror', (error) => page.problems.push(error.message))
      // Chromium reports violations of the Content-Security-Policy here. It also reports each status above 399.
      page.on('console', (message) => {
        if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) page.problems.push(message.text())
      })
      await page.goto(base)
      await page.waitForSelector('.card')
      return page
    },
    // Closes a page that had no error.
    async close (page) {
      await page.context().close()
      assert.deepEqual(page.problems, [])
    },
    // Ends the sessions of the server, so that it opens new ones with new settings.
    async reconnect () {
      await admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gallery_app' AND datname = current_database()")
    },
    // Stops the background workers of the database server, or starts them.
    async workers (running) {
      await admin.query(`ALTER SYSTEM ${running ? 'RESET clip.max_workers' : 'SET clip.max_workers = 0'}`)
      await admin.query('SELECT pg_reload_conf()')
      if (!running) await until(async () => (await admin.query("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pg_clip worker') AS gone")).rows[0].gone, 'the end of the workers')
    },
    async stop () {
      await browser.close()
      child.kill('SIGTERM')
      const [code] = await exited
      await admin.end()
      await maintenance.query(`DROP DATABASE ${database} WITH (FORCE)`)
      await maintenance.end()
      assert.equal(code, 0)
    }
  }
}

let opened
// All tests share one gallery, because the start takes some seconds.
export const gallery = () => (opened ??= open())

// Drops files onto an element, as a file manager does. A file has `bytes`, or a `size` and zeros.
export async function drop (page, selector, files) {
  const transfer = await page.evaluateHandle((given) => {
    const data = new DataTransfer()
    for (const { name, base64, size, type } of given) {
      const content = base64 == null ? new Uint8Array(size) : Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))
      data.items.add(new File([content], name, { type }))
    }
    return data
  }, files.map(({ name, bytes, size, type = 'image/png' }) => ({ name, type, size, base64: bytes?.toString('base64') })))
  await page.dispatchEvent('main', 'dragenter', { dataTransfer: transfer })
  await page.dispatchEvent(selector, 'dragover', { dataTransfer: transfer })
  await page.dispatchEvent(selector, 'drop', { dataTransfer: transfer })
}

// Returns the names of the cards in the view of photos.
export const names = (page) => page.$$eval('#grid .name', (found) => found.map((name) => name.textContent))

export const title = (page, text) => page.waitForFunction((wanted) => document.getElementById('result-title').textContent === wanted, text)

export async function search (page, words) {
  await page.fill('#words', words)
  await page.press('#words', 'Enter')
  await title(page, `Photos of “${words}”`)
}
