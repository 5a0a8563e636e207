// A gallery for one test file: a new database with the sample images, a server, and Chromium.
//
// DATABASE_URL names a superuser of a server that has pg_clip preloaded. gallery_app must be able to log in without a password.
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

async function runNode (script, args, env) {
  const child = spawn(process.execPath, [path(script), ...args], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  return child
}

async function startServer (url) {
  const child = await runNode('../server/main.js', [], { DATABASE_URL: url, PORT: '0', LOG_LEVEL: 'silent' })
  const [line] = await once(child.stdout, 'data')
  return { child, base: String(line).match(/http:\S+/)[0] }
}

// Waits until the condition returns a value that is not false.
export async function until (condition, what, seconds = 20) {
  const end = Date.now() + seconds * 1000
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`)
    await pause(100)
  }
}

export async function start ({ load = true } = {}) {
  const database = `gallery_test_${process.pid}`
  const maintenance = await connect('postgres')
  await maintenance.query(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`)
  await maintenance.query(`CREATE DATABASE ${database}`)
  const setup = await connect(database)
  await setup.query(readFileSync(path('../schema.sql'), 'utf8'))
  await setup.end()
  // A new session has the settings of the database.
  const admin = await connect(database)
  const url = address(database, 'gallery_app')
  if (load) {
    const loader = await runNode('../server/load.js', [SAMPLES], { DATABASE_URL: url })
    loader.stdout.resume()
    const [code] = await once(loader, 'exit')
    if (code !== 0) throw new Error('server/load.js failed')
    await until(async () => (await admin.query('SELECT count(*)::int AS left FROM photo WHERE embedding IS NULL')).rows[0].left === 0, 'embedding')
  }
  const { child, base } = await startServer(url)
  if (load) await until(async () => (await admin.query('SELECT count(*)::int AS left FROM photo WHERE label IS NULL')).rows[0].left === 0, 'labels')
  let browser
  return {
    admin,
    base,
    database,
    url,
    async page (options = {}) {
      browser ??= await chromium.launch({ executablePath: CHROMIUM, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] })
      const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', ...options })
      const page = await context.newPage()
      page.setDefaultTimeout(10_000)
      page.problems = []
      page.on('pageerror', (error) => page.problems.push(error.message))
      // Chromium reports violations of the Content-Security-Policy here. It also reports each status above 399.
      page.on('console', (message) => {
        if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) page.problems.push(message.text())
      })
      await page.goto(base)
      return page
    },
    // Ends the sessions of the server, so that it opens new ones with new settings.
    async reconnect () {
      await admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gallery_app' AND datname = current_database()")
    },
    async stop () {
      await browser?.close()
      const stopped = once(child, 'exit')
      child.kill('SIGTERM')
      const [code] = await stopped
      await admin.end()
      await maintenance.query(`DROP DATABASE ${database} WITH (FORCE)`)
      await maintenance.end()
      if (code !== 0) throw new Error(`the server exited with ${code}`)
    }
  }
}

// Drops files onto an element, as a file manager does.
export async function drop (page, selector, files) {
  const transfer = await page.evaluateHandle((given) => {
    const data = new DataTransfer()
    for (const { name, base64, type } of given) {
      data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name, { type }))
    }
    return data
  }, files.map(({ name, bytes, type = 'image/png' }) => ({ name, type, base64: bytes.toString('base64') })))
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
