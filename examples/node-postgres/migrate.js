// Applies the files of migrations/, or reverts them: node migrate.js up|down
import { readdir, readFile } from 'node:fs/promises'
import pg from 'pg'

const direction = process.argv[2]
const directory = new URL('migrations/', import.meta.url)
const files = (await readdir(directory)).filter(file => file.endsWith(`.${direction}.sql`)).sort()
if (direction === 'down') files.reverse()

const client = new pg.Client({ connectionString: process.env.DATABASE_URL })
await client.connect()
await client.query('BEGIN')
await client.query('CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY)')
const { rows } = await client.query('SELECT name FROM migration')
const applied = new Set(rows.map(row => row.name))
for (const file of files) {
  const name = file.split('.')[0]
  if (applied.has(name) === (direction === 'up')) continue
  await client.query(await readFile(new URL(file, directory), 'utf8'))
  await client.query(direction === 'up' ? 'INSERT INTO migration VALUES ($1)' : 'DELETE FROM migration WHERE name = $1', [name])
  console.log(`${direction} ${name}`)
}
await client.query('COMMIT')
await client.end()
