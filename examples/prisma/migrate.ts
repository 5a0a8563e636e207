// Applies the files of prisma/migrations/, or drops everything: tsx migrate.ts up|down
// `prisma migrate deploy` applies the same files. It needs Prisma's schema engine, which is a separate download.
import { readdir, readFile } from 'node:fs/promises'
import pg from 'pg'

const directory = new URL('prisma/migrations/', import.meta.url)
const client = new pg.Client({ connectionString: process.env.DATABASE_URL })
await client.connect()
await client.query('BEGIN')
if (process.argv[2] === 'down') {
  await client.query('DROP TABLE product, migration')
} else {
  await client.query('CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY)')
  const { rows } = await client.query('SELECT name FROM migration')
  const entries = await readdir(directory, { withFileTypes: true })
  for (const name of entries.filter(entry => entry.isDirectory()).map(entry => entry.name).sort()) {
    if (rows.some(row => row.name === name)) continue
    await client.query(await readFile(new URL(`${name}/migration.sql`, directory), 'utf8'))
    await client.query('INSERT INTO migration VALUES ($1)', [name])
    console.log(`applied ${name}`)
  }
}
await client.query('COMMIT')
await client.end()
